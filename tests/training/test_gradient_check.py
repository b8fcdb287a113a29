"""Searches in bfloat16: near float32 where functions are smooth, the same in float64, refused where they would be wrong."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F

import oche
from oche.bilevel.search import Search
from oche.cli.main import main
from oche.core.architecture import Shape
from oche.core.errors import OcheError
from oche.core.optimizers import Adam, Sgd
from oche.devices.engine import Engine
from oche.devices.mixed_precision import precision_context
from oche.methods.catalog import METHODS
from oche.methods.discretize import Evolution, GreedyEdge, KeepOps, SampleBest
from oche.methods.hypergradients import FiniteDifference, Neumann, exact, first_order
from oche.methods.method import Stage
from oche.methods.perturbations import RandomNoise
from oche.methods.recipe import SearchRecipe
from oche.runs.checkpoint import load_weights
from oche.spaces.mixed_ops import MixedOperation
from oche.training.gradient_check import check_search_in_bf16
from oche.training.loop import fit_loop
from oche.training.losses import frozen_statistics
from small_searches import LIGHT, RELAXATIONS, small, start
from tiny_images import Kept, dataset, space

CPU, DOUBLE = Engine("cpu"), Engine("cpu", dtype=torch.float64, fused="plain")
W, A = Sgd(lr=0.05, momentum=0.9, decay=0.01, clip=2.0), Adam(lr=0.05, init=0.1)


def method(**fields):
    return SearchRecipe(**{**dict(weight_optimizer=W, arch_optimizer=A, batch=6, steps=4, precision="bf16"), **fields})


def tensors(value):
    if isinstance(value, torch.Tensor):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [t for inner in items for t in tensors(inner)]


def sound(task):
    """Whether all that a search keeps is float32, and numbers."""
    kept = [t for t in tensors(task.state()) if t.is_floating_point()]
    return all(t.dtype != torch.bfloat16 and t.isfinite().all() for t in kept) and all(
        t.dtype == torch.float32 for t in [*task.weights, *task.logits, *(b for b in task.net.buffers() if b.dim())]
    )


# --- near float32


@pytest.fixture
def smooth(monkeypatch):
    """Softplus instead of ReLU, a mean instead of the maximum: rounding changes neither which way a gradient goes."""
    monkeypatch.setattr(F, "relu", lambda x, inplace=False: F.softplus(x))
    monkeypatch.setattr(F, "max_pool2d", lambda x, kernel, stride, *rest, **more: F.avg_pool2d(x, kernel, stride, 1))


def off(x, y):
    """How far ``x`` is from ``y``, of its size; both as one vector."""
    x, y = (torch.cat([t.detach().double().flatten() for t in one]) for one in (x, y))
    return ((x - y).norm() / y.norm()).item()


def both(of, where, hypergrad=first_order, seed=0):
    """What ``of`` gives for the objectives of the same step in bfloat16 and in float64."""
    found = []
    for engine, precision in ((CPU, "bf16"), (DOUBLE, "float32")):
        made = method(precision=precision, hypergrad=hypergrad, batch=16)
        task = Search(where, made, dataset(64, side=where.image[0]), seed=seed, engine=engine)
        if found:
            with torch.no_grad():
                for own, theirs in zip((*task.weights, *task.logits), found[0][1], strict=True):
                    own.copy_(theirs)
        task.begin(0, 0)
        inner, outer = (task._objective(name, 0, dict.fromkeys(task.groups), 0.0) for name in ("train", "val"))
        with frozen_statistics(task.net):
            found.append((of(task, inner, outer), [t.detach().clone() for t in (*task.weights, *task.logits)]))
    return found[0][0], found[1][0]


SPACES = {
    "darts": space(
        channels=4, cells=2, reductions=(1,), candidates=oche.spaces.darts().candidates[1:7], image=(16, 16)
    ),
    "nb201": oche.spaces.nb201(channels=4, cells=1, classes=3, in_channels=1, image=(16, 16)),
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", SPACES)
def test_bounds_of_losses_and_gradients_where_functions_are_smooth(name, seed, smooth):
    """Of the loss 0.2 %, of the gradient of all weights 3 %, of that of the logits 5 %."""

    def of(task, inner, outer):
        loss = inner(task.weights, task.logits)
        gradients = torch.autograd.grad(loss, task.weights + task.logits, allow_unused=True, materialize_grads=True)
        n = len(task.weights)
        return [loss], gradients[:n], gradients[n:]

    got, want = both(of, SPACES[name], seed=seed)
    assert [x[0].dtype for x in got] == [torch.float32] * 3
    loss, weights, logits = (off(x, y) for x, y in zip(got, want, strict=True))
    assert 0 < loss < 0.002 and 1e-4 < weights < 0.03 and 1e-4 < logits < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("hypergrad", [exact, Neumann(2)], ids=["exact", "Neumann"])
@pytest.mark.parametrize("name", SPACES)
def test_second_derivatives_are_near_too(name, hypergrad, smooth):
    """What they add to the gradient at the same weights, by itself: within 10 %. Finite differences are far from that."""
    where = replace(SPACES[name], image=(8, 8))

    def of(task, inner, outer, hypergrad=hypergrad):
        step, w, a = task._look_ahead(0.05), task.weights, task.logits
        slope = torch.autograd.grad(inner(w, a), w, allow_unused=True, materialize_grads=True)
        ahead = w if isinstance(hypergrad, Neumann) else step(w, slope)
        direct = first_order(inner, outer, ahead, a, step)
        return [h - d for h, d in zip(hypergrad(inner, outer, w, a, step), direct, strict=True)]

    error = off(*both(of, where, hypergrad))
    assert error < 0.1
    assert hypergrad is not exact or off(*both(partial(of, hypergrad=FiniteDifference()), where)) > 3 * error


def test_mixtures_weigh_and_sum_in_float32():
    """Weights that bfloat16 cannot tell apart are told apart, and so are their gradients."""
    edge = MixedOperation(space(candidates=("skip_connect", "avg_pool_3x3"), pool_norm=False), Shape.same(2))
    x = torch.randn(4, 2, 8, 8).bfloat16()
    w = torch.tensor([0.1999, 0.2005], requires_grad=True)
    assert w[0].bfloat16() == w[1].bfloat16()
    with precision_context("bf16", x.device):
        out = edge(x, w, (0, 1))
    pooled = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False).float()
    torch.testing.assert_close(out, w[0] * x.float() + w[1] * pooled)
    assert out.dtype == torch.float32
    up = torch.randn(out.shape)
    (got,) = torch.autograd.grad(out, w, up)
    torch.testing.assert_close(got, torch.stack([(up * x.float()).sum(), (up * pooled).sum()]), rtol=1e-5, atol=1e-4)


def test_float64_stays_what_it_is():
    """As a whole search, bit for bit: autocast leaves float64 alone."""
    states = []
    for precision in ("float32", "bf16"):
        task = start(method(precision=precision), engine=DOUBLE)
        fit_loop(task, task.recipe.length, Kept())
        states.append(task.state())
    assert all(map(torch.equal, *map(tensors, states)))


# --- what runs, and what it keeps


def finished(task):
    session = Kept()
    fit_loop(task, task.recipe.length, session)
    task.conclude()
    losses = [
        record[f"{part}_loss"] for record in session.history for part in task.meters if record.get(f"{part}_loss")
    ]
    assert losses and all(map(math.isfinite, losses)) and sound(task)
    return session


@pytest.mark.parametrize("relax", RELAXATIONS, ids=repr)
def test_every_relaxation_searches(relax):
    finished(start(method(relax=relax)))


OFF = {name for name, listed in METHODS.items() if listed.make().method.hypergrad.differences}


@pytest.mark.parametrize("name", sorted({*METHODS} - OFF))
def test_every_method_searches(name):
    steps = 12 if len(METHODS[name].make().method.stages) > 1 else 4
    made = METHODS[name].make(steps=steps, batch=4, precision="bf16")
    stages = tuple(replace(s, depth=1.0, width=1.0) for s in made.method.stages)
    few = {SampleBest: SampleBest(count=2), Evolution: Evolution(cycles=2, population=2, sample=1)}
    select = few.get(type(made.method.select), made.method.select)
    made = replace(made, method=replace(made.method, stages=stages, select=select))
    finished(start(made, small(channels=12)))


def test_forwards_are_in_bfloat16_and_losses_are_not():
    """Of training, validation, look-ahead and scoring alike."""
    task = start(method(hypergrad=exact))
    seen = []
    task.net.register_forward_hook(lambda net, inputs, out: seen.append((torch.is_grad_enabled(), out.dtype)))
    task.begin(0, 0)
    task.step(0, 0.0)
    assert seen == [(True, torch.bfloat16)] * 3
    assert task.meters["val"].sums.dtype != torch.bfloat16
    task.accuracy(task.alive)
    assert set(seen[3:]) == {(False, torch.bfloat16)}


def test_resumed_is_uninterrupted():
    def made():
        return start(method(perturb=RandomNoise(), decide=GreedyEdge(start=0.1, every=0.2), batch_growth=1, steps=6))

    whole = made()
    kept = Kept()
    fit_loop(whole, whole.recipe.length, kept)
    for at in range(1, len(kept.states)):
        again = made()
        fit_loop(again, again.recipe.length, Kept(kept.states[at]))
        assert all(map(torch.equal, *(tensors(task.state()) for task in (whole, again))))


def test_checkpoints_go_from_either_to_the_other():
    """The precision is a setting like the learning rate: what is kept is float32 in both."""
    kept = {}
    for precision in ("float32", "bf16"):
        kept[precision] = Kept()
        task = start(method(precision=precision))
        fit_loop(task, task.recipe.length, kept[precision])
    for precision, other in (("float32", "bf16"), ("bf16", "float32")):
        middle = kept[other].states[1]
        task = start(method(precision=precision))
        fit_loop(task, task.recipe.length, Kept(middle))
        assert task.done == 4 and sound(task)


@pytest.mark.slow
def test_a_run_says_it_and_goes_on_in_the_other(tmp_path):
    made = replace(METHODS["darts"].make(), steps=3, batch=16, precision="bf16")
    run = oche.search("digits", space=oche.spaces.darts(channels=2, cells=2, nodes=1, candidates=LIGHT), method=made,
                      out=tmp_path / "x", limit=64)  # fmt: skip
    assert run.config.search.precision == "bf16" and "precision: bf16" in (run.path / "config.yaml").read_text()
    assert "plain modules, convolutions in bfloat16" in (run.path / "space.json").read_text()
    assert all(
        t.dtype == torch.float32
        for t in load_weights(run.path / "weights.safetensors").values()
        if t.is_floating_point()
    )


# --- the proof


def test_every_stage_is_tried_at_the_sizes_it_will_meet(monkeypatch):
    seen = []

    def prove(net, shape, engine, mixes, *, twice):
        net(torch.zeros(shape).to(memory_format=torch.channels_last), mixes)
        seen.append((len(net.cells), shape, twice, {len(on) for mix in mixes.values() for on in mix.active}))

    monkeypatch.setattr("oche.training.gradient_check.check_bf16_gradients", prove)
    stages = Stage(finish=KeepOps(2)), Stage(depth=1.5)
    check_search_in_bf16(small(), method(stages=stages, decide=GreedyEdge(), batch_growth=2, hypergrad=exact), CPU)
    edges = len(small().dag)
    assert seen == [(cells, (n, 1, 8, 8), True, {4}) for cells in (2, 3) for n in (6, 6 + 2 * edges)]
    seen.clear()
    check_search_in_bf16(small(), method(precision="float32"), CPU)
    assert not seen


@pytest.mark.parametrize("twice", [False, True])
def test_wrong_gradients_of_a_supernet_are_found(monkeypatch, twice):
    """On whatever device and version: wrong kernels, of first or only of second derivatives, are put in by hand."""
    conv2d = F.conv2d

    class Scaled(torch.autograd.Function):
        """x, with a gradient that is wrong, or right with a wrong one itself."""

        @staticmethod
        def forward(ctx, x, right):
            ctx.right = right
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            return (Scaled.apply(g, False) if ctx.right else 1.1 * g), None

    def wrong(x, w, *args):
        y = conv2d(x, w, *args)
        return Scaled.apply(y, twice) if y.dtype == torch.bfloat16 and w.shape[2] == 3 else y

    before = torch.random.get_rng_state()
    check_search_in_bf16(small(), method(hypergrad=exact), CPU)
    monkeypatch.setattr(F, "conv2d", wrong)
    if twice:
        check_search_in_bf16(small(), method(), CPU)
    with pytest.raises(OcheError, match=r"3x3 convolution on maps of .* use precision='float32'"):
        check_search_in_bf16(small(), method(hypergrad=exact if twice else first_order), CPU)
    assert torch.equal(before, torch.random.get_rng_state())


def test_what_cannot_be_trusted_leaves_no_run(tmp_path, monkeypatch):
    def refuse(net, shape, engine, *rest, twice):
        assert shape == (16, 1, 8, 8) and engine.fused == "plain"
        raise OcheError("wrong")

    monkeypatch.setattr("oche.training.gradient_check.check_bf16_gradients", refuse)
    made = METHODS["darts"].make(precision="bf16", batch=16, steps=2)
    for engine, match in (("auto", "wrong"), ("fused", "plain modules; use engine='auto' or 'plain'")):
        with pytest.raises(OcheError, match=match):
            oche.search("digits", method=made, out=tmp_path / "x", limit=64, engine=engine)
    assert not (tmp_path / "x").exists()


# --- refusals and forms


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"precision": "fp8"}, "precision='fp8' cannot search; use 'float32' or 'bf16'"),
        (
            {"hypergrad": FiniteDifference()},
            "FiniteDifference takes differences that precision='bf16' rounds away; use",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_when_it_is_made(fields, match):
    with pytest.raises(OcheError, match=match):
        method(**fields)


def test_searches_of_text_are_refused():
    with pytest.raises(OcheError, match="precision='bf16' is for networks of images, and this space is one for text"):
        method(hypergrad=first_order).check(oche.spaces.recurrent())


def test_the_form_is_plain_and_said_to_be():
    assert start(method(), engine=CPU).computes == "as plain modules, convolutions in bfloat16: fused forms take none"
    with pytest.raises(OcheError, match="plain modules"):
        start(method(), engine=Engine("cpu", fused="fused"))


def test_it_is_an_option_of_the_command_line(tmp_path, capsys):
    words = "search --data digits --limit 32 --method darts-2nd --search.precision bf16 --search.steps 2"
    assert main([*words.split(), "--out", str(tmp_path / "x")]) == 2
    assert "FiniteDifference takes differences that precision='bf16' rounds away" in capsys.readouterr().err
