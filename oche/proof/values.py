"""The values of a proof: the step, its forms, the bounds, what was found of each form, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, Self

from torch import Tensor

Evidence = Mapping[str, Mapping[str, Tensor]]
"""what a step leaves, on the CPU: tensors by name, in the groups "loss", "gradients", "logits", "statistics", "weights" """


@dataclass(frozen=True)
class StepForm:
    """One way to compute a step.

    - ``name``: as ``oche bench`` names it
    - ``flow``: how the cells of the network compute: a form of `oche.kernels.choose`
    - ``graph``: whether whole steps are replayed from CUDA graphs
    - ``about``: description for people
    """

    name: str
    flow: str = "plain"
    graph: bool = False
    about: str = ""


@dataclass(frozen=True)
class Bounds:
    """The largest relative errors with which a form agrees.

    - ``loss``: of the mean loss; of an absolute error below a loss of 1
    - ``statistics``: of all running statistics of BatchNorms together
    - ``gradients``: of all gradients together (weights and logits apart), and of the change of the weights in a step
    - ``tensor``: of a single gradient. Tensors with less than a hundredth of the norm of all are measured by that hundredth
    - ``noise``: errors up to this multiple of those of the plain form itself agree too: computed as the run would, and from
      weights that are changed by as much as rounding changes them
    """

    loss: float = 1e-3
    statistics: float = 1e-3
    gradients: float = 0.03
    tensor: float = 0.3
    noise: float = 3.0


FLOAT32 = Bounds()
BF16 = Bounds(loss=0.03, statistics=0.03, gradients=0.5, tensor=1.5)


@dataclass(frozen=True)
class Step:
    """The description of a step from which a child process can build it.

    - ``maker``: "module:function". The function is called with ``settings`` and a `StepForm`, or None for the reference, and
      returns a `ProvableStep`
    - ``settings``: plain values (numbers, text, lists, mappings)
    - ``title``: description for people
    - ``plain``: whether the reference is the plain form as the run would compute it, so that it need not run twice
    - ``steps``: steps that are taken and compared. A CUDA graph is recorded in the fourth
    """

    maker: str
    settings: Mapping[str, Any]
    title: str
    plain: bool = True
    steps: int = 2
    bounds: Bounds = FLOAT32


class ProvableStep(Protocol):
    """A step in a form, in the child process."""

    def take(self, step: int) -> None:
        """Take a step, and wait until the device has done it."""

    def evidence(self) -> Evidence:
        """Return what the last step left."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return a copy of everything that a step reads and changes, on the CPU."""
        ...

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        """Copy ``state`` into the memory that the next step reads."""

    def obstacle(self) -> str:
        """Return why the steps did not run in their form; "" if they did."""
        ...

    def memory(self) -> int | None:
        """Return the peak of the device's memory in bytes, None where it is not known."""
        ...


class StatelessStep(ProvableStep):
    """A step on the same inputs every time: nothing passes from one to the next. It runs in its form, or it raises."""

    def state(self) -> dict[str, Tensor]:
        return {}

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        del state

    def obstacle(self) -> str:
        return ""

    def memory(self) -> int | None:
        return None


@dataclass(frozen=True)
class Proof:
    """What was found of a form.

    agrees   whether it computes the same numbers as the reference
    seconds  of a step, median
    memory   peak on the device in bytes, if it is known
    errors   the largest relative errors, by the names of `Bounds`
    why      the reason if it does not agree, in one line
    passing  whether the reason may be gone at another time: a deadline, a lack of memory
    """

    form: StepForm
    agrees: bool
    seconds: float | None = None
    memory: int | None = None
    errors: Mapping[str, float] = field(default_factory=dict)
    why: str = ""
    passing: bool = False


@dataclass(frozen=True)
class Verdict:
    """The proofs of all forms of a step on a machine.

    obstacle  why nothing could be compared: the reference did not run. "" otherwise
    machine   the facts for which the verdict holds, see `oche.proof.cache.describe_machine`
    took      seconds that the proof took
    time      when it was made, seconds since 1970
    """

    title: str
    proofs: tuple[Proof, ...]
    obstacle: str = ""
    machine: Mapping[str, Any] = field(default_factory=dict)
    took: float = 0.0
    time: float = 0.0

    def fastest(self, margin: float = 0.05) -> Proof | None:
        """Return the fastest proof that agrees, None if there is none.

        The forms stand in the order of preference. A later form must need less than 1 - ``margin`` of the time of the form
        preferred so far, so that noise of the clock does not decide.
        """
        best: Proof | None = None
        for proof in self.proofs:
            if not proof.agrees or proof.seconds is None:
                continue
            if best is None or best.seconds is None or proof.seconds < (1 - margin) * best.seconds:
                best = proof
        return best

    def of(self, name: str) -> Proof | None:
        """Return the proof of the form called ``name``."""
        return next((proof for proof in self.proofs if proof.form.name == name), None)

    @property
    def passing(self) -> bool:
        """Whether another attempt at another time may end otherwise."""
        return bool(self.obstacle) or any(proof.passing for proof in self.proofs)

    def speedup(self, proof: Proof, of: str = "plain") -> float | None:
        """Return how many times as fast as the form ``of`` a ``proof`` was, None if that is not known."""
        base = self.of(of)
        if base is None or not base.seconds or not proof.seconds:
            return None
        return base.seconds / proof.seconds

    def refusals(self) -> list[str]:
        """Return the forms that were not accepted, with the reasons."""
        return [f"{p.form.name}: {p.why}" for p in self.proofs if not p.agrees]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> Self:
        """Return the verdict that `to_dict` described. Raises ValueError, TypeError or KeyError for a damaged tree."""
        title, obstacle, machine = tree["title"], tree["obstacle"], tree["machine"]
        if not (isinstance(title, str) and isinstance(obstacle, str) and isinstance(machine, dict)):
            raise TypeError("a verdict has a title, an obstacle and a machine")
        proofs = tuple(proof_from(found) for found in tree["proofs"])
        return cls(title, proofs, obstacle, machine, float(tree["took"]), float(tree["time"]))


def proof_from(tree: Mapping[str, Any]) -> Proof:
    """Return the `Proof` in a tree of plain values. Raises ValueError, TypeError or KeyError for a damaged tree."""
    proof = Proof(**{**tree, "form": StepForm(**tree["form"])})
    if not isinstance(proof.agrees, bool) or not isinstance(proof.seconds, int | float | None):
        raise TypeError("a proof says whether it agrees, and its seconds")
    return proof
