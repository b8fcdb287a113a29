"""RobustDARTS' rule that ends a search by the curvature of its loss (1909.09656 §4.3), without torch, for reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from oche.core.errors import OcheError
from oche.core.registry import component


@component
@dataclass(frozen=True)
class EigenvalueStop:
    """RobustDARTS' early stopping (1909.09656 §4.3): the search ends when curvature has grown too fast, and goes back.

    With m(t) the mean of the eigenvalues within ``window`` // 2 epochs of t, it stops as m(t − k) < ratio · m(t) for
    the last t whose window is complete, and the architecture is that of epoch t − k. Called with one eigenvalue an epoch.

    Deviation 1 from the released code: there, an eigenvalue every 2 epochs, k = 4 of these, ratio = 1 / 1.3.
    """

    ratio: float = 0.75
    """smoothed eigenvalue k epochs ago over that of now, below which the search stops"""
    k: int = 5
    """epochs between the two"""
    window: int = 5
    """epochs that are averaged, an odd number"""
    start: int = 10
    """first epoch to go back to, as in the released code: before it, eigenvalues are of untrained weights"""

    def __post_init__(self) -> None:
        if not 0 < self.ratio < 1:
            raise OcheError(f"EigenvalueStop: ratio={self.ratio} is no fall; use 0 < ratio < 1, published: 0.75")
        if self.k < 1 or self.window < 1 or not self.window % 2 or self.start < 0:
            raise OcheError(
                f"EigenvalueStop: k={self.k}, window={self.window}, start={self.start} compare no epochs; "
                "use k >= 1, an odd window >= 1 and start >= 0, published: 5 and 5"
            )

    def smoothed(self, eigenvalues: Sequence[float], t: int) -> float:
        """m(t); at the beginning, of what there is of the window."""
        half = self.window // 2
        return fmean(eigenvalues[max(0, t - half) : t + half + 1])

    def __call__(self, eigenvalues: Sequence[float]) -> int | None:
        """The index in ``eigenvalues`` to go back to, from the first time that the rule says stop; None if it never does.

        A maximum has no sharp curvature: where m(t) is not positive the search goes on.
        """
        for t in range(self.start + self.k, len(eigenvalues) - self.window // 2):
            now = self.smoothed(eigenvalues, t)
            if now > 0 and self.smoothed(eigenvalues, t - self.k) < self.ratio * now:
                return t - self.k
        return None
