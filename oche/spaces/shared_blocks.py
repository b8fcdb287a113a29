"""One block for all candidates of a layer: kernels and expansions as masks of the largest (FBNetV2, 2004.05565; Single-Path NAS,
1904.02877).

All candidates share the weights of the block with the largest kernel and expansion. A smaller expansion is the first channels of
it, a smaller kernel its centre. With g_o the weight of candidate o among the blocks (without "none"), p the weight of all of
them, c_o its hidden channels and k_o its kernel::

    s[i, j] = Σ_o g_o · 1{(i, j) within the centre k_o × k_o}      mask of the depthwise kernel
    M[ch]   = Σ_o g_o · 1{ch < c_o}                                mask of the hidden channels
    layer   = p · project(M ∘ depthwise(expand(x); W ∘ s))

So n candidates cost what the largest does. The mask of the channels follows the BatchNorm and the activation: before them a
masked channel would leak the BatchNorm's shift. Where one candidate is active, its slice alone is computed; it is what the masks
give, to rounding.

Shapes: O candidates, B images, C channels, H × W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oche.core.architecture import NONE, Shape
from oche.core.blocks import Block, find_block
from oche.core.errors import OcheError
from oche.core.registry import component
from oche.networks.chain import build_block
from oche.spaces.base import Space
from oche.spaces.mixed_ops import Edge, EdgeBuilder


class SharedOperation(Edge):
    """The block that all candidates of a layer share."""

    def __init__(self, space: Space, shape: Shape) -> None:
        super().__init__()
        blocks = [None if name == NONE else Block.parse(name) for name in space.candidates]
        kernels, expansions = zip(*((b.kernel, b.expansion) for b in blocks if b is not None), strict=True)
        largest = Block(
            "mb", max(kernels), max(expansions), activation=next(b.activation for b in blocks if b is not None)
        )
        made = build_block(largest, shape, space.affine)
        *first, depthwise, self.norm_2, self.act, project, self.norm_3 = made
        assert isinstance(depthwise, nn.Conv2d) and isinstance(project, nn.Conv2d)
        self.expand, self.norm_1 = (cast(nn.Conv2d, first[0]), first[1]) if first else (None, None)
        self.depthwise, self.project = depthwise, project
        hidden = torch.tensor([0 if b is None else b.expansion * shape.c_in for b in blocks])
        kernel = torch.tensor([0 if b is None else b.kernel for b in blocks])
        self.sizes = [*zip(hidden.tolist(), kernel.tolist(), strict=True)]  # of each candidate; (0, 0) for "none"
        ring = torch.arange(largest.kernel).sub(largest.kernel // 2).abs()
        inside = torch.maximum(ring[:, None], ring) <= (kernel // 2)[:, None, None]  # (O, k, k)
        channels = torch.arange(largest.expansion * shape.c_in) < hidden[:, None]  # (O, C)
        self.register_buffer("inside", (inside & (kernel > 0)[:, None, None]).float(), persistent=False)
        self.register_buffer("channels", channels.float(), persistent=False)

    inside: Tensor
    channels: Tensor
    expand: nn.Conv2d | None
    norm_1: nn.Module | None

    def forward(self, x: Tensor, weights: Tensor, active: tuple[int, ...]) -> Tensor | None:
        chosen = [o for o in active if self.sizes[o][0]]
        if not chosen:
            return None
        if len(chosen) == 1:
            return weights[chosen[0]] * self.sliced(x, *self.sizes[chosen[0]])
        g = torch.zeros_like(weights).index_put((torch.tensor(chosen, device=x.device),), weights[chosen])
        whole = g.sum()
        g = g / whole.clamp_min(torch.finfo(g.dtype).tiny)
        return whole * self.masked(x, g @ self.channels.to(g.dtype), torch.tensordot(g, self.inside.to(g.dtype), 1))

    def masked(self, x: Tensor, channels: Tensor, kernel: Tensor) -> Tensor:
        """Return the output for x (B, c_in, H, W) under masks of the hidden channels (C,) and of the kernel (k, k)."""
        if self.expand is not None and self.norm_1 is not None:
            x = self.act(self.norm_1(self.expand(x)))
        conv = self.depthwise
        x = F.conv2d(x, conv.weight * kernel, None, conv.stride, conv.padding, groups=conv.groups)
        return self.norm_3(self.project(self.act(self.norm_2(x)) * channels[:, None, None]))

    def sliced(self, x: Tensor, hidden: int, kernel: int) -> Tensor:
        """Return the output of the candidate with the first ``hidden`` channels and the centre of the kernel.

        Deviation 1: weights outside the slice have a gradient of 0, not none, so that weight decay and momentum move them.
        """
        if self.expand is not None and self.norm_1 is not None:
            x = self.act(_norm_slice(self.norm_1, F.conv2d(x, self.expand.weight[:hidden]), hidden))
        cut = (self.depthwise.kernel_size[0] - kernel) // 2
        weight = self.depthwise.weight[:hidden, :, cut : cut + kernel, cut : cut + kernel]
        x = F.conv2d(x, weight, None, self.depthwise.stride, kernel // 2, groups=hidden)
        x = self.act(_norm_slice(self.norm_2, x, hidden))
        return self.norm_3(F.conv2d(x, self.project.weight[:, :hidden]))


def _norm_slice(norm: nn.Module, x: Tensor, channels: int) -> Tensor:
    """Return the first ``channels`` of a BatchNorm applied to x (B, channels, H, W), in its mode."""
    assert isinstance(norm, nn.BatchNorm2d)
    keeps = not norm.training or norm.track_running_stats
    mean, var, scale, shift = (
        None if t is None else t[:channels]
        for t in (
            norm.running_mean if keeps else None,
            norm.running_var if keeps else None,
            norm.weight,
            norm.bias,
        )
    )
    momentum = 0.0 if norm.momentum is None else norm.momentum
    return F.batch_norm(x, mean, var, scale, shift, norm.training or mean is None, momentum, norm.eps)


@component
@dataclass(frozen=True)
class SharedBlocks(EdgeBuilder):
    """Kernels and expansions as masks of one block for each layer of a chain; see `oche.spaces.shared_blocks`.

    Raises `OcheError` for candidates that are no slices of the largest: other operations than inverted residuals, groups,
    squeeze-excitation, different activations, and expansions of 1 beside others.
    """

    def __call__(self, space: Space, shape: Shape) -> SharedOperation:
        return SharedOperation(space, shape)

    def check(self, space: Space) -> None:
        blocks = [find_block(name) for name in space.candidates if name != NONE]
        if not blocks or any(b is None or b.kind != "mb" for b in blocks):
            raise OcheError(
                f"SharedBlocks shares the weights of inverted residuals, and candidates={space.candidates} are others; "
                "use edge=MixedEdge(), or --space chain"
            )
        found = [b for b in blocks if b is not None]
        odd = [b.choice for b in found if b.groups > 1 or b.squeeze]
        mixed = len({b.activation for b in found}) > 1 or len({b.expansion == 1 for b in found}) > 1
        if odd or mixed:
            which = odd[0] if odd else ", ".join(b.choice for b in found)
            raise OcheError(
                f"SharedBlocks cuts all candidates from the largest, and {which} cannot be cut: use blocks without groups and "
                "squeeze-excitation, of one activation, with expansions above 1; or edge=MixedEdge()"
            )
