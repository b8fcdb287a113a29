"""Fuse each BatchNorm into the convolution before it: one affine map instead of two, the same function in evaluation mode.

With scale s = γ / √(σ² + ε) for each channel, BN(W ∗ x + b) = (s W) ∗ x + s (b − μ) + β.
"""

from __future__ import annotations

import copy
from collections import Counter
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn

from oche.networks.macro import CifarStem
from oche.networks.operations import FactorizedReduce, Pointwise

N = TypeVar("N", bound=nn.Module)
_SEQUENTIAL_FORWARDS = (nn.Sequential.forward, CifarStem.forward)  # forwards that run all children one after another


def fuse_batchnorm(net: N) -> N:
    """Return a copy of ``net`` in evaluation mode, with every BatchNorm right after a convolution fused into it.

    An identity takes the place of a fused BatchNorm, so other parameters keep their names. Not fused are a BatchNorm
    after a sum, a module that is used in two places, and modules inside an operation with a forward method of its own.
    """
    net = copy.deepcopy(net).eval()
    uses = Counter(id(module) for _, module in net.named_modules(remove_duplicate=False))
    for module in [*net.modules()]:
        if type(module) is FactorizedReduce:
            _fuse_factorized_reduce(module)
        elif isinstance(module, nn.Sequential) and type(module).forward in _SEQUENTIAL_FORWARDS:
            _fuse_sequence(module, uses)
    return net


def _fuse_sequence(sequence: nn.Sequential, uses: Counter[int]) -> None:
    """Fuse each pair of convolution and BatchNorm of ``sequence``. ``uses``: how many places use a module, by its id."""
    for (_, conv), (name, norm) in pairwise(sequence._modules.items()):
        plain = type(conv) in (nn.Conv2d, Pointwise) and type(norm) is nn.BatchNorm2d
        if plain and uses[id(conv)] == uses[id(norm)] == 1 and norm.running_var is not None:
            assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
            _merge(conv, norm, slice(None))
            setattr(sequence, name, nn.Identity())


def _fuse_factorized_reduce(module: FactorizedReduce) -> None:
    """Fuse the BatchNorm of ``module``, whose channels are those of the first convolution, then those of the second."""
    if isinstance(module.bn, nn.BatchNorm2d) and module.bn.running_var is not None:
        cut = module.conv_1.out_channels
        _merge(module.conv_1, module.bn, slice(None, cut))
        _merge(module.conv_2, module.bn, slice(cut, None))
        module.add_module("bn", nn.Identity())


@torch.no_grad()
def _merge(conv: nn.Conv2d, norm: nn.BatchNorm2d, channels: slice) -> None:
    """Fuse the ``channels`` of ``norm`` into ``conv``, in float64."""
    assert norm.running_mean is not None and norm.running_var is not None
    mean, var = norm.running_mean[channels].double(), norm.running_var[channels].double()
    scale, shift = (var + norm.eps).rsqrt(), torch.zeros_like(mean)
    if norm.affine:
        scale, shift = scale * norm.weight[channels].double(), norm.bias[channels].double()
    bias = torch.zeros_like(mean) if conv.bias is None else conv.bias.double()
    dtype = conv.weight.dtype
    conv.weight = nn.Parameter((conv.weight.double() * scale.view(-1, 1, 1, 1)).to(dtype))
    conv.bias = nn.Parameter(((bias - mean) * scale + shift).to(dtype))
