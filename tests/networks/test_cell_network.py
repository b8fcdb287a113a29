"""The networks of oche.spaces against the published numbers and against naive networks (oracles_conv), in float64."""

import pytest
import torch
from torch import nn

import oracles_conv as oracle
from oche.core import genotypes
from oche.core.architecture import Genotype, Mix
from oche.core.errors import OcheError
from oche.methods.relaxations import Softmax
from oche.networks.operations import DARTS, SEED, FactorizedReduce, find_operation, relu_conv_bn
from oche.spaces import build, darts, seed

CLOSE = dict(rtol=1e-9, atol=1e-11)
CIFAR = dict(classes=10)
IMAGENET = dict(classes=1000, channels=48, cells=14, stem="imagenet", image=224)


def normal(*shape, seed=0, **kwargs):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64, **kwargs)


def shaken(net, seed=0):
    """``net`` in float64, with scales, shifts and running statistics that are not 1 and 0."""
    net = net.double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                for t in (module.weight, module.bias, module.running_mean, module.running_var):
                    if t is not None:
                        t.copy_(torch.rand(t.shape, generator=generator, dtype=torch.float64) + 0.5)
    return net


def weights(net):
    return oracle.Weights(net.parameters(), None if net.training else net.buffers())


# --- published counts


def count(make):
    with torch.device("meta"):
        return sum(p.numel() for p in make().parameters())


def test_supernet_has_the_published_number_of_weights():
    assert count(darts(channels=16, cells=8, classes=10).supernet) == 1_930_618


@pytest.mark.parametrize(
    "fields, weights",
    [(CIFAR, 3_349_342), (CIFAR | {"auxiliary": True}, 3_825_768), (IMAGENET, 4_718_752)],
    ids=["cifar", "cifar, auxiliary", "imagenet"],
)
def test_darts_v2_has_the_published_number_of_weights(fields, weights):
    assert count(lambda: build("DARTS_V2", **fields)) == weights


@pytest.mark.parametrize(
    "name, cifar, imagenet",  # millions, as the papers or their code print them
    [
        ("DARTS_V2", "3.3", "4.7"),
        ("PDARTS", "3.4", "4.9"),
        ("PCDARTS_CIFAR", "3.6", "5.3"),
        ("PCDARTS_IMAGENET", None, "5.3"),
        ("GDAS_V1", "3.4", None),
        ("SGAS_CRI1", "3.80", "5.29"),
        ("SGAS_CRI2", "4.09", "5.70"),
        ("SDARTS_ADV", "3.3", None),
    ],
)
def test_published_genotypes_have_the_published_size(name, cifar, imagenet):
    for fields, want in ((CIFAR, cifar), (IMAGENET, imagenet)):
        if want:
            digits = len(want.split(".")[1])
            assert f"{count(lambda fields=fields: build(name, **fields)) / 1e6:.{digits}f}" == want


def test_seed_networks_have_the_size_of_the_seeds_code():
    assert count(seed(channels=16, cells=8, classes=10).supernet) == 28_516_154
    text = """Genotype(
        normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('max_pool_3x3', 1),
                ('skip_connect', 1), ('dil_conv_3x3', 2)], normal_concat=range(2, 5),
        reduce=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('max_pool_3x3', 1),
                ('skip_connect', 1), ('dil_conv_3x3', 2)], reduce_concat=range(2, 5))"""
    shape = dict(channels=16, cells=14, stem="none", widen="after", head=(4096, 1024, 256))
    assert count(lambda: build(text, classes=10, **shape)) == 55_108_586


# --- operations


