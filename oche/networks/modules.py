"""Iteration over the modules of a network, for loops that visit all of them in every step."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn


def iter_modules(net: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules of ``net`` in the order of ``net.modules()``, several times faster.

    ``net.modules()`` passes each module up through a generator for each of its parents, and a supernet of the published
    size has more than four thousand modules.
    """
    seen: set[nn.Module] = set()
    stack = [net]
    while stack:
        module = stack.pop()
        if module in seen:
            continue
        seen.add(module)
        yield module
        if children := module._modules:
            stack.extend(child for child in reversed(children.values()) if child is not None)
