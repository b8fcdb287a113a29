"""What stands on an edge, against networks written a second time: loops over channels and candidates, in float64."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from edges_by_hand import SPACE, mixtures, normal
from oche.core.config.serialize import from_dict, to_dict
from oche.spaces import AuxiliarySkip, EdgeBuilder, MixedEdge, PartialEdge, PathDropout, SkipDropout
from oche.spaces.mixed_ops import Edge, set_step

# --- what is random ---------------------------------------------------------------------------------------------------

RANDOM = {
    "skip dropout": SkipDropout(start=0.5, warmup=1.0),
    "path dropout": PathDropout(r=0.3),
    "inside": PartialEdge(k=2, of=AuxiliarySkip(of=SkipDropout(start=0.5, warmup=1.0))),
}


@pytest.mark.parametrize("builder", RANDOM.values(), ids=RANDOM)
def test_draws_follow_from_the_seed_alone(builder):
    net, x, mix = SPACE.supernet(builder).double(), normal(2, 3, 8, 8), mixtures(SPACE)
    set_step(net, 0.6, 1)
    torch.manual_seed(0)
    first = net(x, mix)
    torch.rand(3)
    assert torch.equal(net(x, mix), first)  # evaluations of one step share their draws
    set_step(net, 0.6, 2)
    assert not torch.allclose(net(x, mix), first)
    set_step(net, 0.6, 1)
    assert torch.equal(net(x, mix), first)


@pytest.mark.parametrize("builder", RANDOM.values(), ids=RANDOM)
def test_nothing_is_drawn_without_a_seed_nor_in_evaluation(builder):
    net, x, mix = SPACE.supernet(builder).double(), normal(2, 3, 8, 8), mixtures(SPACE)
    set_step(net, 0.6, None)
    first = net(x, mix)
    set_step(net, 0.6, 4)
    assert not torch.allclose(net(x, mix), first)
    net.eval()
    drawn = net(x, mix)
    set_step(net, 0.6, None)
    assert torch.equal(net(x, mix), drawn)


def test_every_edge_draws_its_own():
    net = SPACE.supernet(SkipDropout(start=0.5))
    set_step(net, 0.0, 0)
    seeds = [m.seed for m in net.modules() if isinstance(m, Edge)]
    assert len(set(seeds)) == len(seeds) == 15


# --- values -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Holder:
    edge: EdgeBuilder = MixedEdge()


@pytest.mark.parametrize(
    "builder",
    [MixedEdge(), PartialEdge(k=2, of=AuxiliarySkip(beta=(0.5, 0.1))), *RANDOM.values()],
    ids=lambda b: type(b).__name__,
)
def test_builders_can_stand_in_configurations(builder):
    assert from_dict(Holder, to_dict(Holder(builder))) == Holder(builder)


def test_names_of_weights_are_stable():
    """Checkpoints name weights so."""
    names = set(SPACE.supernet().state_dict())
    assert {"stem.0.weight", "cells.2.edges.4.candidates.3.1.weight", "head.2.bias"} <= names
    assert "cells.0.edges.0.inner.candidates.3.1.weight" in SPACE.supernet(PartialEdge()).state_dict()
    assert isinstance(SPACE.supernet().cells[0].edges[0].candidates[2], nn.Identity)
