"""Edges of the Triton form: partial channels, dense candidates, and those it does not know."""

import os

import pytest
import torch

from oche.kernels.triton import cell as gpu
from oche.kernels.triton import depthwise as depthwise_kernels
from oche.kernels.triton import weighted_sum as sum_kernels
from oche.networks.forms import node_states
from oche.networks.operations import FactorizedReduce
from oche.spaces.edge_variants import AuxiliarySkip, PartialEdge, PartialOperation, SkipDropout
from triton_cells import Cell

pytestmark = pytest.mark.slow  # kernels are interpreted

pytest.importorskip("triton", reason="Triton is not installed: pip install triton")


if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip(
        "kernels run in Triton's interpreter here: TRITON_INTERPRET=1, as conftest sets it", allow_module_level=True
    )


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Several tiles a map, where maps are small."""
    monkeypatch.setattr(sum_kernels, "TILE", 512)
    monkeypatch.setattr(depthwise_kernels, "CHUNK", 1)


@pytest.mark.parametrize("builder", [PartialEdge(2, SkipDropout()), AuxiliarySkip()])
def test_edges_that_it_does_not_know(builder):
    Cell(builder, candidates=("none", "skip_connect", "sep_conv_3x3"), channels=4).check()


def unused(*args):
    raise AssertionError("a module computed")


PARTIAL = ("none", "max_pool_3x3", "skip_connect", "dil_conv_3x3")


@pytest.mark.parametrize("stride, size, scale", [(1, (4, 3), True), (2, (5, 4), False)])
def test_partial_channels(stride, size, scale, monkeypatch):
    cell = Cell(PartialEdge(2), stride, size, channels=4, scale=scale, candidates=PARTIAL)
    want = cell.run(node_states)
    monkeypatch.setattr(PartialOperation, "forward", unused)
    cell.check(want=want)


def test_partial_channels_where_little_is_alive():
    """A node that only "none" reaches, which still has what bypasses it; an edge without any candidate; one unknown."""
    candidates = ("none", "skip_connect", "conv_7x1_1x7", "dil_conv_3x3")
    cell = Cell(PartialEdge(3), channels=6, scale=True, candidates=candidates)
    cell.active = ((0,), (0,), (), (2, 3), (0, 1))
    cell.check()


DENSE = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


@pytest.mark.parametrize("stride, size, affine", [(1, (4, 3), False), (2, (5, 3), True)])
def test_dense_candidates(stride, size, affine, monkeypatch):
    """Those of NAS-Bench-201, whose pools have no BatchNorm; where the map shrinks a factorised reduction among them."""
    cell = Cell(stride=stride, size=size, affine=affine, pool_norm=False, candidates=DENSE, channels=3)
    assert all(len(gpu.known_candidates(edge, tuple(range(5)))) == 4 for edge in cell.edges)
    want = cell.run(node_states)
    monkeypatch.setattr(torch.nn.Sequential, "forward", unused)
    monkeypatch.setattr(FactorizedReduce, "forward", unused)
    cell.check(want=want)
