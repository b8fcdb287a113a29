"""The supernet of the DARTS space and of the seed document, against an oracle and published counts."""

import pytest
import torch
from torch import nn

import oracles_conv as oracle
from cell_networks import count, normal, setting, shaken, weights
from oche.core.architecture import Mix
from oche.methods.relaxations import Softmax
from oche.networks.operations import DARTS_CANDIDATES
from oche.spaces import darts, seed

CLOSE = dict(rtol=1e-9, atol=1e-11)


def test_supernet_has_the_published_number_of_weights():
    assert count(darts(channels=16, cells=8, classes=10).supernet) == 1_930_618


# (space, H × W): 1 and 3 input channels, odd maps, neighbouring reductions, both stems, the seed's variant
SPACES = {
    "darts": (darts(channels=2, cells=3, classes=3), (8, 8)),
    "odd": (darts(channels=2, cells=3, classes=3, in_channels=1), (9, 11)),
    "mnist": (darts(channels=2, cells=6, nodes=2, classes=3, in_channels=1), (28, 28)),
    "shallow": (darts(channels=3, cells=2, nodes=3, classes=2), (8, 10)),
    "single": (darts(channels=2, cells=1, nodes=1, classes=2), (8, 8)),
    "imagenet stem": (darts(channels=2, cells=3, nodes=2, classes=3, stem="imagenet"), (33, 40)),
    "seed": (seed(channels=2, cells=5, classes=3, image=(8, 8), head=(6, 5)), (8, 8)),
    "seed, odd": (seed(channels=2, cells=3, classes=3, image=(9, 11), in_channels=1, head=(6,)), (9, 11)),
}


def mixes(space, alive=None):
    """Softmax mixtures of random logits as leaves, so that gradients by mixture weight can be compared."""
    out = {}
    for k, (kind, dag) in enumerate(space.groups.items()):
        mask = torch.ones(len(dag), len(space.candidates), dtype=torch.bool) if alive is None else alive[kind]
        mix = Softmax()(normal(*mask.shape, seed=k), mask, dag, None, 0.0)
        out[kind] = mix._replace(ops=mix.ops.detach().requires_grad_())
    return out


@pytest.mark.slow
@pytest.mark.parametrize("name", SPACES)
def test_supernet(name):
    space, size = SPACES[name]
    net, mix = shaken(space.supernet()), mixes(space)
    x = normal(4, space.in_channels, *size)
    rows = {kind: m.ops for kind, m in mix.items()}
    ws = weights(net)
    want = oracle.supernet(x, ws, rows, **setting(space))
    ours = net(x, mix)
    assert ws.done() and ours.shape == (4, space.classes)
    torch.testing.assert_close(ours, want, **CLOSE)

    leaves = [*net.parameters(), *rows.values()]
    probe = normal(*ours.shape, seed=1)
    got, expected = (
        torch.autograd.grad((out * probe).sum(), leaves, allow_unused=True, materialize_grads=True)
        for out in (ours, want)
    )
    scale = max(g.abs().max() for g in expected)
    for g, e in zip(got, expected, strict=True):  # what a later norm removes is rounding only, so one scale for all
        torch.testing.assert_close(g / scale, e / scale, rtol=0, atol=1e-10)

    net.eval()
    torch.testing.assert_close(net(x, mix), oracle.supernet(x, weights(net), rows, **setting(space)), **CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["darts", "seed"])
def test_dead_candidates_are_as_good_as_absent(name):
    """A mask leaves the function of the full mixture with weight 0, and does not run what is dead."""
    space, size = SPACES[name]
    generator = torch.Generator().manual_seed(3)
    alive = {}
    for kind, dag in space.groups.items():
        alive[kind] = torch.rand(len(dag), len(space.candidates), generator=generator) < 0.4
        alive[kind][1] = False  # an edge without any candidate
        alive[kind][2] = torch.tensor([c == "none" for c in space.candidates])  # an edge with "none" alone
    net, mix = shaken(space.supernet()), mixes(space, alive)
    x = normal(4, space.in_channels, *size)
    want = oracle.supernet(x, weights(net), {kind: m.ops for kind, m in mix.items()}, **setting(space))
    torch.testing.assert_close(net(x, mix), want, **CLOSE)
    for cell in net.cells:
        for e, edge in enumerate(cell.edges):
            for o, op in enumerate(edge.candidates):
                norms = [m for m in op.modules() if isinstance(m, nn.BatchNorm2d)]
                assert all(m.num_batches_tracked == int(alive[cell.kind][e, o]) for m in norms)


def test_nothing_alive_gives_zeros_of_the_right_shape():
    space, size = SPACES["odd"]
    alive = {kind: torch.zeros(len(dag), 8, dtype=torch.bool) for kind, dag in space.groups.items()}
    net = space.supernet().double()
    x = normal(2, 1, *size)
    torch.testing.assert_close(net(x, mixes(space, alive)), net.head[-1].bias.expand(2, -1), **CLOSE)


def test_edge_weights_scale_all_that_an_edge_carries():
    space, size = SPACES["darts"]
    net = shaken(space.supernet())
    x = normal(3, 3, *size)
    plain = mixes(space)
    scale = {kind: torch.linspace(0.1, 2, len(dag), dtype=torch.float64) for kind, dag in space.groups.items()}
    scaled = {kind: Mix(m.ops, scale[kind], m.active) for kind, m in plain.items()}
    folded = {kind: Mix(m.ops * scale[kind][:, None], None, m.active) for kind, m in plain.items()}
    torch.testing.assert_close(net(x, scaled), net(x, folded), **CLOSE)


def test_logits_that_single_out_a_genotype_give_it_back():
    space = darts(channels=2, cells=8)
    drawn = space.random(torch.Generator().manual_seed(0))
    alphas = {}
    for kind, dag in space.groups.items():
        alphas[kind] = torch.zeros(len(dag), len(DARTS_CANDIDATES))
        for op, source, target in drawn.cells[kind].edges:
            alphas[kind][dag.edges.index((source, target)), DARTS_CANDIDATES.index(op)] = 3.0
        alphas[kind][:, 0] += 1.0  # "none" leads nowhere
    assert space.genotype(alphas) == drawn
