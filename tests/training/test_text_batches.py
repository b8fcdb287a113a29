"""A search of recurrent cells against DARTS' algorithm written a second time in float64: the language model as a function of
its weights, the state carried by hand from window to window, every gradient by autograd, every update spelled out.

The oracle shares the windows and the draws of dropouts with the code under test, nothing else.
"""

import copy
import math
from dataclasses import replace

import pytest
import torch

from oche import methods
from oche.bilevel.batches import check_data
from oche.bilevel.search import Search, search
from oche.core.errors import OcheError
from oche.core.optimizers import Adam, Sgd
from oche.data.text.bptt import parallel_streams
from oche.devices.engine import Engine
from oche.methods.discretize import GreedyEdge
from oche.methods.hypergradients import FiniteDifference, SgdStep, exact, first_order, joint
from oche.training.text_batches import Stream, TextBatches
from tiny_images import Kept, plain
from tiny_text import WORDS, corpus, method, space

DOUBLE = Engine("cpu", dtype=torch.float64)
W = Sgd(lr=0.5, lr_min=0.5, momentum=0.0, decay=0.01, clip=0.05, clip_ahead=True)
A = Adam(lr=0.02, decay=0.05, init=0.3)
TIGHT = dict(rtol=1e-8, atol=1e-11)


class Recorded(Search):
    """A search that tells which windows it drew, and with which dropouts."""

    def __init__(self, *args, **fields):
        super().__init__(*args, **fields)
        self.drawn = {}

    def _objective(self, name, step, noise, progress):
        made = super()._objective(name, step, noise, progress)
        self.drawn[name, step] = made.window.tokens, made.targets, made.masks
        return made


def make(method, data=None, engine=DOUBLE, **fields):
    return Recorded(space(**fields), method, data or corpus(), seed=0, engine=engine)


# --- the oracle


def model(w, a, tokens, hidden, m, nodes=3):
    """(logits (T, B, V), raw (T, B, H), last state (B, H)) of the supernet; w: weights by name, a: (E, O) logits."""
    embedding, weights = w["embedding.weight"], torch.exp(a) / torch.exp(a).sum(1, keepdim=True)

    def norm(x):
        return (x - x.mean(0)) / torch.sqrt(((x - x.mean(0)) ** 2).mean(0) + 1e-5)

    def sigmoid(x):
        return 1 / (1 + torch.exp(-x))

    raw, half = [], embedding.shape[1]
    for step in tokens:
        x = embedding[step] * m.words[step][:, None] * m.embedding * m.input
        out = torch.cat([x, hidden * m.hidden], 1) @ w["cell.first"]
        states = [norm(hidden + sigmoid(out[:, :half]) * (torch.tanh(out[:, half:]) - hidden))]
        e = 0
        for node in range(nodes):
            total = 0
            for s in list(states):
                out = (s * m.hidden) @ w["cell.nodes"][node]
                c, h = sigmoid(out[:, :half]), out[:, half:]
                for o, f in enumerate((None, torch.tanh, lambda v: v * (v > 0), sigmoid, lambda v: v)):
                    if f is not None:
                        total = total + weights[e, o] * (s + c * (f(h) - s))
                e += 1
            states.append(norm(total))
        hidden = sum(states[1:]) / nodes
        raw.append(hidden)
    raw = torch.stack(raw)
    return (raw * m.output) @ embedding.T + w["bias"], raw, hidden


def cross_entropy(logits, targets):
    picked = logits.gather(2, targets[..., None]).squeeze(2)
    return (torch.log(torch.exp(logits).sum(2)) - picked).mean()


def leaves(tensors):
    return [t.detach().clone().requires_grad_() for t in tensors]


def gradient(f, of, **kwargs):
    return torch.autograd.grad(f, of, allow_unused=True, materialize_grads=True, **kwargs)


def norm_of(tensors):
    return torch.sqrt(sum((t**2).sum() for t in tensors))


def clip(tensors):
    scale = min(W.clip / (norm_of(tensors) + 1e-6), torch.ones(()).double())
    return [scale * t for t in tensors]


