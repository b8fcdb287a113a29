"""Numbers and findings in plain words, the same whichever way they come out."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from oche.bilevel.collapse_signs import read
from oche.report.metric_names import ACCURACY, UNKNOWN, Measure

Level = Literal["ok", "watch", "bad", "unknown"]
_PERCENT = ACCURACY.unit
percent = ACCURACY.text


def count(value: float | None) -> str:
    """1930618 → "1,930,618"."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def scaled(value: float | None) -> str:
    """541600000 → "541.6 M"."""
    if value is None:
        return UNKNOWN
    size, letter = prefix(value)
    return f"{value / size:.4g} {letter}" if letter else f"{value:g}"


def prefix(value: float) -> tuple[float, str]:
    """The unit that ``value`` is read in: 3.3e6 → (1e6, "M"), 12 → (1, "")."""
    sizes = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
    return next((pair for pair in sizes if abs(value) >= pair[0]), (1.0, ""))


def duration(seconds: float | None) -> str:
    """3725 → "1 h 2 min"."""
    if seconds is None:
        return UNKNOWN
    if seconds < 59.95:  # what rounds to 60.0 is a minute
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def milliseconds(value: float | None) -> str:
    """0.512 → "0.512 ms", 3918 → "3.92 s"."""
    if value is None:
        return UNKNOWN
    number, unit = (value, "ms") if value < 999.5 else (value / 1000, "s")
    return f"{number:.3g} {unit}" if number < 999.5 else f"{number:,.0f} {unit}"


def moment(text: object) -> str:
    """ "2026-11-24T21:37:14+00:00" → "2026-11-24 21:37:14 UTC"; other text as it is."""
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        return str(text)
    zone = {"": "", "UTC": " UTC"}.get(time.tzname() or "", f" {time:%z}")
    return f"{time:%Y-%m-%d %H:%M:%S}{zone}"


def bought(found: float | None, random: Sequence[float], measure: Measure = ACCURACY) -> str:
    """What the search bought: what the found cell reaches in the test beside random cells trained the same way."""
    if found is None:
        return f"The found network has no test {measure.name} yet, so what the search bought is not known."
    what = f"{'' if measure.unit else f'a {measure.name} of '}{measure.text(found)}"
    if not random:
        return (
            f"The found network reaches {what} on the test {measure.on}. No random cell was trained the same way, "
            "so what the search bought is not known."
        )
    points = measure.scale * (found - statistics.fmean(random))
    head = (
        f"The found network reaches {what} on the test {measure.on}; {len(random)} random "
        f"cell{'s' if len(random) > 1 else ''} of the same space, trained the same way, "
        f"reach{'' if len(random) > 1 else 'es'} {measure.mean_sd(random)}. "
    )
    if len(random) == 1:
        return head + f"The difference is {points:+.2f} points; one random cell cannot tell that from chance."
    reach = measure.scale * _reach(random)
    head += f"It is better than {sum(measure.better(found, other) for other in random)} of the {len(random)}. "
    if abs(points) <= reach:
        return head + (
            f"One more random cell might well differ from their mean by {reach:.2f} points (95{_PERCENT} prediction interval), "
            f"so the difference of {points:+.2f} points cannot be told from chance."
        )
    verdict = "The search bought" if measure.better(points, 0) else "The search cost"
    return (
        head
        + f"{verdict} {abs(points):.2f} points, more than one more random cell would (95{_PERCENT}: ±{reach:.2f} points)."
    )


def _reach(values: Sequence[float]) -> float:
    """Half the width of the 95 % prediction interval for one more value of a normal sample (two or more values)."""
    from scipy.special import stdtrit  # Student's quantile, without the seconds that importing scipy.stats takes

    quantile = float(stdtrit(len(values) - 1, 0.975))
    return quantile * statistics.stdev(values) * math.sqrt(1 + 1 / len(values))


def collapse(records: Sequence[Mapping[str, Any]], edges: int | None) -> tuple[Level, str]:
    """(level; what `oche.bilevel.collapse_signs.read` makes of the records, and what to try)."""
    reading = read(records, edges)
    if reading is None:
        return "unknown", "No share of skip connections has been recorded."
    short = "A search this short says little about it, though: it usually comes late."
    after = short if reading.level == "ok" and reading.epoch < 20 else reading.advice
    levels: dict[str, Level] = {"ok": "ok", "watch": "watch", "collapse": "bad"}
    return levels[reading.level], f"{reading.reason} {after}".strip().replace(" %", _PERCENT)


def truth(records: Sequence[Mapping[str, Any]], accuracy: float | None, regret: float | None) -> str:
    """What a table of NAS-Bench-201 says of the cell, and of the best one that the search passed by; empty without one."""
    if accuracy is None or regret is None:
        return ""
    text = (
        f"By the table of NAS-Bench-201 the cell has a test accuracy of {percent(accuracy)}, {100 * regret:.2f} points below "
        "the best cell of the space."
    )
    known = [(r["true_acc"], r["epoch"]) for r in records if r.get("true_acc") is not None]
    best, epoch = max(known, key=lambda pair: (pair[0], -pair[1]), default=(accuracy, 0))
    if best - accuracy < 0.005:
        return text
    lost = f"{100 * (best - accuracy):.2f} points were lost since"
    return f"{text} At epoch {epoch} the search would have chosen one of {percent(best)}: {lost}."


def decided(records: Sequence[Mapping[str, Any]], candidates: Mapping[str, int]) -> str:
    """How far the mixture has moved from uniform, by its entropy."""
    known = [(r["epoch"], r["entropy"]) for r in records if r.get("entropy")]
    if not known:
        return "No entropy has been recorded."
    parts = []
    for name, value in known[-1][1].items():
        top = math.log(candidates[name]) if candidates.get(name, 0) > 1 else None
        parts.append(
            f"{name} {value:.3f}" + (f" of at most {top:.3f} ({100 * value / top:.0f}{_PERCENT})" if top else "")
        )
    return f"At epoch {known[-1][0]}: " + ", ".join(parts) + " nats."
