"""Numbers as records hold them and as reports write them: counts, times, means with their spread."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from datetime import datetime

UNKNOWN = "–"  # stands for a number that is not known


def finite_float(value: object) -> float | None:
    """Return ``value`` as a float, or None where it is no finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def format_count(value: float | None) -> str:
    """Write a count in full: 1930618 → "1,930,618"."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def format_scaled(value: float | None) -> str:
    """Write a large number with an SI prefix: 541600000 → "541.6 M"."""
    if value is None:
        return UNKNOWN
    size, letter = si_prefix(value)
    return f"{value / size:.4g} {letter}" if letter else f"{value:g}"


def si_prefix(value: float) -> tuple[float, str]:
    """Return the SI prefix for ``value`` as (factor, letter): 3.3e6 → (1e6, "M"), 12 → (1, "")."""
    sizes = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
    return next((pair for pair in sizes if abs(value) >= pair[0]), (1.0, ""))


def format_duration(seconds: float | None) -> str:
    """Write a duration: 3725 → "1 h 2 min"."""
    if seconds is None:
        return UNKNOWN
    if seconds < 59.95:  # larger values would be rounded to "60.0 s"
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def format_milliseconds(value: float | None) -> str:
    """Write a time given in milliseconds: 0.512 → "0.512 ms", 3918 → "3.92 s"."""
    if value is None:
        return UNKNOWN
    number, unit = (value, "ms") if value < 999.5 else (value / 1000, "s")
    return f"{number:.3g} {unit}" if number < 999.5 else f"{number:,.0f} {unit}"


def format_time(text: object) -> str:
    """Write an ISO date for readers, other text unchanged: "2026-11-24T21:37:14+00:00" → "2026-11-24 21:37:14 UTC"."""
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        return str(text)
    zone = {"": "", "UTC": " UTC"}.get(time.tzname() or "", f" {time:%z}")
    return f"{time:%Y-%m-%d %H:%M:%S}{zone}"


def format_mean_sd(values: Sequence[float], digits: int = 2) -> str:
    """Write the mean and, of two or more values, the sample standard deviation: "2,040.0 ± 31.5"."""
    sd = f" ± {statistics.stdev(values):,.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):,.{digits}f}{sd}" if values else UNKNOWN
