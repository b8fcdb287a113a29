"""Collapse, the known failure of differentiable search: skip connections win edges until the cells hold little else.

`detect_collapse` reads the records of a search, one for each epoch, as they are logged: ``epoch``; ``skip_share``, for each
cell the share of its edges; ``arch``, for each cell the weights of the mixture, (E, O) as lists; and ``eigenvalue``, the
dominant eigenvalue of the architecture's Hessian, in epochs that measure it. `CollapseMonitor` acts on them while a search
runs.

This module does not import torch, so that a report can read old runs quickly.
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
WATCH = 0.25  # the share that P-DARTS (1904.12760) allows: two skip connections on eight edges
COLLAPSE = 0.5
UNDECIDED = 0.999  # relative entropy from which a mixture is practically uniform: logits differ by less than about 0.05
_ALTERNATIVES = (
    "beta-darts and sdarts-rs ended well on every seed of our comparison (docs/methods.md), the selections LimitSkips and "
    "Perturbation do not follow the mixture alone"
)


@dataclass(frozen=True)
class CollapseReading:
    """The diagnosis of a search from its records."""

    level: Level
    """ok, watch (leans towards the collapse) or collapse"""
    epoch: int
    """the epoch of the last record"""
    reason: str
    """one line for people"""
    advice: str = ""
    """what to try, one line; empty if the level is ok"""
    last_good_epoch: int | None = None
    """last epoch without a sign of collapse; None: there is none, or the level is ok"""
    eigenvalue_epoch: int | None = None
    """epoch that RobustDARTS' rule would go back to; None: its rule lets the search go on"""


def detect_collapse(
    records: Sequence[Record], edges: int | None = None, stop: EigenvalueStop | None = None
) -> CollapseReading | None:
    """Return the diagnosis after the last record, or None if no record has a share of skip connections.

    The share is that of the normal cell, else of the worst cell. Skip connections on half of the edges are a collapse, on
    more than a quarter a reason to watch. The level is one lower while the mixture is practically uniform, since chance
    then chooses the cell. It is one higher if RobustDARTS' rule ``stop`` (by default as published) would end the search by
    its eigenvalues. ``edges``: edges of a cell, to write numbers instead of shares.
    """
    known = [r for r in records if r.get("skip_share")]
    if not known:
        return None
    last = known[-1]
    name, share = _worst(last)
    chance, rollback_epoch = share > WATCH and undecided(last, name), _rollback_epoch(known, stop)
    level = LEVELS[min(2, _level(share) - chance + (rollback_epoch is not None))]
    of = f"{round(share * edges)} of {edges} edges" if edges else f"{100 * share:.0f} % of the edges"
    reason = (
        f"At epoch {last['epoch']} the {cell_title(name)} would keep {of} as skip connections{_verdict(share, chance)}"
    )
    if rollback_epoch is not None:
        grown = f"Since epoch {rollback_epoch} the dominant eigenvalue has grown as before a collapse"
        reason += f" {grown}: RobustDARTS would go back there."
    if level == "ok":
        return CollapseReading(level, last["epoch"], reason)
    back = _last_good(known, rollback_epoch)
    return CollapseReading(
        level, last["epoch"], reason, _advice(chance and rollback_epoch is None, back), back, rollback_epoch
    )


def _worst(record: Record) -> tuple[str, float]:
    """Return the name of the cell that counts, and its share of skip connections."""
    shares = record["skip_share"]
    name = "normal" if "normal" in shares else max(shares, key=lambda key: shares[key])
    return name, shares[name]


def _level(share: float) -> int:
    """Return the index in `LEVELS` for a share of skip connections."""
    return (share > WATCH) + (share >= COLLAPSE)


def _verdict(share: float, chance: bool) -> str:
    """Return the end of the sentence that states ``share``. ``chance``: whether chance may have chosen the cell."""
    if chance:
        return ", but the mixture is still practically uniform: that may be chance."
    return (
        ": no sign of the collapse.",
        ", more than the two of eight that P-DARTS allows: this run leans towards the collapse.",
        ": this run shows the collapse.",
    )[_level(share)]