@pytest.mark.parametrize("size", [(8, 8), (9, 11), (7, 4)], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", [*DARTS, "sep_conv_7x7", "conv_7x1_1x7"])
def test_operations(name, stride, size):
    op = shaken(find_operation(name).build(4, stride, True))
    x = normal(3, 4, *size, requires_grad=True)
    ours = op(x)
    want = oracle.operate(name, x, weights(op), stride, True)
    assert ours.shape == (3, 4, *((n + stride - 1) // stride for n in size))
    torch.testing.assert_close(ours, want, **CLOSE)
    probe, leaves = normal(*ours.shape, seed=1), [x, *op.parameters()]
    if name != "none":
        got, expected = (torch.autograd.grad((out * probe).sum(), leaves) for out in (ours, want))
        torch.testing.assert_close(got, expected, **CLOSE)
    op.eval()
    torch.testing.assert_close(op(x), oracle.operate(name, x, weights(op), stride, True), **CLOSE)


@pytest.mark.parametrize("size", [(8, 8), (9, 11)], ids=str)
@pytest.mark.parametrize("affine", [True, False])
def test_input_adapters(size, affine):
    x = normal(2, 3, *size)
    for module, halve in ((relu_conv_bn(3, 5, affine), False), (FactorizedReduce(3, 5, affine), True)):
        module = shaken(module)
        torch.testing.assert_close(module(x), oracle.adapt(x, weights(module), halve, affine), **CLOSE)


# --- supernets

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


def setting(space):
    is_seed = space.candidates == SEED
    return dict(
        cells=space.cells, nodes=space.nodes, candidates=space.candidates, stem_kind=space.stem,
        affine=is_seed, pool_norm=not is_seed, hidden=len(space.head),
    )  # fmt: skip


def mixes(space, alive=None):
    """Softmax mixtures of random logits as leaves, so that gradients by mixture weight can be compared."""
    out = {}
    for k, (kind, dag) in enumerate(space.groups.items()):
        mask = torch.ones(len(dag), len(space.candidates), dtype=torch.bool) if alive is None else alive[kind]
        mix = Softmax()(normal(*mask.shape, seed=k), mask, dag, None, 0.0)
        out[kind] = mix._replace(ops=mix.ops.detach().requires_grad_())
    return out


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
        alphas[kind] = torch.zeros(len(dag), len(DARTS))
        for op, source, target in drawn.cells[kind].edges:
            alphas[kind][dag.edges.index((source, target)), DARTS.index(op)] = 3.0
        alphas[kind][:, 0] += 1.0  # "none" leads nowhere
    assert space.genotype(alphas) == drawn


# --- final networks

TINY = Genotype.parse("""Genotype(
    normal=[('sep_conv_3x3', 1), ('skip_connect', 0), ('dil_conv_5x5', 2), ('avg_pool_3x3', 0)],
    normal_concat=[3],
    reduce=[('skip_connect', 0), ('max_pool_3x3', 1), ('conv_7x1_1x7', 1), ('skip_connect', 2)],
    reduce_concat=[2, 3])""")

FINAL = {
    "NASNet": (genotypes.NASNet, dict(cells=3), (9, 11)),
    "AmoebaNet": (genotypes.AmoebaNet, dict(cells=3), (8, 8)),
    "DARTS_V2": (genotypes.DARTS_V2, dict(cells=6, in_channels=1), (28, 28)),
    "GDAS_V1": (genotypes.GDAS_V1, dict(cells=2), (8, 8)),
    "auxiliary on 8 x 8": (TINY, dict(cells=5, auxiliary=True, image=32), (32, 32)),
    "auxiliary on 7 x 7": (TINY, dict(cells=3, auxiliary=True, image=28, in_channels=1), (28, 28)),
    "auxiliary, ImageNet": (TINY, dict(cells=3, auxiliary=True, image=224, stem="imagenet"), (224, 224)),
    "ImageNet stem, odd": (genotypes.DARTS_V1, dict(cells=3, stem="imagenet"), (45, 64)),
    "seed": (TINY, dict(cells=5, stem="none", widen="after", head=(7, 6), image=(12, 9)), (12, 9)),
}


def published_form(genotype):
    return (
        ([edge[:2] for edge in genotype.cells[kind].edges], genotype.cells[kind].concat)
        for kind in ("normal", "reduce")
    )


@pytest.mark.parametrize("drop", [0.0, 0.4])
@pytest.mark.parametrize("name", FINAL)
def test_final_network(name, drop):
    genotype, fields, size = FINAL[name]
    net = shaken(build(genotype, classes=3, channels=2, drop_path=drop, **fields))
    x = normal(4, fields.get("in_channels", 3), *size)
    setting = dict(
        cells=fields["cells"], stem_kind=fields.get("stem", "cifar"), aux=fields.get("auxiliary", False),
        hidden=len(fields.get("head", ())),
    )  # fmt: skip
    ws = weights(net)
    torch.manual_seed(0)
    want = oracle.final(x, ws, *published_form(genotype), drop=drop, **setting)
    torch.manual_seed(0)
    ours = net(x)
    assert ws.done()
    pair = ours if setting["aux"] else (ours, None)
    for got, expected in zip(pair, want, strict=True):
        torch.testing.assert_close(got, expected, **CLOSE)
    net.eval()
    setting["aux"] = False  # in evaluation the auxiliary head is idle, and so is drop path
    ws = weights(net)
    torch.testing.assert_close(net(x), oracle.final(x, ws, *published_form(genotype), **setting)[0], **CLOSE)


def test_identities_are_exempt_from_drop_path():
    skips = ", ".join(["('skip_connect', 0), ('skip_connect', 1)"] * 2)
    genotype = f"Genotype(normal=[{skips}], normal_concat=[2, 3], reduce=[{skips}], reduce_concat=[2, 3])"
    x = normal(8, 3, 8, 8)
    for reductions, exempt in (((), True), ((1,), False)):  # where the map shrinks, a skip is no identity
        net = shaken(build(genotype, classes=2, channels=2, cells=2, reductions=reductions, drop_path=0.9))
        dropped = net(x)
        net.drop_path = 0.0
        assert torch.equal(net(x), dropped) == exempt


@pytest.mark.parametrize("make", [lambda **f: darts(**f), lambda **f: build("DARTS_V2", classes=10, **f)])
@pytest.mark.parametrize(
    "fields, words",
    [
        ({"channels": 0}, "channels=0"),
        ({"cells": 0}, "cells=0"),
        ({"image": (7, 32)}, "8 x 8"),
        ({"stem": "resnet"}, "'cifar', 'imagenet' or 'none'"),
        ({"reductions": (20,)}, "cells count from 0"),
    ],
)
def test_impossible_networks_are_refused(make, fields, words):
    with pytest.raises(OcheError, match=words) as caught:
        make(**fields)
    assert len(str(caught.value).splitlines()) == 1
