"""What a benchmark is asked for, and what is refused before anything is measured."""

from __future__ import annotations

import pytest

from bench_settings import setting
from oche.bench.table import forms_for
from oche.cli import main as cli


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--works frist", "unknown work 'frist'; did you mean 'first'?"),
        ("--forms plain fused", "unknown form 'fused'; did you mean 'shared'?; known: plain-nchw, plain, shared"),
        ("--forms plain plain", "--forms plain plain names one twice"),
        ("--rounds 0", "rounds=0 cannot be measured; use at least 1"),
        ("--batch 1", "batch=1 cannot be measured; use at least 2"),
        ("--threads -1", "threads=-1 cannot be measured; use at least 0"),
        ("--reference .", "--reference . holds no cnn/model_search.py; give a checkout"),
        ("--out .", "--out . is a folder; give the name of a file"),
        ("--device tpu", "device 'tpu' is not usable here"),
    ],
)
def test_mistakes_are_found_before_anything_is_measured(line, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("oche.bench.table.measure_forms", lambda *args, **fields: pytest.fail("it measures"))
    assert cli.main(["bench", *line.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith("oche: ") and error.count("\n") == 1 and said in error


def test_by_default_all_forms_for_the_device_take_part():
    assert forms_for(setting(), "first", "cpu") == ("plain-nchw", "plain", "shared", "native")
    assert forms_for(setting(), "first", "cuda") == (
        "plain-nchw", "plain", "shared", "triton", "graph", "graph-shared", "graph-triton",
    )  # fmt: skip
    assert forms_for(setting(forms=("native",)), "first", "cuda") == ("native",)
