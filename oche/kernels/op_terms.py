"""What a candidate operation consists of, read off its module: the pieces that fused forms know how to compute."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import cast
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from oche.networks.operations import FactorizedReduce, Pointwise


@dataclass(frozen=True)
class Stage:
    """ReLU, convolution, BatchNorm. ``depthwise`` stands before the pointwise ``dense``, or ``dense`` is k × k itself; two
    of them are the halves of a factorised reduction, the second one pixel further."""

    depthwise: nn.Conv2d | None
    dense: tuple[nn.Conv2d, ...]
    norm: nn.BatchNorm2d

    @property
    def conv(self) -> nn.Conv2d:
        """The one with a kernel, a dilation and a stride."""
        return self.depthwise or self.dense[0]

    @property
    def kernel(self) -> int:
        """Its side; 0 for a factorised reduction."""
        return 0 if len(self.dense) == 2 else self.conv.kernel_size[0]

    @property
    def dilation(self) -> int:
        return self.conv.dilation[0]

    @property
    def stride(self) -> int:
        return self.dense[0].each if isinstance(self.dense[0], Pointwise) else self.conv.stride[0]

    @cached_property
    def form(self) -> tuple[int, int, int, int]:
        """What of it does not change: kernel, dilation, stride, and whether it has a depthwise convolution."""
        return self.kernel, self.dilation, self.stride, int(self.depthwise is not None)

    @property
    def parameters(self) -> list[Tensor]:
        convs = [conv.weight for conv in (self.depthwise, *self.dense) if conv is not None]
        return [*convs, *([self.norm.weight, self.norm.bias] if self.norm.affine else [])]


@dataclass(frozen=True)
class Pool:
    """3 × 3 pooling, with the BatchNorm behind it if there is one."""

    largest: bool
    stride: int
    norm: nn.BatchNorm2d | None


@dataclass(frozen=True)
class Skip:
    """The input itself."""


Piece = tuple[Stage, ...] | Pool | Skip | None


_READ: WeakKeyDictionary[nn.Module, Piece] = WeakKeyDictionary()
_UNREAD = object()


def pieces(module: nn.Module) -> Piece:
    """What ``module`` consists of: stages one behind the other, a pool, a skip; None where it is something else. Each module
    is looked at once."""
    found = _READ.get(module, _UNREAD)
    if found is _UNREAD:
        found = _READ[module] = _read(module)
    return cast(Piece, found)


def _read(module: nn.Module) -> Piece:
    if type(module) is nn.Identity:
        return Skip()
    if type(module) in (nn.MaxPool2d, nn.AvgPool2d):
        return _pool(module, None)
    if type(module) is FactorizedReduce:
        return (Stage(None, (module.conv_1, module.conv_2), module.bn),)
    if type(module) is not nn.Sequential:
        return None
    parts = list(module)
    if len(parts) == 2 and type(parts[0]) in (nn.MaxPool2d, nn.AvgPool2d) and type(parts[1]) is nn.BatchNorm2d:
        return _pool(parts[0], parts[1]) if _plain_norm(parts[1]) else None
    return _stages(parts)


def _pool(module: nn.Module, norm: nn.BatchNorm2d | None) -> Pool | None:
    module = cast("nn.MaxPool2d | nn.AvgPool2d", module)
    window = _one(module.kernel_size), _one(module.padding)
    if window != (3, 1) or module.ceil_mode or _one(module.stride) not in (1, 2):
        return None
    if isinstance(module, nn.AvgPool2d):
        if module.count_include_pad or module.divisor_override:
            return None
    elif _one(module.dilation) != 1 or module.return_indices:
        return None
    return Pool(isinstance(module, nn.MaxPool2d), cast(int, _one(module.stride)), norm)


def _one(value: object) -> object:
    """The number that both directions share, if they do."""
    if isinstance(value, tuple):
        return value[0] if len(set(value)) == 1 else value
    return value


def _stages(parts: list[nn.Module]) -> tuple[Stage, ...] | None:
    found = []
    while parts:
        length = 4 if len(parts) > 3 and isinstance(parts[2], nn.Conv2d) else 3
        stage = _stage(parts[:length])
        if stage is None:
            return None
        found.append(stage)
        parts = parts[length:]
    return tuple(found) or None


def _stage(parts: list[nn.Module]) -> Stage | None:
    if len(parts) < 3 or type(parts[0]) is not nn.ReLU or type(parts[-1]) is not nn.BatchNorm2d:
        return None
    convs = parts[1:-1]
    if not all(type(c) in (nn.Conv2d, Pointwise) for c in convs) or not _plain_norm(cast(nn.BatchNorm2d, parts[-1])):
        return None
    first, dense, norm = cast(nn.Conv2d, convs[0]), cast(nn.Conv2d, convs[-1]), cast(nn.BatchNorm2d, parts[-1])
    depthwise = first if len(convs) == 2 else None
    if depthwise is not None:
        c = depthwise.in_channels
        if not depthwise.groups == c == depthwise.out_channels or (dense.kernel_size, dense.stride) != ((1, 1), (1, 1)):
            return None
        if isinstance(dense, Pointwise) and dense.each != 1:
            return None
    if dense.groups != 1 or not all(map(_same_padding, convs)):
        return None
    stage = Stage(depthwise, (dense,), norm)
    return stage if stage.stride in (1, 2) else None


def _same_padding(conv: nn.Module) -> bool:
    """Whether both directions are alike and an odd kernel stands in the middle of its window; no bias, zeros around."""
    conv = cast(nn.Conv2d, conv)
    k, d, p, s = (_one(v) for v in (conv.kernel_size, conv.dilation, conv.padding, conv.stride))
    if not all(isinstance(v, int) for v in (k, d, p, s)) or conv.bias is not None or conv.padding_mode != "zeros":
        return False
    k, d, p = cast(int, k), cast(int, d), cast(int, p)
    return k % 2 == 1 and p == d * (k - 1) // 2


def _plain_norm(norm: nn.BatchNorm2d) -> bool:
    """Whether its running statistics, if any, move by a fixed momentum."""
    return norm.momentum is not None
