"""What of a search stands in the way of replaying its steps, and its masks in a form that does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor

from ..bilevel import Search
from ..feed import Feed
from ..feed_text import TextFeed
from ..relax_noisy import Dirichlet, GumbelHard, UniformPath
from ..spaces.edges import Edge, MixedOperation, PartialOperation


def obstacle(search: Search) -> str | None:
    """Why the steps of ``search`` cannot be replayed, in one line; None where nothing is known against it."""
    method, candidates = search.method, search.method.relax.by_candidate
    if isinstance(candidates, Dirichlet | UniformPath) or (isinstance(candidates, GumbelHard) and not candidates.mixes):
        return f"the relaxation {type(candidates).__name__} asks the device what it drew in every step"
    if type(search.feed) not in (Feed, TextFeed):
        return f"batches of a {type(search.feed).__name__} are not of one shape"
    if method.perturb is not None:
        return f"the perturbation {type(method.perturb).__name__} draws on the host in every step"
    if type(search.a_opt) is not torch.optim.Adam or type(search.w_opt) is not torch.optim.SGD:
        return f"the optimisers {type(search.w_opt).__name__} and {type(search.a_opt).__name__} are not SGD and Adam"
    for edge in search.net.modules():
        if isinstance(edge, Edge) and type(edge) not in (MixedOperation, PartialOperation):
            return f"{type(edge).__name__} changes with every step"
    return None


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
