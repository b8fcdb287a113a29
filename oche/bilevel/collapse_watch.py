"""What a search does about signs of collapse: says so, ends, or ends with the logits of before."""

from __future__ import annotations

from typing import Any, Literal

from oche.bilevel import collapse_signs as monitor
from oche.core.eigenvalue_stop import EigenvalueStop
from oche.training.loop import Record

Action = Literal["warn", "stop", "rollback"]
_SEEN = (
    "skip_share",
    "arch",
    "logits",
    "eigenvalue",
)  # of a record: what `oche.bilevel.collapse_signs` and a rollback need


class Watch:
    """The records of a search as its monitor sees them. ``ended``: the search is to go no further."""

    def __init__(self, action: Action, stop: EigenvalueStop) -> None:
        self.action, self.stop = action, stop
        self.past: list[Record] = []
        self.ended = False

    def forget(self) -> None:
        """A new stage begins: the logits of the past belonged to another network."""
        self.past = []

    def see(self, epoch: int, record: Record) -> tuple[str, Record | None]:
        """(what to say, "" for nothing; the earlier record whose logits to take again, if any).

        A search that may end is ended by RobustDARTS' rule alone, and goes back to where that says, however few its skips.
        """
        self.past.append({"epoch": epoch} | {k: record[k] for k in _SEEN if k in record})
        reading = monitor.read(self.past, stop=self.stop)
        if reading is None or self.ended or any("collapse" in r for r in self.past):
            return "", None
        sharp = None if self.action == "warn" else reading.sharp
        if reading.level != "collapse" and sharp is None:
            return "", None
        text = self.past[-1]["collapse"] = f"{reading.reason} {reading.advice}"
        if self.action == "warn":
            return text, None
        self.ended = True
        back = reading.back if sharp is None else sharp
        if self.action == "rollback" and back is not None:
            before = next(r for r in self.past if r["epoch"] == back)
            return f"{text} The search ends with the logits of epoch {back}.", before
        return f"{text} The search ends here.", None

    def state(self) -> dict[str, Any]:
        return {"past": self.past, "ended": self.ended}

    def load(self, state: dict[str, Any]) -> None:
        self.past, self.ended = list(state["past"]), state["ended"]
