"""Sums over ranks as differentiable functions, so that a loss over all ranks' images is one function of common weights.

What is common has the same value on every rank, what is own has not (see `oche.devices.process_group`). Between them stand two functions,
each the derivative of the other, so that they can be differentiated as often as wanted::

    spread   common -> own    the identity;          gradients, which are own there, are summed over ranks
    total    own -> common    the sum over ranks;    the gradient, which is common, goes to every rank as it is

With L_r the mean loss of rank r's images, all ranks having as many, L(w) = total(L_r(spread(w))) / N is the mean loss of all
images, its gradient is the mean of the ranks' gradients, and both are common. (These are f and g of 1909.08053 §3.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from oche.core.architecture import Mix
from oche.devices.process_group import Ranks


class _Spread(torch.autograd.Function):
    """``apply(ranks, *tensors)`` → as many, the same."""

    @staticmethod
    def forward(ctx: Any, ranks: Ranks, *tensors: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        ctx.ranks = ranks
        ctx.set_materialize_grads(False)
        return tuple(t.view_as(t) for t in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:  # type: ignore[override]
        return None, *_where_given(_Total, ctx.ranks, gradients)


class _Total(torch.autograd.Function):
    """``apply(ranks, *tensors)`` → as many, summed over ranks by a single all-reduce."""

    @staticmethod
    def forward(ctx: Any, ranks: Ranks, *tensors: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        ctx.ranks = ranks
        ctx.set_materialize_grads(False)
        flat = ranks.sum(torch.cat([t.flatten() for t in tensors]))
        pieces = flat.split([t.numel() for t in tensors])
        return tuple(torch.empty_like(t).copy_(p.view(t.shape)) for t, p in zip(tensors, pieces, strict=True))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:  # type: ignore[override]
        return None, *_where_given(_Spread, ctx.ranks, gradients)


def _where_given(function: Any, ranks: Ranks, tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
    """``function`` of those that are there. Which ones are is the same on every rank: the graphs are."""
    given = [t for t in tensors if t is not None]
    found = iter(function.apply(ranks, *given) if given else ())
    return [None if t is None else next(found) for t in tensors]


def spread(ranks: Ranks, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Common tensors for own use. Those without a gradient stay as they are."""
    live = [t if t.requires_grad else None for t in tensors]
    found = _where_given(_Spread, ranks, live)
    return tuple(t if s is None else s for t, s in zip(tensors, found, strict=True))


def spread_mixes(ranks: Ranks, mixes: Mapping[str, Mix]) -> dict[str, Mix]:
    """The same for mixtures."""
    weights = [t for mix in mixes.values() for t in (mix.ops, mix.edges) if t is not None]
    found = iter(spread(ranks, weights))
    return {
        name: mix._replace(ops=next(found), edges=None if mix.edges is None else next(found))
        for name, mix in mixes.items()
    }


def mean(ranks: Ranks, x: Tensor) -> Tensor:
    """The common mean of own tensors."""
    (found,) = _Total.apply(ranks, x)
    return found / ranks.count


class SyncNorm(nn.BatchNorm2d):
    """BatchNorm whose statistics in training are those of all ranks' images: as many on every one, and all ranks at once.

    Unlike `torch.nn.SyncBatchNorm` it works on CPUs too and has derivatives of every order. State dicts are BatchNorm2d's.
    ``ranks=None``: this rank's images alone, for evaluations that ranks do not share.

    With m, v the mean and variance of x (B, C, H, W) on one rank, and M, V those of all N::

        M = Σ m / N      V = Σ (v + m²) / N − M²      (in float64, where the difference loses nothing that float32 had)
    """

    ranks: Ranks | None = None

    @classmethod
    def of(cls, norm: nn.BatchNorm2d, ranks: Ranks) -> SyncNorm:
        """With the parameters and statistics of ``norm``."""
        made = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        made.__dict__.update({k: v for k, v in norm.__dict__.items() if k in ("_parameters", "_buffers", "training")})
        made.ranks = ranks
        return made

    def forward(self, input: Tensor) -> Tensor:
        if self.ranks is None or not self.training:
            return super().forward(input)
        wide = input if input.dtype == torch.float64 else input.float()
        var, m = torch.var_mean(wide, (0, 2, 3), correction=0)
        m = m.double()
        moments = mean(self.ranks, torch.stack([m, var.double() + m.square()]))
        centre, square = spread(self.ranks, (moments,))[0].unbind()
        spread_out = (square - centre.square()).clamp_min(0)
        self._move(centre.detach(), spread_out.detach(), self.ranks.count * input.numel() // input.shape[1])
        scale = (spread_out + self.eps).rsqrt()
        scale = scale if self.weight is None else scale * self.weight
        shift = -centre * scale if self.bias is None else self.bias - centre * scale
        scale, shift = (t.to(wide.dtype)[:, None, None] for t in (scale, shift))
        return torch.addcmul(shift, wide, scale).to(input.dtype)

    def _move(self, centre: Tensor, var: Tensor, n: int) -> None:
        """Moves the running statistics, which have the unbiased variance of ``n`` values a channel."""
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        count = self.num_batches_tracked
        if count is not None:
            count.add_(1)
        momentum = 1.0 / float(count or 1) if self.momentum is None else self.momentum
        for kept, new in ((self.running_mean, centre), (self.running_var, var * (n / max(n - 1, 1)))):
            kept.lerp_(new.to(kept.dtype), momentum)


def synchronise(net: nn.Module, ranks: Ranks) -> None:
    """Puts a `SyncNorm` in the place of every BatchNorm2d of ``net``."""
    for module in [*net.modules()]:
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(module, name, SyncNorm.of(child, ranks))


@contextmanager
def apart(net: nn.Module) -> Iterator[None]:
    """Within, each rank's BatchNorms know its own images alone: ranks do different things."""
    norms = {m: m.ranks for m in net.modules() if isinstance(m, SyncNorm)}
    for m in norms:
        m.ranks = None
    try:
        yield
    finally:
        for m, ranks in norms.items():
            m.ranks = ranks
