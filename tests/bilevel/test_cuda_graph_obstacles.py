"""Why steps stay eager."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torch import nn

from cells import darts
from oche.bilevel.cuda_graph_replay import find_obstacle, replay
from oche.bilevel.search import Search
from oche.core.optimizers import ExponentiatedGradient
from oche.methods.perturbations import RandomNoise
from oche.methods.recipe import SearchRecipe
from oche.methods.relaxations import EdgeNormalised
from oche.methods.stochastic_relaxations import Dirichlet, GumbelHard, UniformPath
from oche.networks.operations import OPERATIONS
from oche.spaces import operation
from oche.spaces.edge_variants import AuxiliarySkip, PartialEdge, SkipDropout
from oche.spaces.mixed_ops import MixedEdge
from recorded_graphs import Tape
from replayed_searches import DOUBLE, make
from replayed_trainings import search, training
from tiny_images import dataset, space
from tiny_text import corpus
from tiny_text import space as recurrent


class Ranks:
    is_distributed, world_size = True, 2


def test_several_ranks_stay_eager_and_say_why():
    task, said = training(), []
    task.engine = replace(DOUBLE, processes=Ranks())
    assert not replay(task, said.append, Tape())
    assert said == ["no CUDA graphs: gradients are averaged over 2 ranks in every step"]
    assert "update" not in vars(task)


def test_a_reason_to_stay_eager_is_told():
    assert "GumbelHard" in find_obstacle(search(relax=GumbelHard()))


@pytest.mark.parametrize(
    "fields, word",
    [
        (dict(relax=Dirichlet()), "Dirichlet"),
        (dict(relax=EdgeNormalised(UniformPath())), "UniformPath"),
        (dict(relax=GumbelHard(), edge=PartialEdge(2, SkipDropout(0.3))), "GumbelHard"),
        (dict(perturb=RandomNoise()), "RandomNoise"),
        (dict(edge=AuxiliarySkip()), "AuxiliaryOperation"),
        (dict(edge=PartialEdge(2, SkipDropout(0.3))), "SkipDropoutOperation"),
    ],
)
def test_what_cannot_be_replayed_stays_eager_and_says_why(fields, word):
    task, said = make(SearchRecipe(**fields)), []
    assert word in find_obstacle(task)
    assert not replay(task, said.append, Tape())
    assert len(said) == 1 and word in said[0] and "\n" not in said[0]
    assert "update" not in vars(task)


def test_an_optimiser_of_the_host_is_refused():
    task = Search(
        space(),
        SearchRecipe(arch_optimizer=ExponentiatedGradient(), batch=6, steps=3),
        dataset(),
        seed=0,
        engine=DOUBLE,
    )
    assert "MirrorDescent" in find_obstacle(task)


def test_without_a_device_the_steps_stay_eager():
    said = []
    assert not replay(make(SearchRecipe()), said.append)
    assert said == ["no CUDA graphs: they need a CUDA device, this is cpu"]


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


# --- searches ---------------------------------------------------------------------------------------------------------

SMALL = dict(channels=4, cells=3, nodes=2, classes=3, in_channels=1, image=(8, 8))


@pytest.mark.parametrize(
    "candidate, edge, words",
    [
        ("swish_alone", MixedEdge(), "candidate 'swish_alone' has no part in a form that all candidates share"),
        ("conv_7x1_1x7", MixedEdge(), "candidate 'conv_7x1_1x7' has no part in a form that all candidates share"),
        ("skip_connect", SkipDropout(0.3), "SkipDropoutOperation is no plain mixed operation"),
    ],
)
def test_what_has_no_part_in_the_form_stays_eager_and_says_so(candidate, edge, words):
    space, method = darts(**SMALL, candidates=("none", candidate)), SearchRecipe(relax=GumbelHard(), edge=edge, steps=9)
    task, said = Search(space, replace(method, batch=6), dataset(), seed=0, engine=DOUBLE), []
    assert not replay(task, said.append, Tape())
    assert said == [f"no CUDA graphs: {find_obstacle(task)}"] and words in said[0] and "\n" not in said[0]


def test_recurrent_cells_stay_eager():
    data = corpus()
    space = recurrent().fit(data)
    task = Search(
        space, space.adapt_search(SearchRecipe(relax=GumbelHard(), batch=4, steps=9)), data, seed=0, engine=DOUBLE
    )
    assert "have no form that indexes candidates on the device" in find_obstacle(task)
