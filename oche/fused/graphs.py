"""Whole search steps replayed from CUDA graphs: both updates, second order, clipping and optimisers in one launch.

A graph repeats kernels on the same memory and runs no Python. So everything that a step takes from outside (batches, noise,
progress, learning rate) is copied into buffers that stay where they are; weights, logits, optimiser state, running
statistics and meters are such buffers anyway. What would change the kernels makes a new graph: the stage, the masks, the
shapes of a batch, whether the architecture moves. Batches and their augmentation, noise and decisions stay outside.

The first steps of every graph run eagerly on the buffers, as real steps; then one step is recorded, which computes nothing,
and replayed. Unmeasured: no GPU was at hand. Tested by a recorder of torch's operations that replays them on the CPU, which
like a graph knows no Python and refuses what asks the device for a number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from ..bilevel import Search
from ..feed import Feed
from ..objective import Objective
from ..relax_noisy import Dirichlet, GumbelHard, UniformPath
from ..spaces.edges import Edge, MixedOperation, PartialOperation

Run = Callable[[], None]
WARM = 3  # eager steps before a recording: libraries choose their kernels and optimisers make their state


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


def refusal(search: Search) -> str | None:
    """Why the steps of ``search`` cannot be replayed, in one line; None where nothing is known against it."""
    if search.engine.ranks.several:
        return f"gradients are averaged over {search.engine.ranks.count} ranks in every step"
    method, candidates = search.method, search.method.relax.by_candidate
    if isinstance(candidates, Dirichlet | UniformPath) or (isinstance(candidates, GumbelHard) and not candidates.mixes):
        return f"the relaxation {type(candidates).__name__} asks the device what it drew in every step"
    if type(search.feed) is not Feed:
        return f"batches of a {type(search.feed).__name__} are not of one shape"
    if method.perturb is not None:
        return f"the perturbation {type(method.perturb).__name__} draws on the host in every step"
    if type(search.a_opt) is not torch.optim.Adam or type(search.w_opt) is not torch.optim.SGD:
        return f"the optimisers {type(search.w_opt).__name__} and {type(search.a_opt).__name__} are not SGD and Adam"
    for edge in search.net.modules():
        if isinstance(edge, Edge) and type(edge) not in (MixedOperation, PartialOperation):
            return f"{type(edge).__name__} changes with every step"
    return None


def replay(search: Search, say: Callable[[str], None], backend: Backend | None = None) -> bool:
    """Has the steps of ``search`` replayed from now on; where that cannot be, ``say`` is told why, and they stay eager.

    ``backend``: by default `Cuda`, where the search runs on such a device.
    """
    reason = refusal(search)
    if backend is None and search.engine.device.type != "cuda":
        reason = f"they need a CUDA device, this is {search.engine.device}"
    if reason is not None:
        say(f"no CUDA graphs: {reason}")
        return False
    search.update = Replayed(search, say, backend or Cuda())
    return True


class Replayed:
    """Stands in for `Search.update`."""

    def __init__(self, search: Search, say: Callable[[str], None], backend: Backend) -> None:
        self.search, self.say, self.backend = search, say, backend
        self.of: tuple[Any, ...] = ()
        self.programs: dict[Any, Program] = {}

    def __call__(
        self,
        inner: Objective,
        outer: Objective | None,
        noise: Mapping[str, Tensor | None],
        progress: float,
        rate: float,
        moves: bool,
    ) -> None:
        reason = refusal(self.search)  # a stage may have edges of its own
        if reason is None:
            program = self._program(_inputs(inner, outer, noise), moves)
            program.numbers["progress"].fill_(progress)  # no copy, which the host would wait for
            program.numbers["rate"].fill_(rate)
            reason = program.step(self.backend)
        if reason is not None:
            self.say(f"no CUDA graphs: {reason}")
            self.programs.clear()
            del self.search.update  # the method of the class, from now on
            self.search.update(inner, outer, noise, progress, rate, moves)
        self.search.w_opt.param_groups[0]["lr"] = rate  # a number again, for checkpoints

    def _program(self, inputs: dict[str, Tensor], moves: bool) -> Program:
        """The program for such inputs, given them; those of another stage or of other masks are dropped."""
        of = (self.search.net, self.search.w_opt.state, self.search.a_opt.state, *self.search.alive.values())
        if len(of) != len(self.of) or not all(map(_same, of, self.of)):
            self.of, self.programs = of, {}
        key = moves, *((name, t.shape, t.dtype) for name, t in inputs.items())
        if key not in self.programs:
            self.programs[key] = Program(self.search, inputs, moves)
        for name, buffer in self.programs[key].buffers.items():
            buffer.copy_(inputs[name])
        return self.programs[key]


def _same(new: Any, old: Any) -> bool:
    return new is old or (isinstance(new, Tensor) and isinstance(old, Tensor) and torch.equal(new, old))


def _inputs(inner: Objective, outer: Objective | None, noise: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    """The tensors that a step takes from outside."""
    inputs = {"train.images": inner.images, "train.labels": inner.labels}
    if outer is not None:
        inputs |= {"val.images": outer.images, "val.labels": outer.labels}
    return inputs | {f"noise.{name}": n for name, n in noise.items() if n is not None}


class Program:
    """The steps of one shape: their buffers, and what replays them once enough have run."""

    def __init__(self, search: Search, inputs: dict[str, Tensor], moves: bool) -> None:
        self.search, self.moves, device = search, moves, search.engine.device
        self.buffers = {name: torch.empty_like(t, device=device) for name, t in inputs.items()}
        # Progress in float64, as Python's numbers are; the rate as torch's fused optimisers read it.
        dtypes = {"progress": torch.float64, "rate": torch.promote_types(search.engine.dtype, torch.float32)}
        self.numbers = {name: torch.zeros((), dtype=dtype, device=device) for name, dtype in dtypes.items()}
        self.masks: dict[str, Tensor] = {n: Placed.of(m, device) for n, m in search.alive.items()}
        self.warmed, self.repeat = 0, None

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

    def run(self) -> None:
        """`Search.update` on the buffers."""
        b, search = self.buffers, self.search
        noise = {name: b.get(f"noise.{name}") for name in search.groups}
        progress: Any = self.numbers["progress"]
        rate: Any = self.numbers["rate"]
        with capturable(search.w_opt), capturable(search.a_opt), self._masked():
            inner = search._loss(b["train.images"], b["train.labels"], noise, progress)
            outer = search._loss(b["val.images"], b["val.labels"], noise, progress) if "val.images" in b else None
            Search.update(search, inner, outer, noise, progress, rate, self.moves)

    @contextmanager
    def _masked(self) -> Iterator[None]:
        """Within, the masks of the search are on the device."""
        kept, self.search.alive = self.search.alive, self.masks
        try:
            yield
        finally:
            self.search.alive = kept


class Placed(Tensor):
    """A mask on the device that remembers its rows, so that asking for them does not ask the device."""

    rows: list[list[bool]]
    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore[reportAssignmentType]  # plain results

    @classmethod
    def of(cls, mask: Tensor, device: torch.device) -> Placed:
        placed = mask.to(device).as_subclass(cls)
        placed.rows = mask.tolist()
        return placed

    def tolist(self) -> list[list[bool]]:
        return self.rows


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
