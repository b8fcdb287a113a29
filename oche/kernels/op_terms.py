"""Recognise candidate operations: which stages, pool or skip a module consists of. Fused forms compute these."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import cast
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from oche.networks.operations import FactorizedReduce, Pointwise


@dataclass(frozen=True)
class Stage:
    """ReLU, convolution, BatchNorm.

    ``depthwise`` precedes the pointwise ``dense``; without it, ``dense`` is k × k itself. Two of ``dense`` are the
    halves of a factorised reduction, the second of which reads one pixel further.
    """

    depthwise: nn.Conv2d | None
    dense: tuple[nn.Conv2d, ...]
    norm: nn.BatchNorm2d

    @property
    def conv(self) -> nn.Conv2d:
        """The convolution with the kernel, dilation and stride of the stage."""
        return self.depthwise or self.dense[0]

    @property
    def kernel(self) -> int:
        """The kernel's side; 0 for a factorised reduction."""
        return 0 if len(self.dense) == 2 else self.conv.kernel_size[0]

    @property
    def dilation(self) -> int:
        return self.conv.dilation[0]

    @property
    def stride(self) -> int:
        return self.dense[0].stride_by_slicing if isinstance(self.dense[0], Pointwise) else self.conv.stride[0]

    @cached_property
    def form(self) -> tuple[int, int, int, int]:
        """(kernel, dilation, stride, 1 if it has a depthwise convolution). These never change."""
        return self.kernel, self.dilation, self.stride, int(self.depthwise is not None)

    @property
    def parameters(self) -> list[Tensor]:
        convs = [conv.weight for conv in (self.depthwise, *self.dense) if conv is not None]
        return [*convs, *([self.norm.weight, self.norm.bias] if self.norm.affine else [])]


@dataclass(frozen=True)
class Pool:
    """3 × 3 pooling, and the BatchNorm after it or None."""

    largest: bool
    stride: int
    norm: nn.BatchNorm2d | None


@dataclass(frozen=True)
class Skip:
    """The input itself."""


ParsedOperation = tuple[Stage, ...] | Pool | Skip | None


_PARSED: WeakKeyDictionary[nn.Module, ParsedOperation] = WeakKeyDictionary()
_NOT_PARSED = object()


def parse_operation(module: nn.Module) -> ParsedOperation:
    """Return the stages, the pool or the skip that ``module`` consists of, or None if it is something else.

    Results are cached by module.
    """
    found = _PARSED.get(module, _NOT_PARSED)
    if found is _NOT_PARSED:
        found = _PARSED[module] = _parse(module)
    return cast(ParsedOperation, found)


def _parse(module: nn.Module) -> ParsedOperation:
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
        return _pool(parts[0], parts[1]) if _has_fixed_momentum(parts[1]) else None
    return _stages(parts)


def _pool(module: nn.Module, norm: nn.BatchNorm2d | None) -> Pool | None:
    module = cast("nn.MaxPool2d | nn.AvgPool2d", module)
    window = _if_square(module.kernel_size), _if_square(module.padding)
    if window != (3, 1) or module.ceil_mode or _if_square(module.stride) not in (1, 2):
        return None
    if isinstance(module, nn.AvgPool2d):
        if module.count_include_pad or module.divisor_override:
            return None
    elif _if_square(module.dilation) != 1 or module.return_indices:
        return None
    return Pool(isinstance(module, nn.MaxPool2d), cast(int, _if_square(module.stride)), norm)


def _if_square(value: object) -> object:
    """Return the number that both directions share, or the tuple if they differ."""
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
    if not all(type(c) in (nn.Conv2d, Pointwise) for c in convs) or not _has_fixed_momentum(
        cast(nn.BatchNorm2d, parts[-1])
    ):
        return None
    first, dense, norm = cast(nn.Conv2d, convs[0]), cast(nn.Conv2d, convs[-1]), cast(nn.BatchNorm2d, parts[-1])
    depthwise = first if len(convs) == 2 else None
    if depthwise is not None:
        c = depthwise.in_channels
        if not depthwise.groups == c == depthwise.out_channels or (dense.kernel_size, dense.stride) != ((1, 1), (1, 1)):
            return None
        if isinstance(dense, Pointwise) and dense.stride_by_slicing != 1:
            return None
    if dense.groups != 1 or not all(map(_keeps_size, convs)):
        return None
    stage = Stage(depthwise, (dense,), norm)
    return stage if stage.stride in (1, 2) else None


def _keeps_size(conv: nn.Module) -> bool:
    """Whether a convolution keeps the size at stride 1: square, odd kernel, centred, zero padding, without bias."""
    conv = cast(nn.Conv2d, conv)
    k, d, p, s = (_if_square(v) for v in (conv.kernel_size, conv.dilation, conv.padding, conv.stride))
    if not all(isinstance(v, int) for v in (k, d, p, s)) or conv.bias is not None or conv.padding_mode != "zeros":
        return False
    k, d, p = cast(int, k), cast(int, d), cast(int, p)
    return k % 2 == 1 and p == d * (k - 1) // 2


def _has_fixed_momentum(norm: nn.BatchNorm2d) -> bool:
    """Whether the running statistics move by a fixed momentum."""
    return norm.momentum is not None
