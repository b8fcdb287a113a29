"""Numbers and durations as they are read."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oche.report.format_numbers import format_count, format_duration, format_milliseconds, format_scaled, format_time
from oche.report.metrics import ACCURACY, percent


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (percent(0.98125), "98.12\u00a0%"),
        (percent(None), "–"),
        (percent(0.0), "0.00\u00a0%"),
        (format_count(1930618), "1,930,618"),
        (format_count(None), "–"),
        (format_scaled(541.6e6), "541.6 M"),
        (format_scaled(0), "0"),
        (format_scaled(2.5e12), "2.5 T"),
        (format_scaled(None), "–"),
        (format_duration(59.94), "59.9 s"),
        (format_duration(61), "1 min 1 s"),
        (format_duration(59.99), "1 min 0 s"),
        (format_duration(3725), "1 h 2 min"),
        (format_duration(90 * 3600), "90 h 0 min"),
        (format_duration(None), "–"),
        (format_milliseconds(0.512), "0.512 ms"),
        (format_milliseconds(999.7), "1 s"),
        (format_milliseconds(3918.0), "3.92 s"),
        (format_milliseconds(1.5e6), "1,500 s"),
        (format_milliseconds(None), "–"),
        (ACCURACY.mean_sd([]), "–"),
        (ACCURACY.mean_sd([0.5]), "50.00\u00a0%"),
        (ACCURACY.mean_sd([0.94, 0.95, 0.96]), "95.00 ± 1.00\u00a0%"),
        (format_time("2026-11-24T21:37:14+00:00"), "2026-11-24 21:37:14 UTC"),
        (format_time("2026-11-24T21:37:14+02:00"), "2026-11-24 21:37:14 +0200"),
        (format_time("2026-11-24 10:00:00"), "2026-11-24 10:00:00"),
        (format_time("yesterday"), "yesterday"),
        (format_time(7), "7"),
    ],
)
def test_numbers_as_they_are_read(text, wanted):
    assert text == wanted


@given(st.floats(0, 1e7))
def test_durations_say_the_time_to_their_last_unit(seconds):
    units = {"h": 3600, "min": 60, "s": 1}
    parts = re.findall(r"([\d.]+) (h|min|s)", format_duration(seconds))
    told = sum(float(n) * units[unit] for n, unit in parts)
    assert abs(told - seconds) <= {"h": 60, "min": 1, "s": 0.06}[parts[0][1]]
    assert all(float(n) < 60 for n, unit in parts if unit != "h")
