"""Weights that no loss depends on rest."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from oche.bilevel.cuda_graph_replay import replay
from oche.networks.operations import OPERATIONS
from oche.spaces import operation
from recorded_graphs import Plain
from replayed_searches import run, silent, state
from single_path_cells import apart, make


@pytest.fixture(scope="module", autouse=True)
def own_operations():
    """A candidate that has no part in the form, and one that has: three stages, of other kernels and dilations."""

    @operation("swish_alone")
    def swish(channels, stride, affine):
        return nn.Sequential(nn.SiLU(), nn.Conv2d(channels, channels, 3, stride, 1, groups=channels))

    @operation("thrice")
    def thrice(channels, stride, affine):
        def stage(kernel, s, dilation):
            depthwise = nn.Conv2d(
                channels, channels, kernel, s, dilation * (kernel // 2), dilation, channels, bias=False
            )
            return [nn.ReLU(), depthwise, nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels)]

        dense = [nn.ReLU(), nn.Conv2d(channels, channels, 3, 1, 2, 2, bias=False), nn.BatchNorm2d(channels)]
        return nn.Sequential(*stage(3, stride, 3), *dense, *stage(5, 1, 1))

    yield
    del OPERATIONS["swish_alone"], OPERATIONS["thrice"]


NONE, SKIP, SEP = 0, 3, 4
EMPTY = {
    "nothing at all": [NONE] * 5,
    "a convolution of an empty node": [NONE, NONE, SKIP, NONE, SEP],
    "a convolution of an empty node alone": [NONE, NONE, NONE, NONE, SEP],
    "nothing of the last but one cell": [NONE, SEP, NONE, SEP, SEP],
}


@pytest.mark.slow
@pytest.mark.parametrize("choice", EMPTY.values(), ids=EMPTY)
def test_what_no_loss_depends_on_rests(choice):
    """As in the plain form, also where a gradient is zero by chance: momentum and decay move that."""
    plain, chosen = make("first order"), make("first order")
    assert replay(chosen, silent, Plain())
    for task in (plain, chosen):
        run(task, range(2))
        noise = {name: 100 * F.one_hot(torch.tensor(choice), 8) for name in task.groups}
        task._noise = lambda step, noise=noise: noise
        run(task, range(2, 5))
    assert not apart(state(plain), state(chosen))


@pytest.mark.slow
def test_nodes_that_lead_nowhere_rest_with_what_stands_before_them():
    """In NAS-Bench-201 the last node alone is used: what enters another one may be chosen, and matter to nobody."""
    choices = [[1, 3, 2, 0, 0, 1], [0, 0, 3, 3, 0, 3], [3, 3, 0, 3, 0, 0], [0, 0, 0, 3, 3, 3], [0] * 6]
    for choice in choices:
        plain, chosen = make("NAS-Bench-201"), make("NAS-Bench-201")
        assert replay(chosen, silent, Plain())
        for task in (plain, chosen):
            run(task, range(2))
            noise = {"cell": 100 * F.one_hot(torch.tensor(choice), 5)}
            task._noise = lambda step, noise=noise: noise
            run(task, range(2, 5))
        assert not apart(state(plain), state(chosen)), choice
