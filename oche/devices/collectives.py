"""Sums over processes as differentiable functions, so that the loss of all processes' images is one function of
common weights.

A value is common if it is the same on every rank, and own if it differs (see `oche.devices.process_group`). Two
functions convert between them. Each is the derivative of the other, so any order of derivative exists::

    copy_to_ranks     common -> own    the identity;         own gradients are summed over ranks
    sum over ranks    own -> common    the sum over ranks;   the common gradient goes to every rank unchanged

Let L_r be the mean loss of rank r's images, with equally many images on each of N ranks. Then L(w) = sum over r of
L_r(copy_to_ranks(w)) / N is the mean loss of all images, its gradient is the mean of the ranks' gradients, and both
are common. (These are f and g of 1909.08053 §3.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from oche.core.architecture import Mix
from oche.devices.process_group import ProcessGroup


class _CopyToRanks(torch.autograd.Function):
    """``apply(processes, *tensors)`` returns the tensors; their gradients are summed over ranks."""

    @staticmethod
    def forward(ctx: Any, processes: ProcessGroup, *tensors: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        ctx.processes = processes
        ctx.set_materialize_grads(False)
        return tuple(t.view_as(t) for t in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:  # type: ignore[override]
        return None, *_apply_to_given(_SumOverRanks, ctx.processes, gradients)


class _SumOverRanks(torch.autograd.Function):
    """``apply(processes, *tensors)`` returns the tensors summed over ranks, by one all-reduce."""

    @staticmethod
    def forward(ctx: Any, processes: ProcessGroup, *tensors: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        ctx.processes = processes
        ctx.set_materialize_grads(False)
        flat = processes.all_reduce(torch.cat([t.flatten() for t in tensors]))
        pieces = flat.split([t.numel() for t in tensors])
        return tuple(torch.empty_like(t).copy_(p.view(t.shape)) for t, p in zip(tensors, pieces, strict=True))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:  # type: ignore[override]
        return None, *_apply_to_given(_CopyToRanks, ctx.processes, gradients)


def _apply_to_given(function: Any, processes: ProcessGroup, tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Apply ``function`` to the tensors that are not None.

    The ranks' graphs are equal, so the same ones are None on every rank.
    """
    given = [t for t in tensors if t is not None]
    found = iter(function.apply(processes, *given) if given else ())
    return [None if t is None else next(found) for t in tensors]


def copy_to_ranks(processes: ProcessGroup, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Turn common tensors into own ones. Tensors without a gradient stay as they are."""
    live = [t if t.requires_grad else None for t in tensors]
    found = _apply_to_given(_CopyToRanks, processes, live)
    return tuple(t if s is None else s for t, s in zip(tensors, found, strict=True))


def copy_mixes_to_ranks(processes: ProcessGroup, mixes: Mapping[str, Mix]) -> dict[str, Mix]:
    """Turn the common weights of mixtures into own ones."""
    weights = [t for mix in mixes.values() for t in (mix.ops, mix.edges) if t is not None]
    found = iter(copy_to_ranks(processes, weights))
    return {
        name: mix._replace(ops=next(found), edges=None if mix.edges is None else next(found))
        for name, mix in mixes.items()
    }


def mean_over_ranks(processes: ProcessGroup, x: Tensor) -> Tensor:
    """Return the common mean of an own tensor."""
    (found,) = _SumOverRanks.apply(processes, x)
    return found / processes.world_size


class SyncNorm(nn.BatchNorm2d):
    """A BatchNorm that, in training, normalises by the statistics of all processes' images. All ranks have equally many.

    Unlike `torch.nn.SyncBatchNorm` it works on CPUs and has derivatives of every order. Its state dict is that of
    BatchNorm2d. ``processes=None``: normalise by this process's images alone, for evaluations that processes do not
    share.

    With m, v the mean and variance of x (B, C, H, W) on one rank, and M, V those of all N ranks::

        M = Σ m / N      V = Σ (v + m²) / N − M²      (in float64, in which the difference loses no float32 digits)
    """

    processes: ProcessGroup | None = None

    @classmethod
    def of(cls, norm: nn.BatchNorm2d, processes: ProcessGroup) -> SyncNorm:
        """Return a SyncNorm with the parameters and statistics of ``norm``."""
        made = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        made.__dict__.update({k: v for k, v in norm.__dict__.items() if k in ("_parameters", "_buffers", "training")})
        made.processes = processes
        return made

    def forward(self, input: Tensor) -> Tensor:
        if self.processes is None or not self.training:
            return super().forward(input)
        wide = input if input.dtype == torch.float64 else input.float()
        var, m = torch.var_mean(wide, (0, 2, 3), correction=0)
        m = m.double()
        moments = mean_over_ranks(self.processes, torch.stack([m, var.double() + m.square()]))
        centre, square = copy_to_ranks(self.processes, (moments,))[0].unbind()
        variance = (square - centre.square()).clamp_min(0)
        self._update_running_statistics(
            centre.detach(), variance.detach(), self.processes.world_size * input.numel() // input.shape[1]
        )
        scale = (variance + self.eps).rsqrt()
        scale = scale if self.weight is None else scale * self.weight
        shift = -centre * scale if self.bias is None else self.bias - centre * scale
        scale, shift = (t.to(wide.dtype)[:, None, None] for t in (scale, shift))
        return torch.addcmul(shift, wide, scale).to(input.dtype)

    def _update_running_statistics(self, centre: Tensor, var: Tensor, n: int) -> None:
        """Update the running statistics; the running variance is the unbiased one of ``n`` values per channel."""
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        count = self.num_batches_tracked
        if count is not None:
            count.add_(1)
        momentum = 1.0 / float(count or 1) if self.momentum is None else self.momentum
        for kept, new in ((self.running_mean, centre), (self.running_var, var * (n / max(n - 1, 1)))):
            kept.lerp_(new.to(kept.dtype), momentum)


def synchronise_batchnorms(net: nn.Module, processes: ProcessGroup) -> None:
    """Replace every BatchNorm2d of ``net`` by a `SyncNorm`."""
    for module in [*net.modules()]:
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(module, name, SyncNorm.of(child, processes))


@contextmanager
def local_statistics(net: nn.Module) -> Iterator[None]:
    """Within, BatchNorms normalise by this process's images alone, because processes do different work."""
    norms = {m: m.processes for m in net.modules() if isinstance(m, SyncNorm)}
    for m in norms:
        m.processes = None
    try:
        yield
    finally:
        for m, processes in norms.items():
            m.processes = processes
