"""Collapse, the known failure of differentiable search: skip connections win edges until nothing else is left.

`detect_collapse` reads its signs from the records of a search, one an epoch, as they are logged: ``epoch``, ``skip_share``
{cell: share of its edges}, ``arch`` {cell: {"weights": (E, O) as lists}} and ``eigenvalue`` (the dominant one of the
architecture's Hessian) where it was computed. `CollapseMonitor` acts on them while a search runs.

Without torch, so that a report can read old runs quickly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from oche.core.architecture import cell_title
from oche.core.eigenvalue_stop import EigenvalueStop

Level = Literal["ok", "watch", "collapse"]
Action = Literal["warn", "stop", "rollback"]
Record = Mapping[str, Any]

LEVELS: tuple[Level, ...] = ("ok", "watch", "collapse")
WATCH = 0.25  # above the two skip connections of eight edges that P-DARTS (1904.12760) allows
COLLAPSE = 0.5
UNDECIDED = 0.999  # entropy over that of a uniform mixture, about where logits differ by less than 0.05
_HOLD = (
    "beta-darts and sdarts-rs ended well on every seed of our comparison (docs/methods.md), the selections LimitSkips and "
    "Perturbation do not follow the mixture alone"
)


@dataclass(frozen=True)
class CollapseReading:
    """The state of a search, as its records show it."""

    level: Level
    epoch: int
    """the last epoch that was read"""
    reason: str
    """one line for people"""
    advice: str = ""
    """what to try, one line; empty if all is well"""
    last_good_epoch: int | None = None
    """last epoch without a sign of collapse; None: there is none, or no need to go back"""
    eigenvalue_epoch: int | None = None
    """epoch that RobustDARTS' rule goes back to; None: the rule lets the search go on"""


def detect_collapse(
    records: Sequence[Record], edges: int | None = None, stop: EigenvalueStop | None = None
) -> CollapseReading | None:
    """Return the state of a search after its last record, or None if no record has a share of skip connections.

    The share is that of the normal cell, else of the worst cell. Skip connections on half of the edges are a collapse, on
    more than a quarter of them a reason to watch. The level is one lower while the mixture is as good as uniform, since
    chance then chooses the cell. It is one higher if RobustDARTS' rule (``stop``, by default as published) would end the
    search by its eigenvalues. ``edges``: edges of a cell, to write numbers instead of shares.
    """
    known = [r for r in records if r.get("skip_share")]
    if not known:
        return None
    last = known[-1]
    name, share = _worst(last)
    chance, sharp = share > WATCH and undecided(last, name), _sharpened(known, stop)
    level = LEVELS[min(2, _level(share) - chance + (sharp is not None))]
    of = f"{round(share * edges)} of {edges} edges" if edges else f"{100 * share:.0f} % of the edges"
    reason = (
        f"At epoch {last['epoch']} the {cell_title(name)} would keep {of} as skip connections{_verdict(share, chance)}"
    )
    if sharp is not None:
        reason += f" Since epoch {sharp} the dominant eigenvalue has grown as before a collapse: RobustDARTS would go back there."
    if level == "ok":
        return CollapseReading(level, last["epoch"], reason)
    back = _last_good(known, sharp)
    return CollapseReading(level, last["epoch"], reason, _advice(chance and sharp is None, back), back, sharp)


def _worst(record: Record) -> tuple[str, float]:
    shares = record["skip_share"]
    name = "normal" if "normal" in shares else max(shares, key=lambda key: shares[key])
    return name, shares[name]


def _level(share: float) -> int:
    return (share > WATCH) + (share >= COLLAPSE)


def _verdict(share: float, chance: bool) -> str:
    if chance:
        return ", but the mixture is still as good as uniform: that may be chance."
    return (
        ": no sign of the collapse.",
        ", more than the two of eight that P-DARTS allows: this run leans towards the collapse.",
        ": this run shows the collapse.",
    )[_level(share)]


def _advice(chance: bool, back: int | None) -> str:
    if chance:
        return "Search longer before you judge: the logits have hardly moved."
    return f"Go back to epoch {back}, or try another method: {_HOLD}." if back else f"Try another method: {_HOLD}."


def _last_good(records: Sequence[Record], sharp: int | None) -> int | None:
    good = [r["epoch"] for r in records if r["epoch"] > 0 and _worst(r)[1] <= WATCH]
    return max((e for e in good if sharp is None or e <= sharp), default=None)


def relative_entropy(weights: Sequence[Sequence[float]]) -> float | None:
    """Return the mean entropy of the rows of ``weights`` (E, O), each divided by that of uniform weights: 0 if one candidate has
    all, 1 if none is ahead. Edges without a choice do not count; None if there are no others. Rows need not sum to 1.
    """
    rows = [living for row in weights if len(living := [w for w in row if w > 0]) > 1]
    return fmean(map(_evenness, rows)) if rows else None


def _evenness(row: Sequence[float]) -> float:
    shares = [w / sum(row) for w in row]
    return -sum(p * math.log(p) for p in shares if p > 0) / math.log(len(row))


def undecided(record: Record, name: str) -> bool:
    """Whether the mixture of a cell is as good as uniform; False if the record does not say."""
    try:
        even = relative_entropy(record["arch"][name]["weights"])
    except (KeyError, TypeError):  # not logged, or a damaged record
        return False
    return even is not None and even >= UNDECIDED


def _sharpened(records: Sequence[Record], stop: EigenvalueStop | None) -> int | None:
    """The epoch that RobustDARTS would go back to. Its rule counts evaluations, which need not come every epoch."""
    known = [r for r in records if r.get("eigenvalue") is not None]
    if not known:
        return None

    index = (stop or EigenvalueStop())([r["eigenvalue"] for r in known])
    return None if index is None else known[index]["epoch"]


_KEPT = ("skip_share", "arch", "logits", "eigenvalue")  # of a record: what `detect_collapse` and a rollback need


class CollapseMonitor:
    """Watches the records of a search. ``ended``: the search is to end. ``action``: what to do at a collapse."""

    def __init__(self, action: Action, stop: EigenvalueStop) -> None:
        self.action, self.stop = action, stop
        self.past: list[dict[str, Any]] = []
        self.ended = False

    def reset(self) -> None:
        """Forget the past: a new stage begins, and the logits belonged to another network."""
        self.past = []

    def update(self, epoch: int, record: Record) -> tuple[str, Record | None]:
        """Return (what to say, "" for nothing; the earlier record whose logits to restore, if any).

        If the search may be ended, RobustDARTS' rule alone ends it and says where to go back, however few skips there are.
        """
        self.past.append({"epoch": epoch} | {k: record[k] for k in _KEPT if k in record})
        reading = detect_collapse(self.past, stop=self.stop)
        if reading is None or self.ended or any("collapse" in r for r in self.past):
            return "", None
        sharp = None if self.action == "warn" else reading.eigenvalue_epoch
        if reading.level != "collapse" and sharp is None:
            return "", None
        text = self.past[-1]["collapse"] = f"{reading.reason} {reading.advice}"
        if self.action == "warn":
            return text, None
        self.ended = True
        back = reading.last_good_epoch if sharp is None else sharp
        if self.action == "rollback" and back is not None:
            before = next(r for r in self.past if r["epoch"] == back)
            return f"{text} The search ends with the logits of epoch {back}.", before
        return f"{text} The search ends here.", None

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint."""
        return {"past": self.past, "ended": self.ended}

    def load(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self.past, self.ended = list(state["past"]), state["ended"]
