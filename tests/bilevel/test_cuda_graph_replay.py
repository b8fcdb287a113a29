"""Replayed steps of trainings, and of searches on text, against eager ones, bit for bit, by a stand-in for CUDA graphs."""

from dataclasses import replace

import pytest
import torch

import oche
import tiny_text
from oche.bilevel.cuda_graph_replay import replay
from oche.core.optimizers import Sgd
from oche.devices.engine import Engine
from oche.kernels.cuda_graphs import WARM_UP_STEPS
from oche.methods.hypergradients import FiniteDifference, joint
from oche.networks.language_model import Dropouts
from oche.training.language_recipes import LanguageRecipe, PlainSgd
from oche.training.language_trainer import LanguageTraining
from recorded_graphs import Plain, Tape
from replayed_trainings import search, training

STEPS = 5
BENCHMARK = oche.core.nasbench201.parse(
    "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"
)


def silent(message):
    raise AssertionError(message)


def run(task, steps=range(STEPS), before=None):
    per_epoch = task.per_epoch()
    for step in steps:
        if step % per_epoch == 0:
            task.begin(step // per_epoch, 0)
        if before and step in before:
            before[step](task)
        task.step(step, step / STEPS)
    return task


def tensors(value, name=""):
    """Every tensor of a state, by the way to it, as float64."""
    if isinstance(value, torch.Tensor):
        return {name: value.detach().double().clone()}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return {k: t for key, inner in items for k, t in tensors(inner, f"{name}.{key}").items()}


def outcome(task):
    return tensors(task.state()) | {f"meter.{k}": m.sums.clone() for k, m in task.meters.items()}


def differing(one, other, rtol=0.0):
    assert one.keys() == other.keys()
    return [k for k in one if not torch.allclose(one[k], other[k], rtol=rtol, atol=rtol)]


def compare(make, **fields):
    """Of a stock loop, one that repeats by running, and a replayed one."""
    stock, plain, taped = (make() for _ in range(3))
    tape = Tape()
    assert replay(plain, silent, Plain()) and replay(taped, silent, tape)
    for task in (stock, plain, taped):
        run(task, **fields)
    assert not differing(outcome(plain), outcome(taped))
    # Torch's fused optimisers round in another order than its plain ones.
    assert not differing(outcome(stock), outcome(taped), 1e-10)
    return tape, taped


# --- images

W = Sgd(lr=0.1, lr_min=0.01, momentum=0.9, decay=0.01, clip=0.5)
RECIPES = {
    "plain": dict(drop_path=0.0, auxiliary=0.0),
    "drop path, tower, smoothing": dict(drop_path=0.6, auxiliary=0.3, label_smoothing=0.2),
    "mixtures, moving mean, Nesterov, norms without decay": dict(
        mixup=1.0, cutmix=1.0, ema=0.9, w=replace(W, nesterov=True, decay_norms=False, clip=0.0), auxiliary=0.0
    ),
    "in parts": dict(drop_path=0.5, accumulate=2, auxiliary=0.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_trainings_of_final_networks(name):
    tape, taped = compare(lambda: training(**RECIPES[name]))
    assert (tape.recorded, tape.warmed, tape.replayed) == (1, WARM_UP_STEPS, STEPS - WARM_UP_STEPS)
    assert all(isinstance(group["lr"], float) for group in taped.optimizer.param_groups)


def test_the_network_of_the_benchmark():
    compare(lambda: training(BENCHMARK, cells=1, drop_path=0.5, auxiliary=0.0))


def test_paths_are_dropped_in_replayed_steps():
    """What makes the tests above ones of drop path: other draws are another network."""
    one, other = (training(drop_path=0.6, auxiliary=0.0) for _ in range(2))
    other.net.drops = lambda x: torch.ones(len(type(other.net).drops(other.net, x)), len(x), dtype=x.dtype)
    for task in (one, other):
        replay(task, silent, Tape())
        run(task)
    assert differing(outcome(one), outcome(other), 1e-3)


def test_a_reloaded_training_is_recorded_anew():
    def reload(task):
        task.load(task.state())

    tape, _ = compare(lambda: training(ema=0.5, **RECIPES["plain"]), steps=range(9), before={4: reload})
    assert tape.recorded == 2


# --- text

RECURRENT = "Genotype(recurrent=[('tanh', 0), ('relu', 1), ('sigmoid', 1)], concat=range(1, 4))"
DROPS = Dropouts(output=0.3, hidden=0.2, input=0.3, embedding=0.2, words=0.1)


def language(genotype=RECURRENT, fused="plain", **fields):
    small = dict(width=4, dropouts=DROPS, w=PlainSgd(lr=2.0, decay=0.01, clip=0.05), batch=4, bptt=3, steps=STEPS)
    recipe = LanguageRecipe(**{**small, "varying": False, "temporal": 0.5, "activation": 0.3, **fields})
    engine = Engine("cpu", dtype=torch.float64, fused=fused)
    return LanguageTraining(genotype, recipe, tiny_text.corpus(120), seed=0, engine=engine, title="t")


@pytest.mark.parametrize("genotype, fused", [(RECURRENT, "plain"), (RECURRENT, "auto"), ("lstm", "plain")])
def test_windows_of_language_models(genotype, fused):
    tape, taped = compare(lambda: language(genotype, fused))
    assert (tape.recorded, tape.replayed) == (1, STEPS - WARM_UP_STEPS)
    assert taped.hidden.abs().sum() > 0 and isinstance(taped.optimizer.param_groups[0]["lr"], float)


def test_every_length_of_a_window_has_a_graph_and_a_pass_begins_with_zeros():
    tape, taped = compare(lambda: language(bptt=4, batch=8), steps=range(24))  # windows of 4, 4, 4, 2 words
    assert [length for _, length in taped.windows] == [4, 4, 4, 2] and tape.recorded == 2


def test_means_of_weights_that_begin_later():
    def begin(task):
        task.average = oche.training.weight_averaging.WeightAverage(task.weights)

    tape, taped = compare(language, steps=range(9), before={4: begin})
    assert tape.recorded == 2 and taped.average.count == 5


# --- searches on text

METHODS = {
    "first order": dict(),
    "second order": dict(hypergrad=FiniteDifference()),
    "one level": dict(hypergrad=joint),
    "after a warm-up": dict(warmup=0.8),
}


@pytest.mark.slow
@pytest.mark.parametrize("name, fused", [*((name, "plain") for name in METHODS), ("second order", "auto")])
def test_searches_of_recurrent_cells(name, fused):
    steps = range(9) if name == "after a warm-up" else range(STEPS)
    tape, taped = compare(lambda: search(fused, **METHODS[name]), steps=steps)
    assert tape.recorded == (1 if name != "after a warm-up" else 2)
    assert taped.feed._streams["train"].hidden.abs().sum() > 0


def _settle(task):
    alive = task.alive["recurrent"].clone()
    alive[1, 2] = alive[3, 1] = alive[3, 3] = False
    task._narrow({"recurrent": alive})


@pytest.mark.slow
@pytest.mark.parametrize("fused", ["plain", "auto"])
def test_a_mask_with_gaps_is_on_the_device_before_it_is_recorded(fused):
    tape, _ = compare(lambda: search(fused), steps=range(8), before={4: _settle})
    assert tape.recorded == 2
