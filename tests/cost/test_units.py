"""Amounts with units, read and said."""

import pytest

from oche.core.errors import OcheError
from oche.cost.units import format_amount, parse_amount


@pytest.mark.parametrize(
    ("text", "kind", "want"),
    [
        ("5ms", "latency", 5.0),
        (" 800 us ", "latency", 0.8),
        ("1.5s", "latency", 1500.0),
        ("3M", "parameters", 3e6),
        ("250k", "parameters", 250e3),
        ("1e6", "parameters", 1e6),
        ("100MFLOPs", "flops", 100e6),
        ("100mflops", "flops", 100e6),
        ("50 MMACs", "flops", 100e6),
        (".5GFLOPs", "flops", 0.5e9),
    ],
)
def test_units(text, kind, want):
    assert parse_amount(text, kind) == pytest.approx(want, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("3M", "latency", "target '3M', which is a number of weights: the penalty latency takes a time; write 5ms"),
        ("5ms", "flops", "target '5ms', which is a time: the penalty flops takes a number of FLOPs; write 100MFLOPs"),
        ("100MFLOPs", "parameters", "which is a number of FLOPs: the penalty parameters takes a number of weights"),
        ("5", "latency", "target '5': the penalty latency takes a time; write 5ms or 800us"),
        ("5 minutes", "latency", "target '5 minutes'"),
        ("-3M", "parameters", "target '-3M'"),
        ("0M", "parameters", "target '0M'"),
        ("nanM", "parameters", "target 'nanM'"),
        ("", "flops", "target ''"),
    ],
)
def test_what_is_no_amount_of_that_kind_is_refused(text, kind, said):
    with pytest.raises(OcheError) as error:
        parse_amount(text, kind)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("value", "kind", "said"),
    [
        (4.713, "latency", "4.71 ms"),
        (2500.0, "latency", "2.5 s"),
        (0.004, "latency", "4 us"),
        (3349342, "parameters", "3.35 M"),
        (999, "parameters", "999"),
        (1.0567e9, "flops", "1.06 GFLOPs"),
    ],
)
def test_words(value, kind, said):
    assert format_amount(value, kind) == said