def _advice(chance: bool, back: int | None) -> str:
    """Return what to try. ``back``: the epoch to go back to, if there is one."""
    if chance:
        return "Search longer before you judge: the logits have hardly moved."
    other = f"another method: {_ALTERNATIVES}."
    return f"Go back to epoch {back}, or try {other}" if back else f"Try {other}"


def _last_good(records: Sequence[Record], rollback_epoch: int | None) -> int | None:
    """Return the last epoch with few skip connections, not after the epoch ``rollback_epoch``; None if there is none."""
    good = [r["epoch"] for r in records if r["epoch"] > 0 and _worst(r)[1] <= WATCH]
    return max((e for e in good if rollback_epoch is None or e <= rollback_epoch), default=None)


def relative_entropy(weights: Sequence[Sequence[float]]) -> float | None:
    """Return the mean entropy of the rows of ``weights`` (E, O), each divided by the entropy of uniform weights.

    It is 0 if one candidate has all the weight, and 1 if all are equal. Edges without a choice do not count; None if there
    are no others. Rows need not sum to 1.
    """
    rows = [living for row in weights if len(living := [w for w in row if w > 0]) > 1]
    return fmean(map(_evenness, rows)) if rows else None


def _evenness(row: Sequence[float]) -> float:
    """Return the entropy of one row, relative to uniform weights."""
    shares = [w / sum(row) for w in row]
    return -sum(p * math.log(p) for p in shares if p > 0) / math.log(len(row))


def undecided(record: Record, name: str) -> bool:
    """Whether the mixture of the cell ``name`` is practically uniform. False if the record does not hold it."""
    try:
        even = relative_entropy(record["arch"][name]["weights"])
    except (KeyError, TypeError):  # not logged, or a damaged record
        return False
    return even is not None and even >= UNDECIDED


def _rollback_epoch(records: Sequence[Record], stop: EigenvalueStop | None) -> int | None:
    """Return the epoch that RobustDARTS' rule would go back to, or None. The rule counts measurements, not epochs."""
    known = [r for r in records if r.get("eigenvalue") is not None]
    if not known:
        return None

    index = (stop or EigenvalueStop())([r["eigenvalue"] for r in known])
    return None if index is None else known[index]["epoch"]


_KEPT = ("skip_share", "arch", "logits", "eigenvalue")  # keys that `detect_collapse` and a rollback need


class CollapseMonitor:
    """Watches the records of a search, and decides what to do about a collapse.

    ``action``: warn, stop (end the search), or rollback (end it with the logits of an earlier epoch). ``ended`` is True
    once the search should end.
    """

    def __init__(self, action: Action, stop: EigenvalueStop) -> None:
        self.action, self.stop = action, stop
        self.past: list[dict[str, Any]] = []
        self.ended = False

    def reset(self) -> None:
        """Forget the records: a new stage begins, and their logits belonged to another supernet."""
        self.past = []

    def update(self, epoch: int, record: Record) -> tuple[str, Record | None]:
        """Add the record of ``epoch``. Return a message ("" for none), and the earlier record whose logits to restore, or
        None.

        If ``action`` may end the search, RobustDARTS' rule alone ends it and gives the epoch to go back to, even if there
        are few skip connections.
        """
        self.past.append({"epoch": epoch} | {k: record[k] for k in _KEPT if k in record})
        reading = detect_collapse(self.past, stop=self.stop)
        if reading is None or self.ended or any("collapse" in r for r in self.past):
            return "", None
        rollback_epoch = None if self.action == "warn" else reading.eigenvalue_epoch
        if reading.level != "collapse" and rollback_epoch is None:
            return "", None
        text = self.past[-1]["collapse"] = f"{reading.reason} {reading.advice}"
        if self.action == "warn":
            return text, None
        self.ended = True
        back = reading.last_good_epoch if rollback_epoch is None else rollback_epoch
        if self.action == "rollback" and back is not None:
            before = next(r for r in self.past if r["epoch"] == back)
            return f"{text} The search ends with the logits of epoch {back}.", before
        return f"{text} The search ends here.", None

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"past": self.past, "ended": self.ended}

    def load(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self.past, self.ended = list(state["past"]), state["ended"]
