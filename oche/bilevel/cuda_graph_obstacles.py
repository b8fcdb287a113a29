"""Why the steps of a search cannot be replayed from CUDA graphs; and masks and choices in a form that can be replayed.

A replayed step must not read a value from the device on the host, and must launch the same kernels every time.
"""

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
from oche.methods.sampled_paths import SampledPath
from oche.methods.stochastic_relaxations import Dirichlet, GumbelHard, UniformPath
from oche.networks.forms import FormModule
from oche.networks.modules import iter_modules
from oche.spaces.edge_variants import PartialOperation
from oche.spaces.mixed_ops import Edge, MixedOperation
from oche.training.image_batches import ImageBatches
from oche.training.text_batches import TextBatches


def search_obstacle(search: Search) -> str | None:
    """Return why the steps of ``search`` cannot be replayed, in one line; None if no reason is known."""
    method, candidates = search.method, search.method.relax.by_candidate
    if isinstance(candidates, Dirichlet | UniformPath | SampledPath) or candidates.has_phases:
        return f"the relaxation {type(candidates).__name__} reads its draws from the device in every step"
    if _is_single_path(search) and (reason := _cells_obstacle(search)) is not None:
        return f"{type(candidates).__name__} evaluates one candidate of each edge, and {reason}"
    if method.hypergrad.draws:
        return f"the hypergradient {type(method.hypergrad).__name__} draws on the host in every step"
    if type(search.feed) not in (ImageBatches, TextBatches):
        return f"batches of {type(search.feed).__name__} may change their shape"
    if method.perturb is not None:
        return f"the perturbation {type(method.perturb).__name__} draws on the host in every step"
    if type(search.a_opt) is not torch.optim.Adam or type(search.w_opt) is not torch.optim.SGD:
        return f"the optimizers {type(search.w_opt).__name__} and {type(search.a_opt).__name__} are not SGD and Adam"
    for edge in iter_modules(search.net):
        if isinstance(edge, Edge) and type(edge) not in (MixedOperation, PartialOperation):
            return f"{type(edge).__name__} changes with every step"
    return None


def _is_single_path(search: Search) -> bool:
    """Whether one candidate of each edge is evaluated, chosen on the device."""
    candidates = search.method.relax.by_candidate
    return isinstance(candidates, GumbelHard) and not candidates.mixes


def _cells_obstacle(search: Search) -> str | None:
    """Return why the cells cannot index candidates by a choice on the device, or None. Each network is examined once."""
    if search.net not in _FOUND:
        _FOUND[search.net] = _find_cells_obstacle(search.net, search.space.candidates)
    return _FOUND[search.net]


_FOUND: WeakKeyDictionary[nn.Module, str | None] = WeakKeyDictionary()


def _find_cells_obstacle(net: nn.Module, candidates: Sequence[str]) -> str | None:
    cells = [m for m in net.modules() if isinstance(m, FormModule) and hasattr(m, "edges")]
    edges = {m for m in net.modules() if isinstance(m, Edge)}
    if not cells or edges - {m for cell in cells for m in cell.modules()}:
        return f"the cells of {type(net).__name__} have no form that indexes candidates on the device"
    try:
        for cell in cells:
            read_edges(cast(nn.ModuleList, cell.edges), None, candidates)
    except Unsupported as error:
        return str(error)
    return None


@contextmanager
def choices_on_device(search: Search) -> Iterator[None]:
    """Within, a single-path search indexes candidates by the choice on the device. Weights that a step does not reach rest."""
    if not _is_single_path(search):
        yield
        return
    reach = ReachTracker(search.weights)
    with temporary_form(search.net, form(reach)), freeze_unreached(search.w_opt, reach):
        yield


class DeviceMask(Tensor):
    """A mask (E, O) on the device that knows its rows on the host, so that `tolist` does not read from the device."""

    rows: list[list[bool]]
    # Operations on it give plain tensors.
    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore[reportAssignmentType]

    @classmethod
    def of(cls, mask: Tensor, device: torch.device) -> DeviceMask:
        """Return ``mask`` (E, O) on ``device``."""
        found = mask.to(device).as_subclass(cls)
        found.rows = mask.tolist()
        return found

    def tolist(self) -> list[list[bool]]:
        """Return the rows, without reading from the device."""
        return self.rows


def masks_on_device(search: Search) -> Callable[[], AbstractContextManager[None]]:
    """Return a context manager within which the masks of ``search`` are its present ones, as `DeviceMask`."""
    masks: dict[str, Tensor] = {name: DeviceMask.of(mask, search.engine.device) for name, mask in search.alive.items()}

    @contextmanager
    def within() -> Iterator[None]:
        kept, search.alive = search.alive, masks
        try:
            yield
        finally:
            search.alive = kept

    return within
