"""Network morphisms: larger networks that compute the same function (Net2Net, 1511.05641; Elsken et al., 1711.04528).

Shapes: images (B, C, H, W).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from oche.core.errors import OcheError


def widen(net: nn.Module, wide: nn.Module, noise: float = 0.0, generator: torch.Generator | None = None) -> nn.Module:
    """Fill ``wide`` with the weights of ``net``, so that both compute the same function; return it (Net2Wider, 1511.05641 §3.1).

    ``wide`` is the same network with m times as many channels, m an integer, with global pooling. Every channel is copied m
    times, next to itself, with its BatchNorm statistics. What reads it divides its weights by m. This holds through
    concatenations, depthwise convolutions and sums. ``noise``: copies differ by that share of the spread of a tensor,
    since equal ones would stay equal for ever; 0 keeps the function exactly. Optimizers of ``net`` do not fit ``wide``.

    Deviation 1: all layers are widened together. The paper widens one, and draws which units are copied.

    Raises `OcheError` if ``wide`` is not ``net`` in another width.
    """
    if not any(isinstance(m, nn.AdaptiveAvgPool2d) for m in wide.modules()):
        raise OcheError("a network that flattens its map cannot be widened so; use one with global pooling, head=()")
    own, other = net.state_dict(), wide.state_dict()
    if own.keys() != other.keys():
        name = min(own.keys() ^ other.keys())
        raise OcheError(
            f"only one of the two networks has {name}; build both from the same genotype, with other channels"
        )
    with torch.no_grad():
        factor = max(
            (b.shape[0] // a.shape[0] for a, b in zip(own.values(), other.values(), strict=True) if a.dim()), default=1
        )
        for name, into in other.items():
            value = _widened(own[name], into, factor, name)
            if noise and value.dim() > 1:
                value = value + noise * value.std() * torch.randn(value.shape, generator=generator, dtype=value.dtype)
            into.copy_(value)
    return wide


def _widened(value: Tensor, into: Tensor, factor: int, name: str) -> Tensor:
    """Return ``value`` with its channels copied ``factor`` times, where ``into`` has more of them."""
    ratios = [b / a for a, b in zip(value.shape, into.shape, strict=False)]
    if value.dim() != into.dim() or any(r not in (1, factor) for r in ratios) or any(r != 1 for r in ratios[2:]):
        raise OcheError(
            f"{name} has shape {tuple(into.shape)}, and widening {tuple(value.shape)} by {factor} gives another; use channels "
            "that are a multiple"
        )
    if value.dim() and ratios[0] == factor:
        value = value.repeat_interleave(factor, 0)
    if value.dim() > 1 and ratios[1] == factor:
        value = value.repeat_interleave(factor, 1) / factor
    return value


def deepen(
    layers: nn.Sequential, after: int, channels: int, kernel: int = 3, seen: Tensor | None = None
) -> nn.Sequential:
    """Return ``layers`` with a convolution, BatchNorm and ReLU behind the ReLU number ``after``, which change nothing
    (Net2Deeper, 1511.05641 §3.2).

    The kernel copies each channel. The BatchNorm undoes itself: γ = √(σ² + ε), β = μ. ``seen``: the values (B, C, H, W)
    there, whose mean and variance μ and σ² are; then nothing changes in training mode on this batch either. None: 0 and 1.
    The ReLU changes nothing since ReLU(ReLU(x)) = ReLU(x).

    Raises `OcheError` if there is no ReLU at ``after``, or for an even ``kernel``.
    """
    every = [*layers]
    if not 0 <= after < len(every) or not isinstance(relu := every[after], nn.ReLU):
        raise OcheError(
            f"after={after} names no ReLU; only behind a ReLU an identity layer with its own ReLU changes nothing"
        )
    if kernel % 2 == 0:
        raise OcheError(f"kernel={kernel} has no centre; use an odd number")
    like = next((p for p in layers.parameters()), torch.zeros(()))
    conv = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False).to(like)
    norm = nn.BatchNorm2d(channels).to(like)
    with torch.no_grad():
        nn.init.dirac_(conv.weight)
        if seen is not None:
            norm.running_mean = seen.mean((0, 2, 3)).to(like)
            norm.running_var = seen.var((0, 2, 3), unbiased=False).to(like)
        assert norm.running_var is not None and norm.running_mean is not None
        norm.weight.copy_((norm.running_var + norm.eps).sqrt())
        norm.bias.copy_(norm.running_mean)
    added = (conv, norm, nn.ReLU(relu.inplace))
    return nn.Sequential(*every[: after + 1], *added, *every[after + 1 :]).train(layers.training)


class ConvexSkip(nn.Module):
    """A layer f with a skip connection: λ f(x) + (1 − λ) x with a trained λ, which starts at 1 and changes nothing
    (1711.04528 §3). Maps keep their shape.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        like = next((p for p in layer.parameters()), torch.zeros(()))
        self.share = nn.Parameter(torch.ones((), dtype=like.dtype, device=like.device))

    def forward(self, x: Tensor) -> Tensor:
        return self.share * self.layer(x) + (1 - self.share) * x