class Oracle:
    """1806.09055 algorithm 1 on two streams of windows, with the updates of SGD and Adam in full."""

    def __init__(self, task):
        self.names = task.names
        self.w, self.a = [p.detach().clone() for p in task.weights], task.logits[0].detach().clone()
        self.hidden = {"train": None, "val": None}
        self.m = self.v = 0.0
        self.moved, self.scales = 0, []

    def at(self, w, a, name, window, temporal=0.0):
        """The loss, and the state at the end."""
        tokens, targets, masks = window
        hidden = self.hidden[name]
        if hidden is None:
            hidden = torch.zeros(tokens.shape[1], self.w[0].shape[0] and 4, dtype=torch.float64)
        logits, raw, last = model(dict(zip(self.names, w, strict=True)), a, tokens, hidden, masks)
        loss = cross_entropy(logits, targets)
        return loss + temporal * ((raw[1:] - raw[:-1]) ** 2).mean(), last.detach()

    def inner(self, w, a, window):
        return self.at(w, a, "train", window, temporal=0.1)

    def ahead(self, w, slope):
        return [x - W.lr * (g + W.decay * x) for x, g in zip(w, clip(slope), strict=True)]

    def first_order(self, train, val):
        (a,) = leaves([self.a])
        loss, last = self.at(self.w, a, "val", val)
        return gradient(loss, [a])[0], last

    def one_level(self, train, val):
        (a,) = leaves([self.a])
        return gradient(self.inner(self.w, a, train)[0], [a])[0], None

    def exact(self, train, val):
        (a,), w = leaves([self.a]), leaves(self.w)
        slope = gradient(self.inner(w, a, train)[0], w, create_graph=True)
        loss, last = self.at(self.ahead(w, slope), a, "val", val)
        return gradient(loss, [a])[0], last

    def second_order(self, train, val):
        w, (a,) = leaves(self.w), leaves([self.a])
        slope = leaves(gradient(self.inner(w, self.a, train)[0], w))
        loss, last = self.at(self.ahead(self.w, slope), a, "val", val)
        direct = gradient(loss, [a], retain_graph=True)[0]
        v = [-g / W.lr for g in gradient(loss, slope)]  # through the clipping, by autograd
        epsilon = 0.01 / norm_of(v)
        sides = []
        for sign in (1, -1):
            (b,) = leaves([self.a])
            moved = [x + sign * epsilon * d for x, d in zip(self.w, v, strict=True)]
            sides.append(gradient(self.inner(moved, b, train)[0], [b])[0])
        return direct - W.lr * (sides[0] - sides[1]) / (2 * epsilon), last

    def ascend(self, g):
        self.moved += 1
        g = g + A.decay * self.a
        self.m = A.betas[0] * self.m + (1 - A.betas[0]) * g
        self.v = A.betas[1] * self.v + (1 - A.betas[1]) * g**2
        m, v = self.m / (1 - A.betas[0] ** self.moved), self.v / (1 - A.betas[1] ** self.moved)
        self.a = self.a - A.lr * m / (v.sqrt() + 1e-8)

    def step(self, kind, train, val):
        upper, last = getattr(self, kind)(train, val)
        if kind != "one_level":  # there both descend the same loss from the same point
            self.ascend(upper)
            self.hidden["val"] = last
        w = leaves(self.w)
        loss, self.hidden["train"] = self.inner(w, self.a, train)
        slope = gradient(loss, w)
        self.scales.append(float(W.clip / norm_of(slope)))
        self.w = self.ahead(self.w, slope)
        if kind == "one_level":
            self.ascend(upper)


KINDS = {"first_order": first_order, "second_order": FiniteDifference(), "exact": exact, "one_level": joint}


