"""Replay whole steps from CUDA graphs: forward, backward, clipping and optimisers in one launch.

A graph repeats kernels on the same memory and runs no Python. Therefore every input of a step (batches, noise, drop
path masks, progress, learning rate) is copied into buffers at fixed addresses. Weights, logits, optimiser state,
running statistics and meters are at fixed addresses anyway. Anything that would change the kernels makes a new graph.

The first steps of every graph run eagerly on the buffers, as real steps. Then one step is recorded, which computes
nothing, and replayed. Unmeasured: no GPU was available. It is tested with a recorder of torch operations that replays
them on the CPU. Like a graph it runs no Python, and it refuses operations that ask the device for a number.
`oche.bilevel.cuda_graph_replay` says which steps are replayed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

Step = Callable[[], None]
WARM_UP_STEPS = 3  # eager steps before a recording, in which libraries choose kernels and optimisers create their state


class ChangingNumber(NamedTuple):
    """A number that changes from step to step, and the dtype in which the device reads it."""

    value: float
    dtype: torch.dtype


Inputs = Mapping[str, Tensor | ChangingNumber]
Buffers = dict[str, Any]  # tensors; a number becomes a tensor without dimensions


class Backend(Protocol):
    """``warm`` runs a function in the place where a recording would run. ``record`` returns a function that repeats
    ``run``, and does not run it.
    """

    def warm(self, run: Step) -> None: ...
    def record(self, run: Step) -> Step: ...


class CudaBackend:
    """CUDA graphs that share one memory pool; two of them are never replayed at the same time."""

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()
        self.side = torch.cuda.Stream()

    def warm(self, run: Step) -> None:
        self.side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.side):
            run()
        torch.cuda.current_stream().wait_stream(self.side)

    def record(self, run: Step) -> Step:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, stream=self.side):
            run()
        return graph.replay


class StepGraph:
    """The steps of one shape: their buffers, and the recorded graph once enough steps have run."""

    def __init__(self, make: Callable[[Buffers], Step], inputs: Inputs, device: torch.device) -> None:
        """``make`` maps buffers to a function that does one step on them."""
        self.buffers: Buffers = {name: _buffer(value, device) for name, value in inputs.items()}
        self.run = make(self.buffers)
        self.warmed, self.repeat = 0, None

    def fill(self, inputs: Inputs) -> None:
        """Copy ``inputs`` into the buffers."""
        for name, value in inputs.items():
            if isinstance(value, ChangingNumber):
                self.buffers[name].fill_(value.value)  # not a copy, for which the host would wait
            else:
                self.buffers[name].copy_(value)

    def step(self, backend: Backend) -> str | None:
        """Do one step on the buffers. If recording fails, compute nothing and return the reason."""
        if self.repeat is None and self.warmed < WARM_UP_STEPS:
            self.warmed += 1
            backend.warm(self.run)
            return None
        if self.repeat is None:
            try:
                self.repeat = backend.record(self.run)
            except RuntimeError as error:
                return f"recording a step failed ({str(error).strip().splitlines()[0]})"
        self.repeat()
        return None


def _buffer(value: Tensor | ChangingNumber, device: torch.device) -> Tensor:
    if isinstance(value, ChangingNumber):
        return torch.zeros((), dtype=value.dtype, device=device)
    return torch.empty_like(value, device=device)


class StepGraphs:
    """The graphs of one task, by the shapes of the steps' inputs and a ``key``. All are dropped when anything else
    changes.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.basis: tuple[Any, ...] = ()
        self.known: dict[Hashable, StepGraph] = {}

    def with_inputs(
        self, make: Callable[[Buffers], Step], inputs: Inputs, *, key: Hashable, basis: tuple[Any, ...]
    ) -> StepGraph:
        """Return the graph for such ``inputs``, with its buffers filled by them.

        ``basis``: everything else that is recorded. Tensors are compared by their values, other objects by identity.
        """
        if len(basis) != len(self.basis) or not all(map(_is_unchanged, basis, self.basis)):
            self.basis, self.known = basis, {}
        shapes = ((name, None if isinstance(v, ChangingNumber) else (v.shape, v.dtype)) for name, v in inputs.items())
        whole = key, *shapes
        if whole not in self.known:
            self.known[whole] = StepGraph(make, inputs, self.device)
        self.known[whole].fill(inputs)
        return self.known[whole]


def _is_unchanged(new: Any, old: Any) -> bool:
    return new is old or (isinstance(new, Tensor) and isinstance(old, Tensor) and torch.equal(new, old))


@contextmanager
def capturable(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Within, ``optimizer`` steps by torch's fused kernels, which read the learning rate and the step count from the
    device.

    Its settings are restored afterwards. Its state keeps its format, so checkpoints are the same.
    """
    _place_state(optimizer)
    kept = [dict(group) for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group.update(fused=True, foreach=False, **({"capturable": True} if "capturable" in group else {}))
    try:
        yield
    finally:
        for group, before in zip(optimizer.param_groups, kept, strict=True):
            group.update({k: before[k] for k in ("fused", "foreach", "capturable") if k in before})


def _place_state(optimizer: torch.optim.Optimizer) -> None:
    """Move the optimiser's state where the fused kernels need it: on the device, with the layout of the weights."""
    for weight, state in optimizer.state.items():
        for name, t in state.items():
            if not isinstance(t, Tensor):
                continue
            if t.dim() == 0 and t.device != weight.device:
                state[name] = t.to(weight.device, torch.float32)
            elif t.shape == weight.shape and t.stride() != weight.stride():
                state[name] = torch.empty_like(weight).copy_(t)
