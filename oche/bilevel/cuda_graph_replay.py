"""Searches and trainings whose steps are replayed from CUDA graphs (`oche.kernels.cuda_graphs`).

A search or training has a method ``update``, which takes a step once all its inputs are drawn. Here an object takes the place
of that method. It copies the inputs into buffers and replays a recorded step. If a step cannot be replayed, it says why and
restores the method.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from oche.bilevel.cuda_graph_obstacles import choices_on_device, masks_on_device, search_obstacle
from oche.bilevel.search import Search
from oche.kernels.cuda_graphs import Backend, Buffers, ChangingNumber, CudaBackend, Inputs, Step, StepGraphs, capturable
from oche.networks.language_model import DropoutMasks
from oche.training.image_trainer import SubBatch, Training
from oche.training.language_trainer import LanguageTraining
from oche.training.losses import Objective

Task = Search | Training | LanguageTraining


def find_obstacle(task: Task) -> str | None:
    """Return why the steps of ``task`` cannot be replayed, in one line; None if no reason is known."""
    if task.engine.processes.is_distributed:
        return f"gradients are averaged over {task.engine.processes.world_size} ranks in every step"
    if isinstance(task, Training) and task.taken and (task.recipe.freeze or task.recipe.taken_lr != 1):
        return "weights taken from another network have a learning rate of their own (freeze, taken_lr)"
    return search_obstacle(task) if isinstance(task, Search) else None


def replay(task: Task, say: Callable[[str], None], backend: Backend | None = None) -> bool:
    """Replay the steps of ``task`` from now on. Return whether that is possible; if not, ``say`` is called with the reason.

    ``backend``: by default `CudaBackend`, which takes a task on a CUDA device.
    """
    reason = find_obstacle(task)
    if backend is None and task.engine.device.type != "cuda":
        reason = f"they need a CUDA device, this is {task.engine.device}"
    if reason is not None:
        say(f"no CUDA graphs: {reason}")
        return False
    task.update = _KINDS[type(task)](task, say, backend or CudaBackend())  # pyright: ignore[reportAttributeAccessIssue]
    return True


class Replayed:
    """A callable that takes the place of ``task.update``. ``given`` are the arguments of that method."""

    def __init__(self, task: Any, say: Callable[[str], None], backend: Backend) -> None:
        self.task, self.say, self.backend = task, say, backend
        self.graphs = StepGraphs(task.engine.device)
        #: the dtype in which torch's fused optimizers read numbers
        self.number_dtype = torch.promote_types(task.engine.dtype, torch.float32)

    def __call__(self, *given: Any) -> None:
        reason = find_obstacle(self.task)  # it may change with the stage, whose edges are its own
        if reason is None:
            graph = self.graphs.with_inputs(
                partial(self.make_step, *given), self.inputs(*given), key=self.key(*given), basis=self.basis()
            )
            reason = graph.step(self.backend)
            if reason is None:
                return self.write_back(graph.buffers, *given)
        self.say(f"no CUDA graphs: {reason}")
        self.graphs.known.clear()
        del self.task.update  # the method of the class, from now on
        self.task.update(*given)

    def inputs(self, *given: Any) -> Inputs:
        """Return the inputs of a step by name. They are copied into the buffers of the same names."""
        raise NotImplementedError

    def basis(self) -> tuple[Any, ...]:
        """Return the objects that graphs are recorded for. If one is replaced, graphs are recorded anew; see `StepGraphs`."""
        raise NotImplementedError

    def key(self, *given: Any) -> Hashable:
        """Return what changes the kernels of a step, besides the shapes of its inputs."""
        return None

    def make_step(self, *rest: Any) -> Step:
        """Return a function that takes the step ``given`` on buffers. The buffers are the last argument."""
        raise NotImplementedError

    def write_back(self, b: Buffers, *given: Any) -> None:
        """Copy from the buffers the state that a step leaves to the next one."""
        raise NotImplementedError


def _set_number_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate as a number, as checkpoints have it."""
    for group in optimizer.param_groups:
        group["lr"] = rate


