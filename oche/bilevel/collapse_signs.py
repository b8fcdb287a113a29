"""Signs of collapse, the known failure of differentiable search: skip connections win edges until nothing else is left.

Read from the records of a search, one an epoch, as they are logged: ``epoch``, ``skip_share`` {cell: share of its edges},
``arch`` {cell: {"weights": (E, O) as lists}} and ``eigenvalue`` (dominant, of the architecture Hessian) where it was computed.
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
class Reading:
    """What the records say at ``epoch`` in one line, and in another what to try (empty where all is well)."""

    level: Level
    epoch: int
    reason: str
    advice: str = ""
    back: int | None = (
        None  # the last epoch, from the first on, without a sign of collapse; None: no such epoch, or no need
    )
    sharp: int | None = None  # the epoch that RobustDARTS' rule goes back to; None: it lets the search go on


def read(records: Sequence[Record], edges: int | None = None, stop: EigenvalueStop | None = None) -> Reading | None:
    """The state of a search after its last record, by the share of skip connections in the normal cell (or the worst one).

    On half of the edges they are a collapse, on more than a quarter a reason to watch. It is one level less while the mixture
    is as good as uniform, for then the cell is chosen by chance; and one level more where RobustDARTS' rule (``stop``, by
    default as published) would end the search by its eigenvalues.

    edges: of a cell, for numbers instead of shares in the text. None if no share has been recorded.
    """
    known = [r for r in records if r.get("skip_share")]
    if not known:
        return None
    last = known[-1]
    name, share = _worst(last)
    chance, sharp = share > WATCH and undecided(last, name), _sharpened(known, stop)
    level = LEVELS[min(2, _level(share) - chance + (sharp is not None))]
    of = f"{round(share * edges)} of {edges} edges" if edges else f"{100 * share:.0f} % of the edges"
    reason = f"At epoch {last['epoch']} the {cell_title(name)} would keep {of} as skip connections{_verdict(share, chance)}"
    if sharp is not None:
        reason += f" Since epoch {sharp} the dominant eigenvalue has grown as before a collapse: RobustDARTS would go back there."
    if level == "ok":
        return Reading(level, last["epoch"], reason)
    back = _last_good(known, sharp)
    return Reading(level, last["epoch"], reason, _advice(chance and sharp is None, back), back, sharp)


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
    """Mean over the edges with a choice left of the entropy of their weights (E, O) over that of uniform ones: 0 where a
    candidate has all, 1 where none is ahead. Rows need not sum to 1; a weight of 0 is no choice. None if none is left."""
    rows = [living for row in weights if len(living := [w for w in row if w > 0]) > 1]
    return fmean(map(_evenness, rows)) if rows else None


def _evenness(row: Sequence[float]) -> float:
    shares = [w / sum(row) for w in row]
    return -sum(p * math.log(p) for p in shares if p > 0) / math.log(len(row))


def undecided(record: Record, name: str) -> bool:
    """Whether the mixture of a cell is as good as uniform; False where the record does not tell."""
    try:
        even = relative_entropy(record["arch"][name]["weights"])
    except (KeyError, TypeError):  # not logged, or a damaged record
        return False
    return even is not None and even >= UNDECIDED


def _sharpened(records: Sequence[Record], stop: EigenvalueStop | None) -> int | None:
    """The epoch that RobustDARTS would go back to; its rule counts evaluations, which need not come every epoch."""
    known = [r for r in records if r.get("eigenvalue") is not None]
    if not known:
        return None

    index = (stop or EigenvalueStop())([r["eigenvalue"] for r in known])
    return None if index is None else known[index]["epoch"]
