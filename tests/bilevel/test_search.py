"""Whole steps of the search against DARTS' algorithm written a second time, naively, in float64.

The oracle knows the network as a function of a list of weights (tests/helpers/oracles_conv.py), takes every gradient by itself
and applies every update rule spelled out. It shares only the batches with the code under test.
"""

import math
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F

import oche
from oche.bilevel.search import frozen_statistics, search
from oche.core.architecture import Mix, alive_candidates, all_alive
from oche.core.errors import OcheError
from oche.core.optimizers import Adam, Sgd
from oche.devices.engine import Engine
from oche.kernels.choose import plain_form
from oche.methods.hypergradients import FiniteDifference, Neumann, SgdStep, exact, first_order, joint
from oche.methods.recipe import SearchRecipe
from oche.methods.relaxations import Relaxation, Softmax, masked_softmax
from oche.training.loop import Session, fit_loop
from oracles_conv import Weights, supernet
from search_steps import make, method
from tiny_images import CANDIDATES, Kept, dataset, plain, space

W, A = Sgd(lr=0.1, lr_min=0.01, momentum=0.9, decay=0.01, clip=2.0), Adam(lr=0.02, decay=0.05, init=0.1)


# --- the oracle


def loss(w, a, images, labels):
    """Cross-entropy of the supernet written out; w: list of weights, a: {"normal": …, "reduce": …} logits."""
    mixes = {name: logits.exp() / logits.exp().sum(1, keepdim=True) for name, logits in a.items()}
    weights = Weights(w)
    logits = supernet(images, weights, mixes, cells=3, nodes=2, candidates=CANDIDATES)
    assert weights.done()
    return -(logits - logits.logsumexp(1, keepdim=True))[range(len(labels)), labels].mean()


def leaves(tensors):
    return [t.detach().clone().requires_grad_() for t in tensors]


def gradient(f, of, **kwargs):
    return torch.autograd.grad(f, of, allow_unused=True, materialize_grads=True, **kwargs)


