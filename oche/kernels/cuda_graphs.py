"""Whole steps replayed from CUDA graphs: forward, backward, clipping and optimisers in one launch.

A graph repeats kernels on the same memory and runs no Python. So everything that a step takes from outside (batches, noise,
dropped paths, progress, learning rate) is copied into buffers that stay where they are; weights, logits, optimiser state,
running statistics and meters are such buffers anyway. What would change the kernels makes a new graph.

The first steps of every graph run eagerly on the buffers, as real steps; then one step is recorded, which computes nothing,
and replayed. Unmeasured: no GPU was at hand. Tested by a recorder of torch's operations that replays them on the CPU, which
like a graph knows no Python and refuses what asks the device for a number. What is replayed: `oche.bilevel.cuda_graph_replay`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

Run = Callable[[], None]
WARM = 3  # eager steps before a recording: libraries choose their kernels and optimisers make their state


class Number(NamedTuple):
    """A number that changes from step to step, and as what the device reads it."""

    value: float
    dtype: torch.dtype


Inputs = Mapping[str, Tensor | Number]
Buffers = dict[str, Any]  # tensors; those of numbers have no dimensions


class Backend(Protocol):
    """``warm`` runs a function where a recording would; ``record`` makes of it what repeats it, without running it."""

    def warm(self, run: Run) -> None: ...
    def record(self, run: Run) -> Run: ...


class Cuda:
    """CUDA graphs, all in one pool of memory: never two of them are replayed at once."""

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()
        self.side = torch.cuda.Stream()

    def warm(self, run: Run) -> None:
        self.side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.side):
            run()
        torch.cuda.current_stream().wait_stream(self.side)

    def record(self, run: Run) -> Run:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, stream=self.side):
            run()
        return graph.replay


class Program:
    """The steps of one shape: their buffers, and what replays them once enough have run."""

    def __init__(self, make: Callable[[Buffers], Run], inputs: Inputs, device: torch.device) -> None:
        """``make`` turns buffers into what does one step on them."""
        self.buffers: Buffers = {name: _buffer(value, device) for name, value in inputs.items()}
        self.run = make(self.buffers)
        self.warmed, self.repeat = 0, None

    def fill(self, inputs: Inputs) -> None:
        for name, value in inputs.items():
            if isinstance(value, Number):
                self.buffers[name].fill_(value.value)  # no copy, which the host would wait for
            else:
                self.buffers[name].copy_(value)

    def step(self, backend: Backend) -> str | None:
        """One step on what the buffers hold; why that failed, in which case nothing was computed."""
        if self.repeat is None and self.warmed < WARM:
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


def _buffer(value: Tensor | Number, device: torch.device) -> Tensor:
    if isinstance(value, Number):
        return torch.zeros((), dtype=value.dtype, device=device)
    return torch.empty_like(value, device=device)


class Programs:
    """Those of one task, by the shapes of what their steps take and by a ``key``; all anew once something else changes."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.basis: tuple[Any, ...] = ()
        self.known: dict[Hashable, Program] = {}

    def filled(
        self, make: Callable[[Buffers], Run], inputs: Inputs, *, key: Hashable, basis: tuple[Any, ...]
    ) -> Program:
        """The program for such ``inputs``, given them. ``basis``: what else is recorded, tensors by their values and other
        objects by themselves."""
        if len(basis) != len(self.basis) or not all(map(_same, basis, self.basis)):
            self.basis, self.known = basis, {}
        shapes = ((name, None if isinstance(v, Number) else (v.shape, v.dtype)) for name, v in inputs.items())
        whole = key, *shapes
        if whole not in self.known:
            self.known[whole] = Program(make, inputs, self.device)
        self.known[whole].fill(inputs)
        return self.known[whole]


def _same(new: Any, old: Any) -> bool:
    return new is old or (isinstance(new, Tensor) and isinstance(old, Tensor) and torch.equal(new, old))


@contextmanager
def capturable(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Within, ``optimizer`` steps by torch's fused kernels, which take learning rate and step count from the device.

    Its settings are put back afterwards; its state keeps its form, so checkpoints do not tell the difference.
    """
    _settle(optimizer)
    kept = [dict(group) for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group.update(fused=True, foreach=False, **({"capturable": True} if "capturable" in group else {}))
    try:
        yield
    finally:
        for group, before in zip(optimizer.param_groups, kept, strict=True):
            group.update({k: before[k] for k in ("fused", "foreach", "capturable") if k in before})


def _settle(optimizer: torch.optim.Optimizer) -> None:
    """Puts its state where the fused kernels want it: on the device, laid out as the weights are."""
    for weight, state in optimizer.state.items():
        for name, t in state.items():
            if not isinstance(t, Tensor):
                continue
            if t.dim() == 0 and t.device != weight.device:
                state[name] = t.to(weight.device, torch.float32)
            elif t.shape == weight.shape and t.stride() != weight.stride():
                state[name] = torch.empty_like(weight).copy_(t)
