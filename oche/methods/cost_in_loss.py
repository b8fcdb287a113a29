"""The cost of a network inside the loss, as papers put it there. `oche.methods.cost_constraints` has the default beside it.

A form maps the loss on the data and the expected cost E to the loss whose gradient moves the architecture.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from torch import Tensor

from oche.core.errors import OcheError
from oche.core.registry import component


@dataclass(frozen=True)
class CostForm:
    """A loss as a function of the loss on the data and the expected cost."""

    def check(self, least: float, target: float | None) -> None:
        """Raise `OcheError` if the form is not defined for costs from ``least`` on, or does not take the ``target``."""

    def __call__(self, loss: Tensor, cost: Tensor, target: float | None, strength: float) -> Tensor:
        """Return the loss () of ``loss`` () and the expected ``cost`` () in milliseconds, weights or FLOPs."""
        raise NotImplementedError


@component
@dataclass(frozen=True)
class LogPower(CostForm):
    """FBNet (1812.03443 §3.2): loss · alpha · log(E / unit)^(beta · strength).

    With a target it is the form of ProxylessNAS' released code: loss · alpha · (log(E / unit) / log(target / unit))^(…).
    alpha scales all gradients alike, which Adam does not see, but its weight decay does.

    Deviation 1 from FBNet: the unit of time is a microsecond, so that the logarithm is above 0 for small networks too. In
    milliseconds the logarithm is smaller and the cost weighs more.
    """

    alpha: float = 0.2
    """factor of the loss"""
    beta: float = 0.6
    """power of the logarithm"""
    unit: float = 1e-3
    """milliseconds (or weights, or FLOPs) that count as 1"""

    def __post_init__(self) -> None:
        if not (0 < self.alpha < inf and 0 <= self.beta < inf and 0 < self.unit < inf):
            raise OcheError(
                f"alpha={self.alpha}, beta={self.beta}, unit={self.unit}: use alpha > 0, beta >= 0 and unit > 0"
            )

    def check(self, least: float, target: float | None) -> None:
        low = min(least, inf if target is None else target)
        if low <= self.unit:
            raise OcheError(
                f"the logarithm of a cost is not above 0 at unit={self.unit:g}, where the cheapest network or the target costs "
                f"{low:.4g}; use a smaller unit, such as {low / 1000:.1g}"
            )

    def __call__(self, loss: Tensor, cost: Tensor, target: float | None, strength: float) -> Tensor:
        logarithm = (cost / self.unit).log()
        if target is not None:
            logarithm = logarithm / cost.new_tensor(target / self.unit).log()
        return loss * self.alpha * logarithm ** (self.beta * strength)


@component
@dataclass(frozen=True)
class Added(CostForm):
    """ProxylessNAS (1812.00332 §3.3.1): loss + weight · strength · E; with a target, … · (E − target) / target."""

    weight: float = 0.1
    """loss per millisecond (or weight, or FLOP); with a target, loss per excess as large as the target"""

    def __post_init__(self) -> None:
        if not 0 <= self.weight < inf:
            raise OcheError(f"weight={self.weight} must be a finite number that is not negative; use weight >= 0")

    def __call__(self, loss: Tensor, cost: Tensor, target: float | None, strength: float) -> Tensor:
        excess = cost if target is None else (cost - target) / target
        return loss + self.weight * strength * excess


@component
@dataclass(frozen=True)
class RewardRatio(CostForm):
    """The reward of MnasNet (1807.11626) and of ProxylessNAS' REINFORCE: loss · (target / E)^(omega · strength).

    The loss is a reward with a minus sign (`oche.methods.score_function.ScoreFunction` with ``of="accuracy"``), so that a
    network that costs less than the target has a larger reward. A target is needed.
    """

    omega: float = 0.1
    """power of the ratio"""

    def check(self, least: float, target: float | None) -> None:
        if target is None:
            raise OcheError("RewardRatio divides a target by the cost; write a target, such as 5ms")

    def __call__(self, loss: Tensor, cost: Tensor, target: float | None, strength: float) -> Tensor:
        assert target is not None
        return loss * (target / cost) ** (self.omega * strength)