class Oracle:
    """1806.09055 algorithm 1 with the updates of SGD and Adam in full."""

    def __init__(self, task):
        self.names = list(task.groups)
        self.w = [p.detach().clone() for p in task.weights]
        self.a = [p.detach().clone() for p in task.logits]
        self.buffers = [torch.zeros_like(w) for w in self.w]
        self.m, self.v, self.moved = [0.0] * len(self.a), [0.0] * len(self.a), 0

    def at(self, w, a, batch):
        return loss(w, dict(zip(self.names, a, strict=True)), *batch)

    def ahead(self, train, rate, a, create_graph=False):
        w = leaves(self.w)
        slope = gradient(self.at(w, a, train), w, create_graph=create_graph)
        return [x - rate * (W.momentum * b + g + W.decay * x) for x, b, g in zip(w, self.buffers, slope, strict=True)]

    # upper gradients

    def first_order(self, train, val, rate):
        a = leaves(self.a)
        return gradient(self.at(self.w, a, val), a)

    def one_level(self, train, val, rate):
        a = leaves(self.a)
        return gradient(self.at(self.w, a, train), a)

    def second_order(self, train, val, rate):
        a = leaves(self.a)
        w = leaves(self.ahead(train, rate, self.a))
        direct, v = gradient(self.at(w, a, val), a, retain_graph=True), gradient(self.at(w, a, val), w)
        epsilon = 0.01 / math.sqrt(sum((d**2).sum().item() for d in v))
        plus = gradient(self.at([x + epsilon * d for x, d in zip(self.w, v, strict=True)], a, train), a)
        minus = gradient(self.at([x - epsilon * d for x, d in zip(self.w, v, strict=True)], a, train), a)
        return [d - rate * (p - m) / (2 * epsilon) for d, p, m in zip(direct, plus, minus, strict=True)]

    def exact(self, train, val, rate):
        a = leaves(self.a)
        return gradient(self.at(self.ahead(train, rate, a, create_graph=True), a, val), a)

    def implicit(self, train, val, rate, terms=2):
        a, w = leaves(self.a), leaves(self.w)
        direct, v = gradient(self.at(w, a, val), a, retain_graph=True), gradient(self.at(w, a, val), w)
        slope = gradient(self.at(w, a, train), w, create_graph=True)
        slope = [g + W.decay * x for g, x in zip(slope, w, strict=True)]
        series, term = [rate * d for d in v], v
        for _ in range(terms):
            dot = sum((g * t).sum() for g, t in zip(slope, term, strict=True))
            term = [t - rate * h for t, h in zip(term, gradient(dot, w, retain_graph=True), strict=True)]
            series = [s + rate * t for s, t in zip(series, term, strict=True)]
        dot = sum((g * s).sum() for g, s in zip(slope, series, strict=True))
        return [d - m for d, m in zip(direct, gradient(dot, a), strict=True)]

    # updates

    def ascend(self, gradients):
        self.moved += 1
        for i, g in enumerate(gradients):
            g = g + A.decay * self.a[i]
            self.m[i] = A.betas[0] * self.m[i] + (1 - A.betas[0]) * g
            self.v[i] = A.betas[1] * self.v[i] + (1 - A.betas[1]) * g**2
            m, v = self.m[i] / (1 - A.betas[0] ** self.moved), self.v[i] / (1 - A.betas[1] ** self.moved)
            self.a[i] = self.a[i] - A.lr * m / (v.sqrt() + 1e-8)

    def slope(self, train):
        w = leaves(self.w)
        return gradient(self.at(w, self.a, train), w)

    def descend(self, slope, rate):
        norm = math.sqrt(sum((g**2).sum().item() for g in slope))
        scale = min(1.0, W.clip / (norm + 1e-6))
        self.clipped = scale < 1
        for i, g in enumerate(slope):
            self.buffers[i] = W.momentum * self.buffers[i] + scale * g + W.decay * self.w[i]
            self.w[i] = self.w[i] - rate * self.buffers[i]

    def step(self, kind, train, val, rate):
        upper = getattr(self, kind)(train, val, rate)
        if kind == "one_level":  # both descend the same loss from the same point
            slope = self.slope(train)
            self.descend(slope, rate)
            self.ascend(upper)
        else:
            self.ascend(upper)
            self.descend(self.slope(train), rate)


