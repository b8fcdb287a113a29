"""The NAS-Bench-201 space: published counts, and its networks against ones written a second time, in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import oracles_conv as oracle
from oche.core.architecture import Genotype, Mix, alive_candidates, all_alive, top_k
from oche.core.errors import OcheError
from oche.core.nasbench201 import OPERATIONS, to_text
from oche.cost import flops
from oche.networks.nasbench201 import build
from oche.spaces import PartialEdge, nb201
from oche.spaces.mixed_ops import set_step

CLOSE = dict(rtol=1e-9, atol=1e-11)
SPACE = nb201(channels=3, cells=1, classes=4, image=(8, 8))
CELL = "|nor_conv_1x1~0|+|skip_connect~0|none~1|+|avg_pool_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"


def every(op):
    return f"|{op}~0|+|{op}~0|{op}~1|+|{op}~0|{op}~1|{op}~2|"


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shaken(net):
    """``net`` in float64, with norms that are not at their initial values."""
    net = net.double()
    generator = torch.Generator().manual_seed(1)
    for name, t in [*net.named_parameters(), *net.named_buffers()]:
        if t.ndim == 1 and t.is_floating_point() and name.split(".")[-1] != "num_batches_tracked":
            t.data.copy_(torch.rand(t.shape, generator=generator, dtype=torch.float64) + 0.5)
    return net


# --- the networks, written a second time: weights in the order of the released code


def conv(x, ws, affine, stride=1):
    """ReLU, convolution of the kernel that comes next, norm."""
    weight = ws.take()
    return ws.norm(F.conv2d(x.relu(), weight, stride=stride, padding=weight.shape[2] // 2), affine)


def operate(name, x, ws, affine):
    simple = {"none": lambda: 0 * x, "skip_connect": lambda: x, "avg_pool_3x3": lambda: oracle.avg_pool(x, 1)}
    return simple[name]() if name in simple else conv(x, ws, affine)


def network(x, net, cells, edge):
    """Logits; ``edge(x, ws, e)`` is what edge e of a cell carries, edges by target, then by source."""
    ws = oracle.Weights(net.parameters(), None if net.training else net.buffers())
    x = ws.norm(F.conv2d(x, ws.take(), padding=1), True)
    for stage in range(3):
        if stage:
            h, w = x.shape[2:]
            windows = lambda t: F.pad(t, (0, w % 2, 0, h % 2)).unfold(2, 2, 2).unfold(3, 2, 2).sum((4, 5))  # noqa: B023, E731
            beside = conv(conv(x, ws, True, 2), ws, True)
            x = oracle.pointwise(windows(x) / windows(torch.ones_like(x)), ws.take()) + beside
        for _ in range(cells):
            nodes, e = [x], 0
            for node in range(1, 4):
                total = 0
                for source in range(node):
                    total, e = total + edge(nodes[source], ws, e), e + 1
                nodes.append(total)
            x = nodes[3]
    x = ws.norm(x, True).relu().mean((2, 3))
    logits = x @ ws.take().T + ws.take()
    assert ws.done()
    return logits


def mixture(seed=0, alive=None, scale=None):
    ops = normal(6, 5, seed=seed).softmax(1)
    alive = torch.ones(6, 5, dtype=torch.bool) if alive is None else alive
    return Mix((ops * alive).requires_grad_(), scale, alive_candidates(alive))


def weighted(mix, affine=False):
    def edge(x, ws, e):
        total = 0
        for o, name in enumerate(OPERATIONS):
            total = total + mix.ops[e, o] * operate(name, x, ws, affine)
        return total if mix.edges is None else mix.edges[e] * total

    return edge


@pytest.mark.slow
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("size, cells", [((8, 8), 2), ((9, 11), 1)], ids=str)
def test_supernet(size, cells, affine):
    net = shaken(nb201(channels=3, cells=cells, classes=4, in_channels=2, image=size, affine=affine).supernet())
    x, mix = normal(3, 2, *size), mixture(scale=normal(6, seed=9).exp())
    ours, want = net(x, {"cell": mix}), network(x, net, cells, weighted(mix, affine))
    assert ours.shape == (3, 4)
    torch.testing.assert_close(ours, want, **CLOSE)
    leaves, probe = [*net.parameters(), mix.ops], normal(3, 4, seed=2)
    got, expected = (
        torch.autograd.grad((out * probe).sum(), leaves, allow_unused=True, materialize_grads=True)
        for out in (ours, want)
    )
    size_of = max(g.abs().max() for g in expected)
    for g, e in zip(got, expected, strict=True):
        torch.testing.assert_close(g / size_of, e / size_of, rtol=0, atol=1e-10)
    net.eval()
    torch.testing.assert_close(net(x, {"cell": mix}), network(x, net, cells, weighted(mix, affine)), **CLOSE)


def test_what_is_dead_is_not_evaluated():
    alive = torch.rand(6, 5, generator=torch.Generator().manual_seed(2)) < 0.5
    alive[2] = False
    alive[4] = torch.tensor([True, False, False, False, False])
    net, x, mix = shaken(SPACE.supernet()), normal(3, 3, 8, 8), mixture(alive=alive)
    torch.testing.assert_close(net(x, {"cell": mix}), network(x, net, 1, weighted(mix)), **CLOSE)
    for cell in (net.cells[i] for i in (0, 2, 4)):
        ran = {
            (e, o): int(norm.num_batches_tracked)
            for e, edge in enumerate(cell.edges)
            for o, op in enumerate(edge.candidates)
            for norm in op.modules()
            if isinstance(norm, nn.BatchNorm2d)
        }
        assert len(ran) == 12 and all(n == int(alive[pair]) for pair, n in ran.items())


def test_norms_without_running_statistics_use_the_batch_in_evaluation_too():
    tracked, free = SPACE.supernet().double(), nb201(channels=3, cells=1, classes=4, track=False).supernet().double()
    free.load_state_dict({k: v for k, v in tracked.state_dict().items() if k in free.state_dict()})
    x, mixes = normal(5, 3, 8, 8), {"cell": mixture()}
    assert torch.equal(free(x, mixes), tracked(x, mixes))
    buffers = {name for name, _ in tracked.named_buffers()} - {name for name, _ in free.named_buffers()}
    assert len(buffers) == 3 * 3 * 12 and all(".candidates." in name for name in buffers)


def test_edge_builders_stand_here_too():
    space = nb201(channels=4, cells=1, classes=3)
    net, x, mixes = space.supernet(PartialEdge(k=4)).double(), normal(2, 3, 8, 8), {"cell": mixture()}
    set_step(net, 0.5, 1)
    assert net(x, mixes).shape == (2, 3)
    assert net.cells[0].edges[0].inner.candidates[3][1].weight.shape == (1, 1, 3, 3)


# --- the network of one cell


@pytest.mark.parametrize("size", [(8, 8), (11, 9)], ids=str)
@pytest.mark.parametrize("text", [CELL, every("nor_conv_3x3"), every("none"), every("skip_connect")])
def test_final_network(text, size):
    net = shaken(build(text, classes=4, channels=3, cells=2, in_channels=1, image=size))
    ops = [edge.split("~")[0] for edge in text.replace("+", "").split("|") if edge]
    x = normal(3, 1, *size)
    for _ in range(2):
        want = network(x, net, 2, lambda x, ws, e: operate(ops[e], x, ws, True))
        torch.testing.assert_close(net(x), want, **CLOSE)
        net.eval()


def test_a_genotype_may_list_its_edges_in_any_order_and_leave_out_none():
    shuffled = Genotype.parse(
        "Genotype(cell=[('nor_conv_3x3', 2, 3), ('skip_connect', 0, 2), ('nor_conv_3x3', 1, 3), ('avg_pool_3x3', 0, 3),"
        " ('nor_conv_1x1', 0, 1)], cell_concat=[3])"
    )
    a, b = build(shuffled, classes=4, channels=3, cells=1), build(CELL, classes=4, channels=3, cells=1)
    a.load_state_dict(b.state_dict())
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(a(x), b(x))


def test_drop_path_spares_identities():
    x = torch.rand(8, 3, 8, 8)
    for text, spared in ((every("skip_connect"), True), (every("avg_pool_3x3"), False)):
        net = build(text, classes=2, channels=2, cells=1)
        plain = net(x)
        net.set_drop_path(0.9)
        assert torch.allclose(net(x), plain) == spared


# --- published counts


@pytest.mark.parametrize(
    "op, classes, weights",  # the benchmark's API: least and most, in millions: 0.073306 and 1.531546, 0.079156 and 1.537396
    [("none", 10, 73_306), ("nor_conv_3x3", 10, 1_531_546), ("none", 100, 79_156), ("nor_conv_3x3", 100, 1_537_396)],
)
def test_networks_have_the_published_number_of_weights(op, classes, weights):
    with torch.device("meta"):
        assert sum(p.numel() for p in build(every(op), classes=classes).parameters()) == weights


@pytest.mark.parametrize("op, millions", [("none", 7.78305), ("nor_conv_3x3", 220.11969)])
def test_networks_cost_what_the_benchmark_says(op, millions):
    """Its FLOPs count a multiplication and an addition as one, as ours do as two; they include norms and pools."""
    net, x = build(every(op), classes=10), torch.zeros(1, 3, 32, 32)
    convs = flops(net, lambda: net(x)) / 2e6
    assert convs == pytest.approx(millions, rel=0.02) and convs < millions


def test_the_supernet_has_as_many_weights_as_the_released_code_without_its_idle_biases():
    with torch.device("meta"):
        net = nb201().supernet()
    cell = sum(6 * (1 + 9) * c * c for c in (16, 32, 64))
    biases = sum(5 * 6 * 2 * c for c in (16, 32, 64))
    assert sum(p.numel() for p in net.parameters()) == 73_306 + 5 * cell == 1_692_826 - biases


# --- cells of the space


def test_every_edge_keeps_its_best_candidate_even_none():
    dag = SPACE.groups["cell"]
    strength = torch.tensor(
        [[5, 1, 2, 3, 4.0], [1, 5, 2, 3, 4], [0, 0, 5, 0, 0], [0, 0, 0, 5, 0], [0, 0, 0, 0, 5], [5, 0, 0, 0, 0]]
    )
    kept = top_k(strength, all_alive(dag, 5), dag, SPACE.candidates)
    assert torch.equal(kept, strength == 5)
    text = "|none~0|+|skip_connect~0|nor_conv_1x1~1|+|nor_conv_3x3~0|avg_pool_3x3~1|none~2|"
    assert to_text(SPACE.read({"cell": kept})) == text
    alive = all_alive(dag, 5)
    alive[0, 0] = False  # a candidate that is dead is not kept
    assert to_text(SPACE.read({"cell": top_k(strength, alive, dag, SPACE.candidates)})).startswith("|avg_pool_3x3~0|")


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"channels": 0}, "channels=0"),
        ({"cells": 0}, "cells=0"),
        ({"image": (4, 32)}, "8 x 8"),
        ({"candidates": ("nor_conv_3x3", "nor_conv_3x3")}, "each once"),
        ({"candidates": ("nor_conv3x3",)}, "did you mean 'nor_conv_3x3'"),
    ],
)
def test_impossible_spaces_are_refused(fields, words):
    with pytest.raises(OcheError, match=words):
        nb201(**fields)


def test_impossible_networks_are_refused():
    with pytest.raises(OcheError, match=r"has cells 'normal', 'reduce'; one of NAS-Bench-201 has only 'cell'"):
        build(Genotype.parse("Genotype(normal=[('skip_connect', 0), ('skip_connect', 1)], normal_concat=[2], "
                             "reduce=[('skip_connect', 0), ('skip_connect', 1)], reduce_concat=[2])"), classes=2)  # fmt: skip
    with pytest.raises(OcheError, match="unknown operation 'nor_conv_5x5'"):
        build(every("nor_conv_5x5"), classes=2)
    with pytest.raises(OcheError, match=r"drop_path=1\.0"):
        build(CELL, classes=2, drop_path=1.0)
