"""Searches and trainings whose steps are replayed from CUDA graphs (`oche.kernels.cuda_graphs`).

Each has a method ``update``: what a step does once everything from outside is drawn. What stands in for it copies that into
buffers and replays the rest, and hands back to it, saying why, where a step cannot be replayed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from oche.bilevel.cuda_graph_obstacles import indexed, obstacle, placed
from oche.bilevel.search import Search
from oche.kernels.cuda_graphs import Backend, Buffers, ChangingNumber, CudaBackend, Inputs, Step, StepGraphs, capturable
from oche.networks.language_model import DropoutMasks
from oche.training.image_trainer import SubBatch, Training
from oche.training.language_trainer import LanguageTraining
from oche.training.losses import Objective

Task = Search | Training | LanguageTraining


def refusal(task: Task) -> str | None:
    """Why the steps of ``task`` cannot be replayed, in one line; None where nothing is known against it."""
    if task.engine.processes.is_distributed:
        return f"gradients are averaged over {task.engine.processes.world_size} ranks in every step"
    return obstacle(task) if isinstance(task, Search) else None


def replay(task: Task, say: Callable[[str], None], backend: Backend | None = None) -> bool:
    """Has the steps of ``task`` replayed from now on; where that cannot be, ``say`` is told why, and they stay eager.

    ``backend``: by default `CudaBackend`, where the task runs on such a device.
    """
    reason = refusal(task)
    if backend is None and task.engine.device.type != "cuda":
        reason = f"they need a CUDA device, this is {task.engine.device}"
    if reason is not None:
        say(f"no CUDA graphs: {reason}")
        return False
    task.update = _KINDS[type(task)](task, say, backend or CudaBackend())  # pyright: ignore[reportAttributeAccessIssue]
    return True


class Replayed:
    """Stands in for ``task.update``."""

    def __init__(self, task: Any, say: Callable[[str], None], backend: Backend) -> None:
        self.task, self.say, self.backend = task, say, backend
        self.programs = StepGraphs(task.engine.device)
        #: as which torch's fused optimisers read numbers
        self.wide = torch.promote_types(task.engine.dtype, torch.float32)

    def __call__(self, *given: Any) -> None:
        reason = refusal(self.task)  # a stage may have edges of its own
        if reason is None:
            program = self.programs.with_inputs(
                partial(self.make, *given), self.inputs(*given), key=self.key(*given), basis=self.basis()
            )
            reason = program.step(self.backend)
            if reason is None:
                return self.keep(program.buffers, *given)
        self.say(f"no CUDA graphs: {reason}")
        self.programs.known.clear()
        del self.task.update  # the method of the class, from now on
        self.task.update(*given)

    def inputs(self, *given: Any) -> Inputs:
        """What a step takes from outside."""
        raise NotImplementedError

    def basis(self) -> tuple[Any, ...]:
        """What programs are made for, see `StepGraphs.filled`."""
        raise NotImplementedError

    def key(self, *given: Any) -> Hashable:
        """What of a step besides shapes changes its kernels."""
        return None

    def make(self, *rest: Any) -> Step:
        """What does the step that is ``given`` on buffers, which come last."""
        raise NotImplementedError

    def keep(self, b: Buffers, *given: Any) -> None:
        """Takes from the buffers what a step leaves to the next one."""
        raise NotImplementedError


def _numbers_again(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Rates are numbers, for checkpoints."""
    for group in optimizer.param_groups:
        group["lr"] = rate


