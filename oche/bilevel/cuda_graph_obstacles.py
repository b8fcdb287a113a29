"""What of a search stands in the way of replaying its steps; its masks, and a choice of candidates, in a form that does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from oche.bilevel.search import Search
from oche.kernels.choose import temporary_form
from oche.kernels.single_path.cell import form
from oche.kernels.single_path.edges import Unsupported, read_edges
from oche.kernels.single_path.unused_weights import ReachTracker, freeze_unreached
from oche.methods.stochastic_relaxations import Dirichlet, GumbelHard, UniformPath
from oche.networks.forms import FormModule
from oche.networks.modules import iter_modules
from oche.spaces.edge_variants import PartialOperation
from oche.spaces.mixed_ops import Edge, MixedOperation
from oche.training.image_batches import ImageBatches
from oche.training.text_batches import TextBatches


def obstacle(search: Search) -> str | None:
    """Why the steps of ``search`` cannot be replayed, in one line; None where nothing is known against it."""
    method, candidates = search.method, search.method.relax.by_candidate
    if isinstance(candidates, Dirichlet | UniformPath):
        return f"the relaxation {type(candidates).__name__} asks the device what it drew in every step"
    if _chooses(search) and (reason := _unknown(search)) is not None:
        return f"{type(candidates).__name__} evaluates one candidate an edge, and {reason}"
    if type(search.feed) not in (ImageBatches, TextBatches):
        return f"batches of a {type(search.feed).__name__} are not of one shape"
    if method.perturb is not None:
        return f"the perturbation {type(method.perturb).__name__} draws on the host in every step"
    if type(search.a_opt) is not torch.optim.Adam or type(search.w_opt) is not torch.optim.SGD:
        return f"the optimisers {type(search.w_opt).__name__} and {type(search.a_opt).__name__} are not SGD and Adam"
    for edge in iter_modules(search.net):
        if isinstance(edge, Edge) and type(edge) not in (MixedOperation, PartialOperation):
            return f"{type(edge).__name__} changes with every step"
    return None


def _chooses(search: Search) -> bool:
    """Whether one candidate of each edge is evaluated, which the device knows before the host does."""
    candidates = search.method.relax.by_candidate
    return isinstance(candidates, GumbelHard) and not candidates.mixes


def _unknown(search: Search) -> str | None:
    """Why its cells cannot index their candidates by a choice on the device, in one line. Each network is looked at once."""
    if search.net not in _LOOKED_AT:
        _LOOKED_AT[search.net] = _look(search.net, search.space.candidates)
    return _LOOKED_AT[search.net]


_LOOKED_AT: WeakKeyDictionary[nn.Module, str | None] = WeakKeyDictionary()


def _look(net: nn.Module, candidates: Sequence[str]) -> str | None:
    cells = [m for m in net.modules() if isinstance(m, FormModule) and hasattr(m, "edges")]
    edges = {m for m in net.modules() if isinstance(m, Edge)}
    if not cells or edges - {m for cell in cells for m in cell.modules()}:
        return f"the cells of a {type(net).__name__} have no form that indexes candidates on the device"
    try:
        for cell in cells:
            read_edges(cast(nn.ModuleList, cell.edges), None, candidates)
    except Unsupported as error:
        return str(error)
    return None


@contextmanager
def indexed(search: Search) -> Iterator[None]:
    """Within, where one candidate of each edge is evaluated, cells index them by the choice on the device, and weights that
    a step does not reach rest in it."""
    if not _chooses(search):
        yield
        return
    reach = ReachTracker(search.weights)
    with temporary_form(search.net, form(reach)), freeze_unreached(search.w_opt, reach):
        yield


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


def placed(search: Search) -> Callable[[], AbstractContextManager[None]]:
    """A context within which the masks of ``search`` are those it has now, on the device."""
    masks: dict[str, Tensor] = {name: Placed.of(mask, search.engine.device) for name, mask in search.alive.items()}

    @contextmanager
    def within() -> Iterator[None]:
        kept, search.alive = search.alive, masks
        try:
            yield
        finally:
            search.alive = kept

    return within