class ReplayedSearch(Replayed):
    """Replays the steps of a search. A step in which the architecture moves has a graph of its own."""

    def inputs(
        self, inner: Any, outer: Any, noise: Mapping[str, Tensor | None], progress: float, rate: float, moves: bool
    ) -> Inputs:
        found: dict[str, Tensor | ChangingNumber] = {f"noise.{name}": n for name, n in noise.items() if n is not None}
        for part, objective in _objectives(inner, outer):
            found |= {f"{part}.{name}": t for name, t in objective.input_tensors().items()}
        # Progress in float64, as Python's numbers are.
        progress_number = ChangingNumber(progress, torch.float64)
        return found | {"progress": progress_number, "rate": ChangingNumber(rate, self.number_dtype)}

    def basis(self) -> tuple[Any, ...]:
        search: Search = self.task
        return search.net, search.w_opt.state, search.a_opt.state, *search.alive.values()

    def key(self, *given: Any) -> Hashable:
        return given[-1], given[1] is None  # whether the architecture moves, and whether there is a validation batch

    def make_step(
        self, inner: Any, outer: Any, noise: Any, progress: float, rate: float, moves: bool, b: Buffers
    ) -> Step:
        search: Search = self.task
        masks = masks_on_device(search)
        noise = {name: b.get(f"noise.{name}") for name in search.groups}
        mix = partial(search.mixes, noise=noise, progress=b["progress"])
        parts = {part: objective.with_inputs(mix, _part(b, part)) for part, objective in _objectives(inner, outer)}

        def run() -> None:
            with capturable(search.w_opt), capturable(search.a_opt), masks(), choices_on_device(search):
                Search.update(search, parts["train"], parts.get("val"), noise, b["progress"], b["rate"], moves)
            for part, objective in parts.items():
                for name, t in objective.carried_tensors().items():
                    b[f"{part}.{name}"].copy_(t)

        return run

    def write_back(
        self, b: Buffers, inner: Any, outer: Any, noise: Any, progress: float, rate: float, moves: bool
    ) -> None:
        for part, objective in _objectives(inner, outer):
            objective.set_carried(_part(b, part))
            self.task.feed.carry_state(objective)
        _set_number_rate(self.task.w_opt, rate)


def _objectives(inner: Objective, outer: Objective | None) -> list[tuple[str, Objective]]:
    """Return the losses of a step with the names of their halves of the training set."""
    return [("train", inner)] if outer is None else [("train", inner), ("val", outer)]


def _part(b: Buffers, part: str) -> dict[str, Tensor]:
    """Return the buffers whose names start with ``part``, without that start."""
    return {name.removeprefix(f"{part}."): t for name, t in b.items() if name.startswith(f"{part}.")}


class ReplayedTraining(Replayed):
    """Replays the steps of a training on images, each of one or more parts of a batch."""

    def __call__(self, parts: Iterable[SubBatch], rate: float, share: float) -> None:  # pyright: ignore
        super().__call__([*parts], rate, share)

    def inputs(self, parts: list[SubBatch], rate: float, share: float) -> Inputs:
        found: dict[str, Tensor | ChangingNumber] = {
            "rate": ChangingNumber(rate, self.number_dtype),
            "share": ChangingNumber(share, self.number_dtype),
        }
        for i, part in enumerate(parts):
            found |= {f"{i}.{name}": t for name in _TENSOR_FIELDS if (t := getattr(part, name)) is not None}
        return found

    def basis(self) -> tuple[Any, ...]:
        return self.task.net, self.task.optimizer.state, self.task.average

    def make_step(self, parts: list[SubBatch], rate: float, share: float, b: Buffers) -> Step:
        task: Training = self.task
        held = [SubBatch(*(b.get(f"{i}.{name}") for name in _TENSOR_FIELDS), *part[3:]) for i, part in enumerate(parts)]  # pyright: ignore

        def run() -> None:
            with capturable(task.optimizer):
                Training.update(task, held, b["rate"], b["share"])

        return run

    def write_back(self, b: Buffers, parts: list[SubBatch], rate: float, share: float) -> None:
        _set_number_rate(self.task.optimizer, rate)


_TENSOR_FIELDS = SubBatch._fields[:3]


class ReplayedLanguage(Replayed):
    """Replays the steps of a training on text. Windows of each length have a graph; the state between them is copied."""

    def inputs(
        self, tokens: Tensor, targets: Tensor, hidden: Tensor | None, masks: DropoutMasks, rate: float, share: float
    ) -> Inputs:
        hidden = self.task.net.start(tokens.shape[1]) if hidden is None else hidden
        found: dict[str, Any] = {"tokens": tokens, "targets": targets, "hidden": hidden}
        found |= {
            f"masks.{name}": getattr(masks, name) for name in DropoutMasks._fields if getattr(masks, name) is not None
        }
        rates = {"rate": ChangingNumber(rate, self.number_dtype), "share": ChangingNumber(share, self.number_dtype)}
        return found | rates

    def basis(self) -> tuple[Any, ...]:
        return self.task.net, self.task.optimizer.state, self.task.average

    def make_step(self, *rest: Any) -> Step:
        task: LanguageTraining = self.task
        b: Buffers = rest[-1]
        masks = DropoutMasks(**_part(b, "masks"))

        def run() -> None:
            with capturable(task.optimizer):
                LanguageTraining.update(task, b["tokens"], b["targets"], b["hidden"], masks, b["rate"], b["share"])
            assert task.hidden is not None
            b["hidden"].copy_(task.hidden)

        return run

    def write_back(self, b: Buffers, *given: Any) -> None:
        self.task.hidden = b["hidden"]
        _set_number_rate(self.task.optimizer, given[-2])


_KINDS: dict[type, type[Replayed]] = {
    Search: ReplayedSearch, Training: ReplayedTraining, LanguageTraining: ReplayedLanguage,
}  # fmt: skip
