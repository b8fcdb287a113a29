"""RobustDARTS' rule that ends a search when the curvature of its loss grows (1909.09656 §4.3). Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from oche.core.errors import OcheError
from oche.core.registry import component


@component
@dataclass(frozen=True)
class EigenvalueStop:
    """RobustDARTS' early stopping (1909.09656 §4.3): end the search when the curvature grows too fast, and go back.

    Let m(t) be the mean of the eigenvalues within ``window`` // 2 epochs of t. The search stops as soon as m(t − k) <
    ratio · m(t) for the last t with a complete window, and takes the architecture of epoch t − k. Eigenvalues come once
    an epoch.

    Deviation 1 from the released code: there, an eigenvalue every 2 epochs, k = 4 of these, ratio = 1 / 1.3.
    """

    ratio: float = 0.75
    """the search stops if the smoothed eigenvalue k epochs ago, divided by the current one, is below this"""
    k: int = 5
    """epochs between the two eigenvalues"""
    window: int = 5
    """number of epochs in an average, odd"""
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
        """Return m(t). At the beginning it averages the epochs of the window that exist."""
        half = self.window // 2
        return fmean(eigenvalues[max(0, t - half) : t + half + 1])

    def __call__(self, eigenvalues: Sequence[float]) -> int | None:
        """Return the epoch to go back to, from the first time that the rule applies, or None if it never applies.

        ``eigenvalues`` has one entry an epoch. Where m(t) is not positive the search goes on: a maximum has no sharp
        curvature.
        """
        for t in range(self.start + self.k, len(eigenvalues) - self.window // 2):
            now = self.smoothed(eigenvalues, t)
            if now > 0 and self.smoothed(eigenvalues, t - self.k) < self.ratio * now:
                return t - self.k
        return None
