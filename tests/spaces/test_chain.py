"""The space of chains: its size, its masks, its supernet against the discrete network, its costs, and what it refuses."""

import math

import pytest
import torch

import oche
from oche.core.architecture import Mix, PathDag, Shape, alive_candidates
from oche.core.blocks import choice_name
from oche.core.errors import OcheError
from oche.core.genotypes import get
from oche.cost import flops, parameters
from oche.cost.expected_cost import COUNTS, cost_model, expected_cost
from oche.spaces import ChainSpace, PartialEdge, chain, fbnet, proxyless, space_of
from oche.training.losses import frozen_statistics

SPACE = chain(
    first=("conv_k3_c4", "mb_k3_e1_c4"), widths=(4, 6), layers=(1, 2), strides=(1, 2), last="conv_k1_c8",
    candidates=("none", "mb_k3_e1", "mb_k5_e2"), classes=3, in_channels=1, image=(9, 8),
)  # fmt: skip


def one_hot(space, choices):
    ops = torch.zeros(len(choices), len(space.candidates))
    ops[range(len(choices)), choices] = 1
    return {"chain": Mix(ops, None, tuple((o,) for o in choices))}


def masks(space, choices):
    kept = torch.zeros(len(choices), len(space.candidates), dtype=torch.bool)
    kept[range(len(choices)), choices] = True
    return {"chain": kept}


def test_the_graph_is_a_path_with_the_numbers_of_the_genotype():
    assert SPACE.groups == {"chain": PathDag(nodes=3, inputs=3)}
    assert SPACE.dag.edges == ((2, 3), (3, 4), (4, 5)) and SPACE.dag.incoming == ((0,), (1,), (2,))
    assert SPACE.shapes == (Shape(4, 4), Shape(4, 6, 2), Shape(6, 6))
    assert SPACE.alive("chain").tolist() == [[True] * 3, [False, True, True], [True] * 3]
    genotype = SPACE.read(masks(SPACE, [0, 2, 1]))
    assert [op for op, *_ in genotype.chain.edges] == [
        "conv_k3_c4", "mb_k3_e1_c4", "none", "mb_k5_e2_s2_c6", "mb_k3_e1_c6", "conv_k1_c8",
    ]  # fmt: skip
    assert SPACE.searched_operations(genotype) == {"none", "mb_k5_e2", "mb_k3_e1"}


def test_the_published_spaces_have_their_sizes():
    sizes = [math.prod(space.alive("chain").sum(1).tolist()) for space in (proxyless(), fbnet())]
    assert sizes == [221_502_229_807_900_608, 9**16 * 8**6]  # of ProxylessNAS: 6^6 · 7^15
    for space, names in ((fbnet(), ("FBNET_A", "FBNET_B", "FBNET_C")), (proxyless(), ())):
        for name in names:
            edges = get(name).chain.edges
            found = {(i, j): choice_name(op) for op, i, j in edges}
            assert all(found[edge] in space.candidates for edge in space.dag.edges)
    # Weights of a released network as the sum of what its layers cost in the space.
    model = cost_model(fbnet(), COUNTS["parameters"])
    assert model.of(get("FBNET_C")) == 5_570_664
    assert model.bounds[0] < model.of(get("FBNET_C")) < model.bounds[1]


@pytest.mark.parametrize("choices", [[0, 1, 0], [2, 2, 1], [1, 1, 2]])
def test_one_candidate_a_layer_is_the_discrete_network(choices):
    torch.manual_seed(0)
    supernet = SPACE.supernet().double().train()
    genotype = SPACE.read(masks(SPACE, choices))
    net = oche.build(genotype, classes=3, in_channels=1, image=(9, 8)).double().train()
    parts = [(net.stem, supernet.stem), (net.head, supernet.head), (net.cells[0], supernet.before[0])]
    kept = [(layer, o) for layer, o in zip(supernet.cells, choices, strict=True) if o]
    parts += [(cell.block, layer.edges[0].candidates[o]) for cell, (layer, o) in zip(net.cells[1:], kept, strict=True)]
    for mine, its in parts:
        mine.load_state_dict(its.state_dict())
    x = torch.randn(4, 1, 9, 8, dtype=torch.float64)
    with frozen_statistics(supernet):
        out = supernet(x, {"chain": one_hot(SPACE, choices)["chain"]._replace(
            ops=one_hot(SPACE, choices)["chain"].ops.double())})  # fmt: skip
    torch.testing.assert_close(net(x), out, rtol=1e-10, atol=1e-10)