KINDS = {
    "first_order": first_order,
    "second_order": FiniteDifference(),
    "exact": exact,
    "implicit": Neumann(2),
    "one_level": joint,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_three_steps_are_those_of_the_algorithm(kind):
    task = make(method(hypergrad=KINDS[kind]))
    oracle, shadow = Oracle(task), space().supernet().double()
    shadow.load_state_dict(task.net.state_dict())
    clipped = []
    for step in range(3):
        if step % task.per_epoch() == 0:
            task.begin(step // task.per_epoch(), 0)
        progress = step / 3
        rate = 0.01 + 0.09 * (1 + math.cos(math.pi * progress)) / 2
        before = [w.clone() for w in oracle.w]
        task.step(step, progress)
        batches = {name: (x, y) for name, s, x, y in task.drawn if s == step}
        logits = list(oracle.a)
        oracle.step(kind, batches["train"], batches.get("val"), rate)
        clipped.append(oracle.clipped)
        # BatchNorm's running statistics move in the weight step alone: one forward a step, with the weights before it
        # and the architecture after its own step (in one-level search, before it).
        mixes = {
            name: Mix(a.softmax(1), None, alive_candidates(all_alive(task.groups[name], 4)))
            for name, a in zip(oracle.names, logits if kind == "one_level" else oracle.a, strict=True)
        }
        with torch.no_grad():
            for p, w in zip(shadow.parameters(), before, strict=True):
                p.copy_(w)
            shadow(batches["train"][0], mixes)
        tight = dict(rtol=1e-8, atol=1e-11)
        for got, want in zip(task.logits, oracle.a, strict=True):
            torch.testing.assert_close(got.detach(), want, **tight)
        for i, (got, want) in enumerate(zip(task.weights, oracle.w, strict=True)):
            torch.testing.assert_close(got.detach(), want, **tight)
            torch.testing.assert_close(task.w_opt.state[got]["momentum_buffer"], oracle.buffers[i], **tight)
        for (name, got), want in zip(task.net.named_buffers(), shadow.buffers(), strict=True):
            torch.testing.assert_close(got, want, **tight, msg=f"{name} after step {step}")
    assert any(clipped)  # the look-ahead goes without clipping, the step with it: both were seen
    moved = [(a - b).abs().max() for a, b in zip(oracle.a, make(method()).logits, strict=True)]
    assert min(moved) > 0.01


def test_the_kinds_differ():
    """Otherwise the test above would prove less than it seems to."""
    found = {}
    for kind, hypergrad in KINDS.items():
        task = make(method(hypergrad=hypergrad))
        task.begin(0, 0)
        task.step(0, 0.5)
        found[kind] = task.logits[0].grad.clone()
    names = list(found)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert (found[one] - found[other]).norm() > 1e-6 * found[one].norm(), (one, other)


# --- hypergradients of a network


def losses(task):
    """(inner, outer) of the first batches."""
    task.begin(0, 0)
    noise = task._noise(0)
    return task._objective("train", 0, noise, 0.0), task._objective("val", 0, noise, 0.0)


def flat(tensors):
    return torch.cat([t.flatten() for t in tensors])


def difference_errors(task, epsilons):
    """Errors of finite differences relative to the exact gradient, and of first order."""
    inner, outer = losses(task)
    step = SgdStep(0.1, 0.9, 0.01, [torch.full_like(w, 0.01) for w in task.weights])
    with frozen_statistics(task.net), plain_form(task.net):  # the exact gradient differentiates twice
        first, want, *others = [
            flat(f(inner, outer, task.weights, task.logits, step))
            for f in (first_order, exact, *map(FiniteDifference, epsilons))
        ]
    return [((other - want).norm() / want.norm()).item() for other in (*others, first)]


@pytest.mark.slow
def test_finite_differences_approach_the_exact_gradient_of_a_smooth_network_to_second_order(monkeypatch):
    monkeypatch.setattr(F, "relu", lambda x, inplace=False: F.softplus(x))  # nn.ReLU calls it too
    coarse, middle, fine, first = difference_errors(make(method()), (4e-3, 2e-3, 1e-3))
    assert 3.5 < coarse / middle < 4.5 and 3.5 < middle / fine < 4.5
    assert fine < 1e-4 and first > 1e-2


def test_finite_differences_between_the_kinks_of_the_network_itself():
    """A step short enough to cross no ReLU's kink; longer ones cross some, and in a network this small that shows."""
    fine, first = difference_errors(make(method()), (1e-5,))
    assert fine < 1e-7 and first > 1e-2


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "one_level"])
def test_hypergradients_leave_the_network_as_it_was(kind):
    task = make(method(hypergrad=KINDS[kind]))
    inner, outer = losses(task)
    before = {k: v.clone() for k, v in task.net.state_dict().items()}
    with frozen_statistics(task.net):
        KINDS[kind](inner, outer, task.weights, task.logits, SgdStep(0.1))
    assert all(torch.equal(v, before[k]) for k, v in task.net.state_dict().items())
    assert all(p.grad is None for p in (*task.weights, *task.logits))
    norms = [m for m in task.net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms and all(m.track_running_stats for m in norms)


# --- noise

CALLS = []


@pytest.mark.slow
@dataclass(frozen=True)
class Noisy(Relaxation):
    """Softmax of logits with normal noise; remembers what it was given."""

    def noise(self, dag, candidates, generator):
        return torch.randn(len(dag), candidates, generator=generator)

    def __call__(self, a, alive, dag, noise, progress):
        CALLS.append((len(a), noise, progress))
        return Mix(masked_softmax(a if noise is None else a + noise, alive), None, alive_candidates(alive))


@pytest.mark.parametrize("kind", KINDS)
def test_all_evaluations_of_a_step_share_their_noise(kind):
    task = make(method(hypergrad=KINDS[kind], relax=Noisy()))
    drawn = []
    for step in (0, 1):
        task.begin(0, step)
        CALLS.clear()
        task.step(step, step / 2)
        assert len(CALLS) == {"one_level": 2, "first_order": 4, "second_order": 10, "exact": 6, "implicit": 6}[kind]
        assert all(progress == step / 2 for *_, progress in CALLS)
        normal, reduce = CALLS[0][1], CALLS[1][1]
        assert not torch.equal(normal, reduce)
        assert all(torch.equal(n, (normal, reduce)[i % 2]) for i, (_, n, _) in enumerate(CALLS))
        drawn.append(normal)
    assert not torch.equal(*drawn)
    CALLS.clear()
    task.report(1.0)
    assert CALLS and all(noise is None for _, noise, _ in CALLS)  # cells are read from the noise-free mixture


def test_noise_of_a_step_does_not_depend_on_how_the_run_came_there():
    task, other = make(method(relax=Noisy())), make(method(relax=Noisy()))
    other._noise(0)
    assert torch.equal(task._noise(5)["normal"], other._noise(5)["normal"])


# --- schedule


@pytest.mark.parametrize("hypergrad", [first_order, joint], ids=["bilevel", "one-level"])
def test_warm_up_moves_weights_alone(hypergrad):
    task = make(method(hypergrad=hypergrad, warmup=0.5, steps=4))
    start = [a.detach().clone() for a in task.logits]
    for step in range(4):
        if step % task.per_epoch() == 0:
            task.begin(step // task.per_epoch(), 0)
        weights = [w.detach().clone() for w in task.weights]
        task.step(step, step / 4)
        assert not all(torch.equal(w, b) for w, b in zip(task.weights, weights, strict=True))
        still = all(torch.equal(a.detach(), s) for a, s in zip(task.logits, start, strict=True))
        assert still == (step < 2)
        if step < 2 and hypergrad is first_order:
            assert task.meters["val"].means() == (None, None)


def test_logits_that_nothing_decides_stay():
    """Without decay, the logits of "none" move only through the softmax; dead candidates not at all."""
    task = make(method(arch_optimizer=Adam(lr=0.1, decay=0.0)))
    task.alive["normal"][2, 3] = False
    start = task.logits[0].detach().clone()
    task.begin(0, 0)
    task.step(0, 0.0)
    moved = (task.logits[0].detach() != start)[2].tolist()
    assert moved == [True, True, True, False]


# --- whole runs


def run(seed=0, start=None, hypergrad=first_order, **fields):
    session = Kept(start)
    task, clock = search(
        space(),
        method(hypergrad=hypergrad, steps=5, **fields),
        dataset(),
        seed=seed,
        engine=Engine("cpu"),
        session=session,
    )
    return task, clock, session


def same(one, other):
    """Whether two searches are in the same state, bit for bit."""
    pairs = zip(one.net.state_dict().items(), other.net.state_dict().items(), strict=True)
    nets = all(k == j and torch.equal(v, u) for (k, v), (j, u) in pairs)
    return nets and all(torch.equal(a, b) for a, b in zip(one.logits, other.logits, strict=True))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_and_another_one_does_not():
    one, _, history = run()
    torch.manual_seed(99)  # whatever the global generator has been through
    torch.rand(10)
    again, _, again_history = run()
    other, _, _ = run(seed=1)
    assert same(one, again) and plain(history.history) == plain(again_history.history)
    assert not same(one, other)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "relax"), [*((kind, Softmax()) for kind in KINDS), ("second_order", Noisy())], ids=lambda x: str(x)
)
def test_going_on_from_any_step_gives_the_same_bits(kind, relax):
    task, clock, session = run(hypergrad=KINDS[kind], relax=relax)
    assert clock.step == 5 and len(session.states) == 6
    for state in session.states[:-1:2] if kind == "first_order" else session.states[1:4:2]:
        again, end, resumed = run(start=state, hypergrad=KINDS[kind], relax=relax)
        assert same(task, again) and end.step == 5
        assert plain(resumed.history) == plain(session.history)
        momenta = [o.w_opt.state[w]["momentum_buffer"] for o in (task, again) for w in o.weights[:3]]
        assert all(torch.equal(a, b) for a, b in zip(momenta[:3], momenta[3:], strict=True))


