"""Training language models against the same steps written out in float64; averaging, windows, state, resuming, recipes."""

import math
from random import Random

import pytest
import torch
from torch.func import functional_call

from oche.core.errors import OcheError
from oche.core.seeds import derive_seed
from oche.data.text.bptt import parallel_streams, varying_windows
from oche.data.text.corpus import EOS, UNKNOWN, Corpus
from oche.devices.engine import Engine
from oche.networks.language_model import Dropouts
from oche.training.language_recipes import LanguageRecipe, PlainSgd, recurrent
from oche.training.language_trainer import LanguageTraining, cross_entropy, train
from oche.training.loop import Session, fit_loop
from tiny_images import Kept, plain

CELL = "Genotype(recurrent=[('tanh', 0), ('relu', 1), ('sigmoid', 1)], concat=range(1, 4))"
DOUBLE = Engine("cpu", dtype=torch.float64)
ALL = Dropouts(output=0.3, hidden=0.2, input=0.3, embedding=0.2, words=0.1)


def corpus(train=240, words=9, seed=0):
    """A Markov chain: each word is mostly followed by the same other one."""
    g = torch.Generator().manual_seed(seed)
    text = [0]
    for _ in range(train + 79):
        jump = torch.rand((), generator=g) < 0.2
        text.append(int(torch.randint(words, (), generator=g)) if jump else (4 * text[-1] + 1) % words)
    text = torch.tensor(text)
    vocabulary = [*(f"w{k}" for k in range(words - 2)), EOS, UNKNOWN]
    return Corpus("chain", text[:train], text[train : train + 40], text[train + 40 :], vocabulary)


def recipe(**fields):
    small = dict(width=6, dropouts=ALL, w=PlainSgd(lr=2.0, decay=0.01, clip=0.05), batch=4, bptt=7, epochs=2)
    return LanguageRecipe(**{**small, "temporal": 0.5, "activation": 0.3, "valid_batch": 2, **fields})


def make(genotype=CELL, engine=DOUBLE, seed=0, data=None, **fields):
    return LanguageTraining(genotype, recipe(**fields), data or corpus(), seed=seed, engine=engine, title="t")


@pytest.mark.parametrize("genotype", [CELL, "lstm"])
@pytest.mark.parametrize("fields", [{}, {"varying": False, "temporal": 0.0, "activation": 0.0}], ids=["all", "plain"])
def test_steps_are_those_written_out(genotype, fields):
    task = make(genotype, **fields)
    names = [name for name, _ in task.net.named_parameters()]
    w = [p.detach().clone() for p in task.weights]
    text, hidden, clipped, rates = parallel_streams(task.corpus.train, 4), None, 0, set()
    task.begin(0, 0)
    for step, (start, length) in enumerate(list(task.windows)[:4]):
        task.step(step, step / 8)
        torch.manual_seed(derive_seed(0, "dropout", step))
        masks = task.net.masks(4)
        leaves = [p.clone().requires_grad_() for p in w]
        out = functional_call(
            task.net, dict(zip(names, leaves, strict=True)), (text[start : start + length], hidden, masks)
        )
        targets = text[start + 1 : start + 1 + length].flatten()
        p = out.logits.exp() / out.logits.exp().sum(2, keepdim=True)
        loss = -p.flatten(0, 1)[range(len(targets)), targets].log().mean()
        total = loss + task.recipe.activation * (out.dropped**2).mean()
        total = total + task.recipe.temporal * ((out.raw[1:] - out.raw[:-1]) ** 2).mean()
        slope = torch.autograd.grad(total, leaves)
        norm = math.sqrt(sum((g**2).sum().item() for g in slope))
        clipped += norm > 0.05
        rate = 2.0 * length / 7
        rates.add(rate)
        w = [a - rate * (g * min(1.0, 0.05 / (norm + 1e-6)) + 0.01 * a) for a, g in zip(w, slope, strict=True)]
        hidden = out.hidden.detach()
        for got, want in zip(task.weights, w, strict=True):
            torch.testing.assert_close(got.detach(), want, rtol=1e-9, atol=1e-12)
        assert task.rate(0.0) == rate
        shown, task.meter.sums = task.meter.means()[0], torch.zeros(3, dtype=torch.float64)
        assert shown == pytest.approx(loss.item(), rel=1e-9)  # without regularisation
    assert clipped and (len(rates) > 1) == task.recipe.varying


