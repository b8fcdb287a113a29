"""Sentences about what a search found, written from its records: gain over random cells, collapse, entropy, cost."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from oche.bilevel.collapse import detect_collapse
from oche.report.metrics import ACCURACY, CostTarget, Metric, percent

Level = Literal["ok", "watch", "bad", "unknown"]
_PERCENT = ACCURACY.unit
_SHORT = 20  # epochs below which a search without collapse says little


def search_gain(found: float | None, random: Sequence[float], metric: Metric = ACCURACY) -> str:
    """Compare the test result ``found`` of the searched cell with those of ``random`` cells that were trained the same way.

    From two random cells on, the difference is measured against the 95 % prediction interval for one more of them.
    """
    if found is None:
        return f"The found network has no test {metric.name} yet, so the gain over random cells is not known."
    result = f"{'' if metric.unit else f'a {metric.name} of '}{metric.text(found)}"
    reaches = f"The found network reaches {result} on the test {metric.on}"
    if not random:
        return f"{reaches}. No random cell was trained the same way, so the gain over random cells is not known."
    points = metric.scale * (found - statistics.fmean(random))
    several = len(random) > 1
    text = (
        f"{reaches}; {len(random)} random cell{'s' if several else ''} of the same space, trained the same way, "
        f"reach{'' if several else 'es'} {metric.mean_sd(random)}. "
    )
    if not several:
        return text + f"The difference is {points:+.2f} points; with one random cell this may be chance."
    half = metric.scale * _prediction_half_width(random)
    text += f"It is better than {sum(metric.better(found, other) for other in random)} of the {len(random)}. "
    interval = f"the 95{_PERCENT} prediction interval for one more random cell (±{half:.2f} points around their mean)"
    if abs(points) <= half:
        return f"{text}The difference of {points:+.2f} points lies within {interval}, so it may be chance."
    verb = "gained" if metric.better(points, 0) else "lost"
    return f"{text}The search {verb} {abs(points):.2f} points, which lies outside {interval}."


def _prediction_half_width(values: Sequence[float]) -> float:
    """Return half the width of the 95 % prediction interval for one more value of a normal sample (two or more values).

    t(0.975, n - 1) · s · √(1 + 1/n), with the sample standard deviation s.
    """
    from scipy.special import stdtrit  # Student's quantile; importing scipy.stats would take seconds

    quantile = float(stdtrit(len(values) - 1, 0.975))
    return quantile * statistics.stdev(values) * math.sqrt(1 + 1 / len(values))


def collapse_finding(records: Sequence[Mapping[str, Any]], edges: int | None) -> tuple[Level, str]:
    """Return (level, text) of `oche.bilevel.collapse.detect_collapse` for the records; ``edges``: number of edges of a cell."""
    reading = detect_collapse(records, edges)
    if reading is None:
        return "unknown", "No share of skip connections has been recorded."
    short = f"A search of fewer than {_SHORT} epochs says little about it, though: collapse usually comes late."
    after = short if reading.level == "ok" and reading.epoch < _SHORT else reading.advice
    levels: dict[str, Level] = {"ok": "ok", "watch": "watch", "collapse": "bad"}
    return levels[reading.level], f"{reading.reason} {after}".strip().replace(" %", _PERCENT)


def ground_truth_finding(records: Sequence[Mapping[str, Any]], accuracy: float | None, regret: float | None) -> str:
    """Compare the cell with the best one of the table of NAS-Bench-201, and with the best one that the search passed.

    Empty where the run had no table.
    """
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
    return (
        f"{text} At epoch {epoch} the search would have chosen a cell with {percent(best)}; since then it has lost "
        f"{100 * (best - accuracy):.2f} points."
    )


def entropy_finding(records: Sequence[Mapping[str, Any]], candidates: Mapping[str, int]) -> str:
    """Write the last entropy of each cell type's mixture beside that of the uniform mixture, log(number of candidates)."""
    known = [(r["epoch"], r["entropy"]) for r in records if r.get("entropy")]
    if not known:
        return "No entropy has been recorded."
    epoch, entropies = known[-1]
    parts = []
    for name, value in entropies.items():
        uniform = math.log(candidates[name]) if candidates.get(name, 0) > 1 else None
        share = f" of at most {uniform:.3f} ({100 * value / uniform:.0f}{_PERCENT})" if uniform else ""
        parts.append(f"{name} {value:.3f}{share}")
    return f"At epoch {epoch}: {', '.join(parts)} nats."


def has_costs(records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether any record holds a cost."""
    return any(r.get(key) is not None for r in records for key in ("cost", "cost_found"))


def cost_finding(records: Sequence[Mapping[str, Any]], cost: CostTarget) -> str:
    """Write the last recorded cost of the mixture and of the chosen cell's network; empty where none was recorded."""
    last = next((r for r in reversed(records) if r.get("cost") is not None), {})
    mixture, found = last.get("cost"), last.get("cost_found")
    if mixture is None:
        return ""
    target = "no target" if cost.target is None else f"target: at most {cost.text(cost.target)}"
    text = (
        f"The search also optimises the {cost.name} of the final network ({target}). At epoch {last['epoch']} the expected "
        f"cost of the mixture is {cost.text(mixture)}"
    )
    if found is None:
        return f"{text}."
    text += f"; the network of the cell chosen at that epoch costs {cost.text(found)}"
    if cost.target is None:
        return f"{text}."
    return f"{text}, {'within' if found <= cost.target else 'above'} the target."