def test_records():
    task, _, session = run()
    first, *rest = session.history
    assert first["epoch"] == 0 and first["step"] == 0 and "train_loss" not in first
    assert [r["step"] for r in rest] == [2, 4, 5] and rest[-1]["progress"] == 1
    for record in session.history:
        for name, logits in record["logits"].items():
            weights = torch.tensor(record["arch"][name]["weights"], dtype=torch.float64)
            want = torch.tensor(logits, dtype=torch.float64).softmax(1)
            torch.testing.assert_close(weights, want, rtol=1e-5, atol=1e-7)
            assert record["arch"][name]["edges"] is None
            entropy = -(want * want.log()).sum(1).mean().item()
            assert record["entropy"][name] == pytest.approx(entropy, rel=1e-5)
        genotype = oche.Genotype.parse(record["genotype"])
        alphas = {n: torch.tensor(v) for n, v in record["logits"].items()}
        assert genotype == task.space.genotype(alphas)
        assert record["skip_share"] == {n: c.share("skip_connect") for n, c in genotype.cells.items()}
    assert rest[-1]["w_lr"] == pytest.approx(0.01) and first["w_lr"] == pytest.approx(0.1)
    assert all(0 <= r["val_acc"] <= 1 and r["val_loss"] > 0 for r in rest)
    assert str(task.genotype()) == rest[-1]["genotype"]