def test_windows_of_an_epoch_are_its_own_and_the_state_begins_anew():
    task = make()
    first = task.windows
    assert first == varying_windows(60, 7, Random(derive_seed(0, "windows", 0))) and task.per_epoch() == len(first)
    for step in range(len(first)):
        task.begin(0, step)
        task.step(step, 0.0)
    assert task.hidden is not None
    task.report(0.5)
    assert task.windows == varying_windows(60, 7, Random(derive_seed(0, "windows", 1))) != first
    task.begin(1, 0)
    assert task.hidden is None


# --- evaluation


@pytest.mark.parametrize("batch", [1, 3])
def test_cross_entropy_is_the_mean_over_words_predicted(batch):
    task = make()
    tokens = task.corpus.valid
    text = tokens[: len(tokens) // batch * batch].view(batch, -1).t()
    with torch.no_grad():
        logits = task.net.eval()(text[:-1]).logits  # in one window
    p = logits.exp() / logits.exp().sum(2, keepdim=True)
    right = p.gather(2, text[1:].unsqueeze(2))
    task.net.train()
    for bptt in (1, 5, 40 // batch - 1):
        assert cross_entropy(task.net, tokens, batch, bptt) == pytest.approx(-right.log().mean().item(), rel=1e-9)
    assert task.net.training


def test_a_short_text_is_read_in_fewer_streams():
    task = make()
    tokens = task.corpus.valid[:9]
    assert cross_entropy(task.net, tokens, 10, 7) == pytest.approx(cross_entropy(task.net, tokens, 1, 8))


# --- averaging


def test_averaging_begins_when_validation_stands_still_and_the_best_is_kept(monkeypatch):
    losses = [5.0, 4.0, 4.5, 4.2, 4.1, 3.9, 3.95]  # 4.1 is above 4.0, the best of those more than two epochs ago
    task, step, paths, records, validated = make(patience=2, data=corpus(60)), 0, [], [], []

    def validate(net, *_):
        validated.append([p.detach().clone() for p in net.parameters()])
        return losses[len(validated) - 1]

    monkeypatch.setattr("oche.training.language_trainer.cross_entropy", validate)
    for epoch in range(7):
        task.begin(epoch, 0)
        paths.append([])
        for _ in range(task.per_epoch()):
            task.step(step := step + 1, 0.0)
            paths[-1].append([p.detach().clone() for p in task.weights])
        records.append(task.report(0.5))
        assert all(map(torch.equal, task.weights, paths[-1][-1]))  # training goes on from the weights themselves
    assert [r["averaged"] for r in records] == [False] * 5 + [True] * 2
    assert [r["val_loss"] for r in records] == losses and records[0]["val_ppl"] == pytest.approx(math.exp(5))
    for epoch in range(5):
        assert all(map(torch.equal, validated[epoch], paths[epoch][-1]))
    for epoch in (5, 6):
        path = [weights for e in range(5, epoch + 1) for weights in paths[e]]
        for got, *weights in zip(validated[epoch], *path, strict=True):
            torch.testing.assert_close(got, torch.stack(weights).mean(0))
    monkeypatch.undo()
    found = task.conclude()
    assert all(map(torch.equal, task.weights, validated[5])) and found["val_loss"] == 3.9
    test = cross_entropy(task.net, task.corpus.test, 1, 7)
    assert found["test_loss"] == test and found["test_ppl"] == pytest.approx(math.exp(test))


def test_a_corpus_without_a_test_part():
    data = corpus()
    task = make(data=Corpus(data.name, data.train, data.valid, None, data.vocabulary))
    fit_loop(task, task.recipe.length, Session())
    assert {*task.conclude()} == {"val_loss", "val_ppl"}


# --- runs


def run(start=None, genotype=CELL, seed=0, **fields):
    session = Kept(start)
    task, clock, found = train(
        genotype, recipe(**fields), corpus(), seed=seed, engine=Engine("cpu"), session=session
    )  # fmt: skip
    return task, clock, session, found


def same(one, other):
    pairs = zip(one.net.state_dict().values(), other.net.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


AVERAGED = dict(patience=1, epochs=5, w=PlainSgd(lr=60.0, decay=0.0, clip=1.0))  # so that validation goes up early


@pytest.mark.slow
@pytest.mark.parametrize("genotype", [CELL, "lstm"])
def test_going_on_from_any_step_gives_the_same_bits(genotype):
    task, clock, session, found = run(genotype=genotype, **AVERAGED)
    averaged = [r["averaged"] for r in session.history]
    assert not averaged[0] and averaged[-1]  # the states are of both kinds
    assert len(session.states) == clock.step + 1
    for state in session.states[::4] + session.states[-2:]:
        again, _, resumed, result = run(state, genotype, **AVERAGED)
        assert same(task, again) and plain(resumed.history) == plain(session.history) and result == found
        assert all(map(torch.equal, task.average.means, again.average.means))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_and_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    one = run()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    again, other = run(), run(seed=1)
    assert same(one[0], again[0]) and plain(one[2].history) == plain(again[2].history) and one[3] == again[3]
    assert not same(one[0], other[0])


def test_records_and_lengths():
    _, clock, session, found = run()
    assert [r["epoch"] for r in session.history] == [1, 2] and session.history[-1]["progress"] == 1
    for record in session.history:
        assert record["train_ppl"] == pytest.approx(math.exp(record["train_loss"]))
        assert record["lr"] == 2.0 and "train_acc" not in record
    assert found["val_loss"] == min(r["val_loss"] for r in session.history)
    _, clock, session, _ = run(steps=11)
    assert clock.step == 11 and "val_loss" in session.history[-1]


@pytest.mark.slow
@pytest.mark.parametrize("genotype", [CELL, "lstm"])
def test_training_learns(genotype):
    none = Dropouts(0.0, 0.0, 0.0, 0.0, 0.0)
    fields = dict(epochs=20, width=12, dropouts=none, w=PlainSgd(lr=5.0, clip=1.0), temporal=0.0, activation=0.0)
    *_, found = run(genotype=genotype, **fields)
    counts = corpus().train.bincount() / 240
    single = -(counts * counts.log()).sum().item()  # what words by themselves would give
    assert found["test_loss"] < single - 0.3


def test_a_smaller_batch_can_be_tried():
    task = make()
    task.try_batch(2)
    assert task.batch == 2 and task.hidden.shape == (1, 2, 6)


# --- a checkpoint of something else


def test_another_vocabulary_or_shape_is_refused_and_nothing_changes():
    state = make(engine=Engine("cpu")).state()
    other = corpus()
    other = Corpus("other", other.train, other.valid, other.test, ["x0", *other.vocabulary[1:]])
    task = make(engine=Engine("cpu"), data=other, seed=3)
    before = [w.detach().clone() for w in task.weights]
    with pytest.raises(OcheError, match=r"the checkpoint knows 9 words, and it lacks 1 of other, such as 'x0'"):
        task.load(state)
    swapped = Corpus("other", other.train, other.valid, other.test, corpus().vocabulary[::-1])
    with pytest.raises(OcheError, match=r"other orders them differently"):
        make(engine=Engine("cpu"), data=swapped).load(state)
    with pytest.raises(OcheError, match=r"the checkpoint is of a network with other shapes"):
        make("lstm", engine=Engine("cpu")).load(state)
    assert all(map(torch.equal, task.weights, before))


def test_a_window_longer_than_a_stream_is_refused():
    with pytest.raises(
        OcheError, match=r"bptt=35 is longer than a stream: 240 tokens in batch=64 streams make 3 steps"
    ):
        recurrent().check(CELL, corpus())
    recipe().check(CELL, corpus())