def run(task, oracle=None, steps=6, kind=""):
    """Six steps: more than a pass over the texts, so that the state is also begun anew."""
    each = task.per_epoch()
    for step in range(steps):
        if step % each == 0:
            task.begin(step // each, 0)
            if oracle:
                oracle.hidden["train"] = None
        if oracle and step % len(task.feed._streams["val"]) == 0:
            oracle.hidden["val"] = None
        task.step(step, step / steps)
        if oracle:
            oracle.step(kind, task.drawn["train", step], task.drawn.get(("val", step)))
            yield step


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_those_of_the_algorithm(kind):
    task = make(method(hypergrad=KINDS[kind]))
    assert (task.per_epoch(), len(task.feed.texts["val"])) == (4, 60 if kind == "one_level" else 40)
    oracle = Oracle(task)
    for step in run(task, oracle, kind=kind):
        torch.testing.assert_close(task.logits[0].detach(), oracle.a, **TIGHT, msg=f"logits, step {step}")
        for name, got, want in zip(task.names, task.weights, oracle.w, strict=True):
            torch.testing.assert_close(got.detach(), want, **TIGHT, msg=f"{name}, step {step}")
        streams = task.feed._streams
        torch.testing.assert_close(streams["train"].hidden[0], oracle.hidden["train"], **TIGHT)
        if kind != "one_level":
            torch.testing.assert_close(streams["val"].hidden[0], oracle.hidden["val"], **TIGHT)
    assert max(oracle.scales) < 1  # every step clipped, and so did the look-ahead
    assert (oracle.a - make(method()).logits[0].detach()).abs().max() > 0.02


def test_the_kinds_and_the_carried_state_make_a_difference():
    """Otherwise the test above would prove less than it seems to."""
    found = {}
    for kind, hypergrad in KINDS.items():
        task = make(method(hypergrad=hypergrad))
        list(run(task, Oracle(task), steps=2, kind=kind))
        found[kind] = task.logits[0].grad.clone()
    task = make(method(hypergrad=first_order))
    list(run(task, steps=1))
    for text in task.feed._streams.values():
        text.hidden = None
    task.step(1, 1 / 6)
    found["forgotten"] = task.logits[0].grad.clone()
    names = list(found)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert (found[one] - found[other]).norm() > 1e-5 * found[one].norm(), (one, other)


def test_finite_differences_are_near_the_exact_gradient():
    task = make(method())
    list(run(task, steps=2))  # with a state that is not zero
    noise = task._noise(2)
    inner, outer = (task._objective(name, 2, noise, 0.0) for name in ("train", "val"))
    step = task._look_ahead(0.5)
    assert step.clip == W.clip
    approximate, true, first = (
        kind(inner, outer, task.weights, task.logits, step)[0] for kind in (FiniteDifference(), exact, first_order)
    )
    assert (approximate - true).norm() < 1e-2 * (first - true).norm()


# --- clipping


def test_a_clipped_step_is_that_of_the_optimiser():
    g = torch.Generator().manual_seed(0)
    w = [torch.randn(3, 2, generator=g).double().requires_grad_() for _ in range(2)]
    slope = tuple(torch.randn(3, 2, generator=g).double() for _ in range(2))
    for limit in (0.5, 50.0):
        ours = SgdStep(0.3, 0.0, 0.01, clip=limit)(tuple(w), slope)
        mine = [x.detach().clone().requires_grad_() for x in w]
        optimiser = torch.optim.SGD(mine, lr=0.3, weight_decay=0.01)
        for x, s in zip(mine, slope, strict=True):
            x.grad = s.clone()
        torch.nn.utils.clip_grad_norm_(mine, limit)
        optimiser.step()
        for got, want in zip(ours, mine, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("limit", [0.5, 50.0, 0.0])
def test_pulling_back_through_the_clipping_is_its_derivative(limit):
    g = torch.Generator().manual_seed(1)
    slope = tuple(torch.randn(3, 2, generator=g).double().requires_grad_() for _ in range(2))
    v = tuple(torch.randn(3, 2, generator=g).double() for _ in range(2))
    step = SgdStep(0.3, clip=limit)
    dot = sum((c * d).sum() for c, d in zip(step.clipped(slope), v, strict=True))
    want = torch.autograd.grad(dot, slope)
    for got, expected in zip(step.pull_back(tuple(s.detach() for s in slope), v), want, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


# --- windows


def test_windows_follow_one_another_through_the_text():
    text = torch.arange(47)
    pieces = Stream(text, 4, 3, seed=1)  # 11 steps: 3 windows and their targets take 10 of them
    assert len(pieces) == 3
    offsets = set()
    for _ in range(20):
        pieces.open(pieces.epoch + 1, 0, None)
        windows = [pieces.next() for _ in range(3)]
        tokens = torch.cat([w for w, _ in windows])
        offset = int(tokens[0, 0])
        offsets.add(offset)
        assert torch.equal(tokens, parallel_streams(text, 4)[offset : offset + 9])
        assert torch.equal(torch.cat([t for _, t in windows]), parallel_streams(text, 4)[offset + 1 : offset + 10])
    assert offsets == {0, 1}


def test_a_pass_begins_without_a_state_and_a_window_with_that_of_the_last():
    pieces = Stream(torch.arange(47), 4, 3, seed=1)
    state = torch.ones(1, 4, 2)
    for k in range(7):
        pieces.next()
        assert (pieces.hidden is None) == (k % 3 == 0)
        pieces.hidden = state


def test_dropouts_belong_to_the_step():
    task, again = make(method()), make(method())
    for t in (task, again):
        list(run(t, steps=2))
    first, second = task.drawn["train", 0][2], task.drawn["train", 1][2]
    assert torch.equal(first.hidden, again.drawn["train", 0][2].hidden)
    assert not torch.equal(first.hidden, second.hidden)
    assert not torch.equal(first.hidden, task.drawn["val", 0][2].hidden)


def test_training_validates_on_the_other_text():
    data = corpus()
    task = make(method(), data)
    assert torch.equal(task.feed.texts["train"], data.train) and torch.equal(task.feed.texts["val"], data.valid)
    one = make(method(hypergrad=joint), data)
    assert torch.equal(one.feed.texts["val"], data.train) and [*one.meters] == ["train"]


# --- whole searches

ASKING = ["darts-pt", "random-ws", "evolution-ws"]
RUNS = ["darts", "darts-2nd", "gdas", "snas", "i-darts", "sgas-1", "drnas", "fair-darts", "sdarts-rs", "robust-darts"]


def small(name, **fields):
    made = space().adapt_search(methods.METHODS[name].make())
    growth = min(1, made.method.batch_growth)
    settings = dict(batch=4, steps=6, warmup=0.0, method=replace(made.method, batch_growth=growth))
    return replace(made, **{**settings, **fields})


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_resumed_is_uninterrupted_bit_for_bit(name):
    whole, made = Kept(), small(name)
    check_data(corpus(), space(), made)
    task, _ = search(space(), made, corpus(), seed=0, engine=Engine("cpu"), session=whole)
    for state in whole.states[1:-1:2]:
        part = Kept(copy.deepcopy(state))
        again, _ = search(space(), made, corpus(), seed=0, engine=Engine("cpu"), session=part)
        assert plain(part.history) == plain(whole.history)
        for got, want in zip(again.weights + again.logits, task.weights + task.logits, strict=True):
            assert torch.equal(got, want)
        assert again.conclude() == task.conclude()


REFUSED = ["pc-darts", "gaea-pc-darts", "darts-minus", "p-darts", "drnas-progressive", "one-shot"]
REFUSED += ["fbnet", "proxyless"]  # they take the latency of networks for images


@pytest.mark.parametrize("name", sorted(set(methods.METHODS) - {*RUNS, *REFUSED, *ASKING}))
def test_other_methods_run_too(name):
    session, made = Kept(), small(name, steps=5 if name == "proxyless-r" else 2)  # its logits move every fifth step
    check_data(corpus(), space(), made)
    task, _ = search(space(), made, corpus(), seed=0, engine=Engine("cpu"), session=session)
    assert math.isfinite(session.history[-1]["train_loss"]) and len(task.conclude().recurrent.edges) == 3


@pytest.mark.parametrize("name", REFUSED)
def test_methods_that_make_no_sense_are_refused(name):
    with pytest.raises(OcheError):
        small(name, steps=50).check(space())


@pytest.mark.parametrize("name", ["pc-darts", "gaea-pc-darts"])
def test_edge_weights_without_partial_channels(name):
    from oche.spaces import MixedEdge

    made = small(name, edge=MixedEdge())
    session = Kept()
    task, _ = search(space(), made, corpus(), seed=0, engine=Engine("cpu"), session=session)
    assert session.history[-1]["arch"]["recurrent"]["edges"] is not None
    assert len(task.conclude().recurrent.edges) == 3


@pytest.mark.parametrize("name", ASKING)
def test_selections_that_ask_the_supernet_go_by_the_probability_of_the_right_word(name):
    made = small(name)
    if name != "darts-pt":
        few = dict(count=4) if name == "random-ws" else dict(population=2, sample=1, cycles=3)
        select = replace(made.method.select, **few, images=4, finalists=2)
        made = replace(made, method=replace(made.method, select=select))
    task, _ = search(space(), made, corpus(), seed=0, engine=Engine("cpu"), session=Kept())
    assert len(task.conclude().recurrent.edges) == 3


def test_the_score_of_an_architecture_is_one_over_its_perplexity():
    task = make(method())
    list(run(task, steps=2))
    alive = {"recurrent": torch.zeros(6, 5, dtype=torch.bool)}
    for edge, candidate in ((0, 1), (1, 2), (5, 3)):
        alive["recurrent"][edge, candidate] = True
    before = {k: v.clone() for k, v in task.net.state_dict().items()}
    a = torch.where(alive["recurrent"], 0.0, -1e9).double()
    a[~alive["recurrent"].any(1), 0] = 0.0  # a dead edge carries nothing: all of it is "none"
    w = dict(zip(task.names, (p.detach() for p in task.weights), strict=True))
    ones = type(task.drawn["train", 0][2])(*[torch.ones(n).double() for n in ((4, 4),) * 4], torch.ones(6).double())
    text, hidden, losses = task.feed._stream("val", 4), torch.zeros(4, 4).double(), []
    for _ in range(len(text)):
        tokens, targets = text.next()
        logits, _, hidden = model(w, a, tokens, hidden, ones)
        losses.append(cross_entropy(logits, targets).item())
    assert task.accuracy(alive) == pytest.approx(math.exp(-sum(losses) / len(losses)), rel=1e-9)
    assert task.accuracy(alive, 5) == pytest.approx(
        math.exp(-sum(losses[:2]) / 2), rel=1e-9
    )  # two windows of four rows
    assert all(torch.equal(v, before[k]) for k, v in task.net.state_dict().items())


def test_records_have_perplexities():
    session = Kept()
    search(space(), small("darts"), corpus(), seed=0, engine=Engine("cpu"), session=session)
    last = session.history[-1]
    assert last["train_ppl"] == pytest.approx(math.exp(last["train_loss"]))
    assert last["val_ppl"] == pytest.approx(math.exp(last["val_loss"])) and "val_acc" not in last


def test_a_longer_text_of_more_streams_begins_anew():
    """SGAS' batch grows; where streams of another number were left means nothing to the new ones."""
    feed = TextBatches(corpus(), space(), method(), 0, Engine("cpu"))
    feed.begin(0, 0, 4)
    for _ in range(2):
        feed.next_batch("val", 0)
    feed._streams["val"].hidden = torch.ones(1, 4, 4)
    feed.begin(1, 0, 5)
    assert feed._streams["val"].at == 0 and feed._streams["val"].hidden is None
    assert feed.state()["batch"] == 5 and feed.per_epoch(5) == (60 // 5 - 1) // 3


# --- refused before anything begins


@pytest.mark.parametrize(
    "name, words",
    [
        ("pc-darts", "PartialEdge.*EdgeNormalised"),
        ("darts-minus", "AuxiliarySkip.*gate"),
        ("p-darts", "depth=.*cells"),
        ("drnas-progressive", "channels"),
        ("one-shot", "PathDropout.*share"),
    ],
)
def test_methods_that_make_no_sense_say_why(name, words):
    with pytest.raises(OcheError, match=words) as caught:
        small(name, warmup=0.0, steps=50).check(space())
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "data, fields, made, words",
    [
        (corpus(train=10), {}, {}, "bptt=3 is longer"),
        (corpus(valid=10), {}, {}, "bptt=3 is longer"),
        (corpus(), {"bptt": 40}, {}, "bptt=40 is longer"),
        (corpus(), {}, {"batch": 1}, "batch=1 .*BatchNorm"),
        (corpus(), {}, {"grow": 8, "decide": GreedyEdge()}, "batch=28"),  # three nodes, three edges that settle
        (corpus(), {}, {"steps": None, "epochs": 1, "warmup": 0.9}, "warmup=0.9"),
    ],
)
def test_texts_that_are_too_short_are_refused(data, fields, made, words):
    with pytest.raises(OcheError, match=words) as caught:
        check_data(data, space(**fields), method(**made))
    assert len(str(caught.value).splitlines()) == 1


def test_another_vocabulary_is_refused_before_anything_changes():
    data, whole = corpus(), Kept()
    search(space(), small("darts"), data, seed=0, engine=Engine("cpu"), session=whole)
    other = replace(data, vocabulary=[*WORDS[:-1], "e"])
    with pytest.raises(OcheError, match="lacks 1 of walk, such as 'e'"):
        search(space(), small("darts"), other, seed=0, engine=Engine("cpu"), session=Kept(whole.states[0]))
    with pytest.raises(OcheError, match="one of 7 words, and walk has 6"):
        make(method(), vocabulary=7)