def test_a_mixture_is_the_sum_and_the_identity_beside_it():
    """The sums of ProxylessNAS and FBNet agree: weights that sum to 1, a skip, and an identity beside each block."""
    torch.manual_seed(1)
    layer = SPACE.supernet().double().cells[2]
    x, m = torch.randn(2, 6, 5, 4, dtype=torch.float64), torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
    blocks = [layer.edges[0].candidates[o] for o in (1, 2)]
    fbnet_sum = m[0] * x + sum(w * (block(x) + x) for w, block in zip(m[1:], blocks, strict=True))
    torch.testing.assert_close(layer(x, m, (0, 1, 2)), fbnet_sum)
    assert layer(x, m, ()) is x  # a layer without candidates is left out
    reduces = SPACE.supernet().double().cells[1]
    nothing = reduces(torch.randn(2, 4, 9, 8, dtype=torch.float64), m, ())
    assert nothing.shape == (2, 6, 5, 4) and not nothing.any()


def test_costs_add_up_to_those_of_the_network():
    generator = torch.Generator().manual_seed(0)
    models = {kind: cost_model(SPACE, COUNTS[kind]) for kind in ("parameters", "flops")}
    for _ in range(4):
        genotype = SPACE.random(generator)
        net = oche.build(genotype, classes=3, in_channels=1, image=(9, 8)).eval()
        assert models["parameters"].of(genotype) == parameters(net)
        assert models["flops"].of(genotype) == flops(net, lambda net=net: net(torch.zeros(1, 1, 9, 8)))
    model, alive = models["flops"], SPACE.alive("chain")
    least, most = model.bounds
    mix = Mix(torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 0, 0]]), None, alive_candidates(alive))
    assert least == model.fixed + model.groups["chain"][1, 1] < most  # "none" is not cheapest where it is not allowed
    cost = expected_cost(mix, alive, SPACE.dag, SPACE.candidates, model.groups["chain"])
    assert float(cost) + model.fixed == least


def test_random_chains_are_of_the_space():
    generator = torch.Generator().manual_seed(3)
    drawn = [SPACE.random(generator) for _ in range(60)]
    assert len(set(map(str, drawn))) == 3 * 2 * 3


def test_the_space_around_a_chain():
    space = space_of(get("PROXYLESS_CPU"))
    assert isinstance(space, ChainSpace) and (space.image, space.classes) == ((224, 224), 1000)
    assert len(space.dag) == 22 and space.first == ("conv_k3_s2_c40",) and space.last == "conv_k1_c1432"
    assert cost_model(space, COUNTS["parameters"]).of(get("PROXYLESS_CPU")) == 4_361_648
    assert space_of(get("DARTS_V2")) == oche.spaces.darts() and space_of(get("RESNET")) == oche.spaces.nb201()


@pytest.mark.parametrize(
    "fields, words",
    [
        (dict(candidates=("none",)), "list at least one block"),
        (dict(candidates=("mb_k3_e3", "mb_k3_e3")), "each once"),
        (dict(candidates=("mb_k3_e3", "sep_conv_3x3")), "no block of a chain is named 'sep_conv_3x3'"),
        (dict(candidates=("mb_k3_e3_s2",)), "no choice for every layer"),
        (dict(widths=(8, 16)), "each stage has one of each"),
        (dict(layers=(0, 1, 1)), "1 or more"),
        (dict(strides=(2, 2, 2), image=(4, 4)), "has shrunk to 1 x 1 before block"),
        (dict(candidates=("mb_k3_e3_g3",)), "which 3 groups do not divide"),
        (dict(first=()), "begins and ends with a convolution"),
        (dict(last="mb_k3_e1_c8"), "begins and ends with a convolution"),
        (dict(classes=0), "leave nothing to build"),
    ],
)
def test_what_is_refused(fields, words):
    with pytest.raises(OcheError, match=words):
        chain(**fields)


def test_edges_that_bypass_channels_are_refused():
    with pytest.raises(OcheError, match="layer 3 goes from 16 channels to 24, and channels that bypass an operation"):
        PartialEdge(k=4).check(chain())
