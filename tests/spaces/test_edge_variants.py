"""Partial channels, auxiliary skips, skip and path dropout, against their formulas."""

from dataclasses import replace
from math import exp

import pytest
import torch
import torch.nn.functional as F

import oracles_conv as oracle
from edges_by_hand import SPACE, mixtures, normal
from oche.core.architecture import Shape
from oche.core.errors import OcheError
from oche.core.seeds import derive_seed
from oche.spaces import AuxiliarySkip, PartialEdge, PathDropout, SkipDropout, darts, nb201
from oche.spaces.mixed_ops import set_step

CLOSE = dict(rtol=1e-9, atol=1e-11)
FEW = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3")
SIZES = [(8, 8), (9, 11)]


def network(x, net, mix, space, edge):
    """Logits of the supernet; ``edge(x, weights, ws, stride, index)`` is what edge ``index`` of all carries."""
    ws = oracle.Weights(net.parameters(), None if net.training else net.buffers())
    s0, s1, halve = oracle.stem(x, ws, "cifar")
    index = 0
    for i in range(space.cells):
        kind = "reduce" if i in (space.cells // 3, 2 * space.cells // 3) else "normal"
        states = [oracle.adapt(s0, ws, halve, False), oracle.adapt(s1, ws, False, False)]
        e = 0
        for node in range(space.nodes):
            total = 0
            for source in range(2 + node):
                stride = 2 if kind == "reduce" and source < 2 else 1
                carried = edge(states[source], mix[kind].ops[e], ws, stride, index)
                total = total + (1 if mix[kind].edges is None else mix[kind].edges[e]) * carried
                e, index = e + 1, index + 1
            states.append(total)
        s0, s1, halve = s1, torch.cat(states[2:], 1), kind == "reduce"
    logits = oracle.head(s1, ws, 0)
    assert ws.done()
    return logits


def mixed(x, weights, ws, stride, index=0):
    return oracle.mixed(x, weights, ws, stride, FEW, False, True)


def agree(net, mix, space, edge, size=(8, 8)):
    """Outputs, and the gradients by all weights and mixtures, in training mode."""
    x = normal(3, 3, *size, seed=5)
    ours, want = net(x, mix), network(x, net, mix, space, edge)
    torch.testing.assert_close(ours, want, **CLOSE)
    leaves = [*net.parameters(), *(t for m in mix.values() for t in m[:2] if t is not None)]
    probe = normal(*ours.shape, seed=1)
    got, expected = (
        torch.autograd.grad((out * probe).sum(), leaves, allow_unused=True, materialize_grads=True)
        for out in (ours, want)
    )
    scale = max(g.abs().max() for g in expected)
    for g, e in zip(got, expected, strict=True):
        torch.testing.assert_close(g / scale, e / scale, rtol=0, atol=1e-10)


def candidates_called(net, run):
    """(edge, candidate) pairs that ``run()`` evaluates, edges in order over the whole network."""
    called, hooks = [], []
    for i, edge in enumerate(m for m in net.modules() if hasattr(m, "candidates")):
        for o, op in enumerate(edge.candidates):
            hooks.append(op.register_forward_hook(lambda *_, pair=(i, o): called.append(pair)))
    run()
    for hook in hooks:
        hook.remove()
    return called


def partial(k, inner=mixed):
    """Slice, mixed operation, 2 × 2 max-pool of the rest where the map shrinks, concatenate, shuffle."""

    def edge(x, weights, ws, stride, index):
        c = x.shape[1] // k
        out, rest = inner(x[:, :c], weights, ws, stride, index), x[:, c:]
        if stride == 2 and k > 1:
            h, w = rest.shape[2:]
            rest = F.pad(rest, (0, w % 2, 0, h % 2), value=-torch.inf)
            rest = torch.stack([rest[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]).amax(0)
        parts = torch.cat([out, rest], 1) if k > 1 else out
        order = [g * c + j for j in range(c) for g in range(k)]  # the first of every group, then the second …
        return torch.stack([parts[:, i] for i in order], 1)

    return edge


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("k", [1, 2, 4])
def test_partial_channels(k, size):
    net = SPACE.supernet(PartialEdge(k=k)).double()
    agree(net, mixtures(SPACE), SPACE, partial(k), size)
    net.eval()
    x, mix = normal(2, 3, *size), mixtures(SPACE)
    torch.testing.assert_close(net(x, mix), network(x, net, mix, SPACE, partial(k)), **CLOSE)


def test_partial_channels_bypass_an_edge_that_carries_only_none():
    alive = {kind: torch.ones(len(dag), len(FEW), dtype=torch.bool) for kind, dag in SPACE.groups.items()}
    for mask in alive.values():
        mask[::2, 1:] = False
    net, mix, x = SPACE.supernet(PartialEdge()).double(), mixtures(SPACE, alive=alive), normal(3, 3, 8, 8)
    torch.testing.assert_close(net(x, mix), network(x, net, mix, SPACE, partial(4)), **CLOSE)


def test_partial_channels_with_an_auxiliary_skip_inside():
    net = SPACE.supernet(PartialEdge(k=2, of=AuxiliarySkip())).double()
    set_step(net, 0.25, None)
    agree(net, mixtures(SPACE), SPACE, partial(2, auxiliary(0.75)))


@pytest.mark.slow
def test_the_pc_darts_supernet_has_the_published_number_of_weights():
    with torch.device("meta"):
        net = darts(channels=16, cells=8, classes=10).supernet(PartialEdge(k=4))
    assert sum(p.numel() for p in net.parameters()) == 299_578


@pytest.mark.parametrize(
    "space, k, words",
    [
        (
            darts(channels=18),
            4,
            r"cell 0 \(normal\) has 18 channels, which k=4 does not divide.* k among 1, 2, 3, 6, 9",
        ),
        (darts(channels=4), 8, r"cell 0 \(normal\) has 4 channels.* multiple of 8, or k among 1, 2, 4$"),
        (nb201(channels=6), 4, r"cell 0 \(cell\) has 6 channels.* k among 1, 2, 3, 6$"),
    ],
)
def test_channels_that_k_does_not_divide_are_refused_before_anything_is_built(space, k, words):
    for refuse in (
        PartialEdge(k=k).check,
        lambda s: s.supernet(PartialEdge(k=k)),
        AuxiliarySkip(of=PartialEdge(k=k)).check,
    ):
        with pytest.raises(OcheError, match=words):
            refuse(space)
    with pytest.raises(OcheError, match="does not divide"):
        PartialEdge(k=k)(space, Shape.same(space.channels))
    PartialEdge(k=2).check(space)


def auxiliary(beta):
    def edge(x, weights, ws, stride, index):
        out = mixed(x, weights, ws, stride)
        skip = x if stride == 1 else oracle.adapt(x, ws, True, False)
        return out + beta * skip

    return edge


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_an_auxiliary_skip_fades(progress):
    net = SPACE.supernet(AuxiliarySkip()).double()
    set_step(net, progress, None)
    agree(net, mixtures(SPACE, edges=False), SPACE, auxiliary(1 - progress), (9, 11))


def test_a_faded_skip_leaves_the_plain_supernet():
    net, plain = SPACE.supernet(AuxiliarySkip()).double(), SPACE.supernet().double()
    kept = {name.replace(".inner.", "."): t for name, t in net.state_dict().items() if ".skip." not in name}
    plain.load_state_dict(kept)
    x, mix = normal(2, 3, 8, 8), mixtures(SPACE)
    assert not torch.allclose(net(x, mix), plain(x, mix))
    set_step(net, 1.0, None)
    assert torch.equal(net(x, mix), plain(x, mix))


def test_an_auxiliary_skip_flows_beside_none_but_not_on_a_dead_edge():
    edge = AuxiliarySkip(beta=(0.5, 0.5))(SPACE, Shape.same(4))
    x = normal(2, 4, 5, 5)
    torch.testing.assert_close(edge(x, torch.ones(4), (0,)), x / 2)
    dead = {kind: torch.zeros(len(dag), len(FEW), dtype=torch.bool) for kind, dag in SPACE.groups.items()}
    net = SPACE.supernet(AuxiliarySkip()).double()
    logits = net(normal(2, 3, 8, 8), mixtures(SPACE, alive=dead))
    torch.testing.assert_close(logits, net.head[-1].bias.expand(2, -1), **CLOSE)


def test_skip_dropout_follows_the_published_schedule():
    start, published = 0.4, SkipDropout(start=0.4)
    for epoch in range(10):  # what the released code sets before each of the first 10 of 25 epochs
        assert published.rate((epoch + 1) / 25 - (epoch == 9) * 1e-9) == pytest.approx(start * (25 - epoch - 1) / 25)
    for epoch in range(10, 25):
        assert published.rate(epoch / 25) == pytest.approx(start * exp(-0.2 * (epoch - 10)))


def test_skip_dropout_drops_activations_of_identities():
    builder, step = SkipDropout(start=0.5, warmup=0.5), 77
    net = SPACE.supernet(builder).double()
    set_step(net, 0.2, step)

    def edge(x, weights, ws, stride, index):
        if stride == 2:
            return mixed(x, weights, ws, stride)
        g = torch.Generator().manual_seed(derive_seed(step, index))
        keep = (torch.rand(x.shape, generator=g) >= 0.4).double()
        skip = FEW.index("skip_connect")
        without = torch.cat([weights[:skip], weights[skip : skip + 1] * 0, weights[skip + 1 :]])
        return mixed(x, without, ws, stride) + weights[skip] * keep * x / 0.6

    agree(net, mixtures(SPACE), SPACE, edge)


def test_skip_dropout_keeps_means_and_drops_its_share():
    edge = SkipDropout(start=0.3, warmup=1.0)(darts(candidates=("skip_connect",)), Shape.same(16))
    set_step(edge, 0.0, 3)
    out = edge(torch.ones(8, 16, 40, 40, dtype=torch.float64), torch.ones(1), (0,))
    n = out.numel()
    assert abs((out == 0).double().mean() - 0.3) < 5 * (0.3 * 0.7 / n) ** 0.5
    torch.testing.assert_close(out[out > 0], torch.full_like(out[out > 0], 1 / 0.7))


def test_path_dropout_leaves_out_what_it_does_not_evaluate():
    net, mix = SPACE.supernet(PathDropout(r=0.2)).double(), mixtures(SPACE)
    set_step(net, 0.9, 5)
    x = normal(3, 3, 8, 8, seed=5)
    called = candidates_called(net, lambda: net(x, mix))
    assert 0 < len(called) < 15 * 3  # 15 edges of 3 candidates other than none

    def edge(x, weights, ws, stride, index):
        kept = torch.tensor([float((index, o) in called) for o in range(len(FEW))], dtype=torch.float64)
        return mixed(x, weights * kept, ws, stride)

    agree(net, mix, SPACE, edge)


@pytest.mark.parametrize("progress", [0.5, 1.0])
def test_path_dropout_drops_as_often_as_it_says(progress):
    space = darts(candidates=("none", "skip_connect", "max_pool_3x3"), pool_norm=False)
    edge = PathDropout(r=0.25)(space, Shape.same(1))
    x, weights = torch.ones(1, 1, 1, 1), torch.tensor([0.0, 1.0, 2.0])
    seen = []
    for step in range(600):
        set_step(edge, progress, step)
        out = edge(x, weights, (0, 1, 2))
        seen.append(0 if out is None else int(out))  # 1: skip alone, 2: pool alone, 3: both
    p = progress * 0.5
    for value, chance in {0: p * p, 1: p * (1 - p), 2: p * (1 - p), 3: (1 - p) ** 2}.items():
        assert abs(seen.count(value) / 600 - chance) < 5 * (chance * (1 - chance) / 600) ** 0.5


def test_path_dropout_starts_with_all_paths():
    net, plain = SPACE.supernet(PathDropout(r=0.9)).double(), SPACE.supernet().double()
    plain.load_state_dict(net.state_dict())
    set_step(net, 0.0, 1)
    x, mix = normal(2, 3, 8, 8), mixtures(SPACE)
    assert torch.equal(net(x, mix), plain(x, mix))


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: PartialEdge(k=0), "k=0"),
        (lambda: AuxiliarySkip(beta=(1.0, -0.1)), r"beta=\(1.0, -0.1\)"),
        (lambda: SkipDropout(start=1.0), "start=1.0"),
        (lambda: SkipDropout(warmup=1.5), "warmup=1.5"),
        (lambda: SkipDropout(decay=-1.0), "decay=-1.0"),
        (lambda: PathDropout(r=1.0), "r=1.0"),
        (lambda: PathDropout(r=-0.1), "r=-0.1"),
    ],
)
def test_impossible_values_are_refused(make, words):
    with pytest.raises(OcheError, match=words):
        make()


@pytest.mark.parametrize("builder", [AuxiliarySkip(), SkipDropout(), PartialEdge(of=SkipDropout())], ids=str)
def test_spaces_without_a_skip_are_refused(builder):
    space = replace(SPACE, candidates=("none", "sep_conv_3x3"))
    with pytest.raises(OcheError, match=r"'skip_connect', which is not among candidates=.*; add it"):
        space.supernet(builder)
    builder.check(SPACE)