def test_meters_hold_the_losses_of_the_steps():
    task = make(method())
    task.begin(0, 0)
    weights, logits = [w.detach().clone() for w in task.weights], [a.detach().clone() for a in task.logits]
    task.step(0, 0.0)
    (_, _, x, y), (_, _, vx, vy) = task.drawn
    oracle = Oracle(task)
    assert task.meters["val"].means()[0] == pytest.approx(oracle.at(weights, logits, (vx, vy)).item(), rel=1e-9)
    now = [a.detach() for a in task.logits]
    assert task.meters["train"].means()[0] == pytest.approx(oracle.at(weights, now, (x, y)).item(), rel=1e-9)


@pytest.mark.slow
def test_a_search_learns():
    """Twenty steps on an easy problem: both losses fall well below chance."""
    task = make(method(batch=12, steps=40, hypergrad=first_order), dataset(48), engine=Engine("cpu"))
    session = Session()
    fit_loop(task, task.recipe.length, session)
    last = session.history[-1]
    assert last["train_loss"] < 0.6 * math.log(3) and last["val_loss"] < 0.8 * math.log(3)


def test_a_network_of_normal_cells_alone_has_one_group():
    task = make(method(), reductions=())
    task.begin(0, 0)
    task.step(0, 0.0)
    assert list(task.groups) == ["normal"] and list(task.genotype().cells) == ["normal"] and len(task.logits) == 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"warmup": 1.0}, "warmup=1.0 leaves none"),
        ({"warmup": -0.1}, "use 0 <= warmup < 1"),
        ({"split": 0.0}, "split=0.0 leaves a part empty"),
        ({"split": 1.0}, "split=1.0"),
        ({"batch": 0}, "batch=0"),
        ({"epochs": 0}, "epochs=0"),
        ({"steps": 0}, "steps=0"),
        ({"steps": 5, "budget": "1m"}, "contradict"),
        ({"budget": "soon"}, "write 90s, 10m or 1h30m"),
        ({"pad": -1}, "pad=-1"),
    ],
)
def test_impossible_methods_are_refused(fields, words):
    with pytest.raises(OcheError, match=words):
        SearchRecipe(**fields)


def test_cross_entropy_is_that_of_torch():
    """The oracle's own loss, once, against torch's."""
    task = make(method())
    inner, _ = losses(task)
    with frozen_statistics(task.net):
        got = inner(task.weights, task.logits)
    assert got.item() == pytest.approx(F.cross_entropy(inner.logits, inner.labels).item(), rel=1e-12)
    a = dict(zip(task.groups, task.logits, strict=True))
    assert got.item() == pytest.approx(loss(list(task.weights), a, inner.images, inner.labels).item(), rel=1e-10)