class ReplayedSearch(Replayed):
    def inputs(
        self, inner: Any, outer: Any, noise: Mapping[str, Tensor | None], progress: float, rate: float, moves: bool
    ) -> Inputs:
        found: dict[str, Tensor | ChangingNumber] = {f"noise.{name}": n for name, n in noise.items() if n is not None}
        for part, objective in _named(inner, outer):
            found |= {f"{part}.{name}": t for name, t in objective.input_tensors().items()}
        # Progress in float64, as Python's numbers are.
        return found | {"progress": ChangingNumber(progress, torch.float64), "rate": ChangingNumber(rate, self.wide)}

    def basis(self) -> tuple[Any, ...]:
        search: Search = self.task
        return search.net, search.w_opt.state, search.a_opt.state, *search.alive.values()

    def key(self, *given: Any) -> Hashable:
        return given[-1]  # whether the architecture moves

    def make(self, inner: Any, outer: Any, noise: Any, progress: float, rate: float, moves: bool, b: Buffers) -> Step:
        search: Search = self.task
        masks = placed(search)
        noise = {name: b.get(f"noise.{name}") for name in search.groups}
        mix = partial(search.mixes, noise=noise, progress=b["progress"])
        parts = {part: objective.with_inputs(mix, _of(b, part)) for part, objective in _named(inner, outer)}

        def run() -> None:
            with capturable(search.w_opt), capturable(search.a_opt), masks(), indexed(search):
                Search.update(search, parts["train"], parts.get("val"), noise, b["progress"], b["rate"], moves)
            for part, objective in parts.items():
                for name, t in objective.carried_tensors().items():
                    b[f"{part}.{name}"].copy_(t)

        return run

    def keep(self, b: Buffers, inner: Any, outer: Any, noise: Any, progress: float, rate: float, moves: bool) -> None:
        for part, objective in _named(inner, outer):
            objective.set_carried(_of(b, part))
            self.task.feed.carry_state(objective)
        _numbers_again(self.task.w_opt, rate)


def _named(inner: Objective, outer: Objective | None) -> list[tuple[str, Objective]]:
    return [("train", inner)] if outer is None else [("train", inner), ("val", outer)]


def _of(b: Buffers, part: str) -> dict[str, Tensor]:
    """The buffers of one part of the data."""
    return {name.removeprefix(f"{part}."): t for name, t in b.items() if name.startswith(f"{part}.")}


class ReplayedTraining(Replayed):
    def __call__(self, parts: Iterable[SubBatch], rate: float, share: float) -> None:  # pyright: ignore
        super().__call__([*parts], rate, share)

    def inputs(self, parts: list[SubBatch], rate: float, share: float) -> Inputs:
        found: dict[str, Tensor | ChangingNumber] = {
            "rate": ChangingNumber(rate, self.wide),
            "share": ChangingNumber(share, self.wide),
        }
        for i, part in enumerate(parts):
            found |= {f"{i}.{name}": t for name in _TENSORS if (t := getattr(part, name)) is not None}
        return found

    def basis(self) -> tuple[Any, ...]:
        return self.task.net, self.task.optimizer.state, self.task.average

    def make(self, parts: list[SubBatch], rate: float, share: float, b: Buffers) -> Step:
        task: Training = self.task
        held = [SubBatch(*(b.get(f"{i}.{name}") for name in _TENSORS), *part[3:]) for i, part in enumerate(parts)]  # pyright: ignore

        def run() -> None:
            with capturable(task.optimizer):
                Training.update(task, held, b["rate"], b["share"])

        return run

    def keep(self, b: Buffers, parts: list[SubBatch], rate: float, share: float) -> None:
        _numbers_again(self.task.optimizer, rate)


_TENSORS = SubBatch._fields[:3]


class ReplayedLanguage(Replayed):
    """Windows of every length have a program of their own; the state between them is carried by copies."""

    def inputs(
        self, tokens: Tensor, targets: Tensor, hidden: Tensor | None, masks: DropoutMasks, rate: float, share: float
    ) -> Inputs:
        hidden = self.task.net.start(tokens.shape[1]) if hidden is None else hidden
        found: dict[str, Any] = {"tokens": tokens, "targets": targets, "hidden": hidden}
        found |= {
            f"masks.{name}": getattr(masks, name) for name in DropoutMasks._fields if getattr(masks, name) is not None
        }
        return found | {"rate": ChangingNumber(rate, self.wide), "share": ChangingNumber(share, self.wide)}

    def basis(self) -> tuple[Any, ...]:
        return self.task.net, self.task.optimizer.state, self.task.average

    def make(self, *rest: Any) -> Step:
        task: LanguageTraining = self.task
        b: Buffers = rest[-1]
        masks = DropoutMasks(**_of(b, "masks"))

        def run() -> None:
            with capturable(task.optimizer):
                LanguageTraining.update(task, b["tokens"], b["targets"], b["hidden"], masks, b["rate"], b["share"])
            assert task.hidden is not None
            b["hidden"].copy_(task.hidden)

        return run

    def keep(self, b: Buffers, *given: Any) -> None:
        self.task.hidden = b["hidden"]
        _numbers_again(self.task.optimizer, given[-2])


_KINDS: dict[type, type[Replayed]] = {
    Search: ReplayedSearch, Training: ReplayedTraining, LanguageTraining: ReplayedLanguage,
}  # fmt: skip
