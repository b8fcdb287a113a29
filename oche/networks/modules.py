"""The modules of a network, for loops that look at all of them in every step."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn


def iter_modules(net: nn.Module) -> Iterator[nn.Module]:
    """What ``net.modules()`` gives, in its order, several times as fast: that one hands each module up through all of its
    parents, and a supernet of the published size has more than four thousand."""
    seen: set[nn.Module] = set()
    stack = [net]
    while stack:
        module = stack.pop()
        if module in seen:
            continue
        seen.add(module)
        yield module
        if parts := module._modules:
            stack.extend(part for part in reversed(parts.values()) if part is not None)
