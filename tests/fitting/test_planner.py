"""The planner of a fit: what it decides for given times of steps, and that its times add up to the budget."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from oche.core.errors import OcheError
from oche.devices.engine import Engine
from oche.fitting import forms, kept_times, step_times
from oche.fitting.planner import CLOSING, FitPlan, images_needed, is_short, make_plan
from oche.fitting.step_times import UPDATES
from oche.runs.config import FitConfig
from oche.runs.warm_start import Pretrained
from oche.training.image_recipes import Recipe
from tiny_images import dataset

ENGINE = Engine("cpu")


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine whose steps take the time that a test sets: of a search, and of a training per channels² · cells."""
    times = {"search": 0.1, "train": 1e-4}

    def training(genotype, recipe, data, engine):
        size = recipe.channels**2 * recipe.cells
        return times["train"] * size, 100 * size, 1000 * size

    monkeypatch.setattr(kept_times, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(Recipe, "check", lambda *given: None)  # a check in bfloat16 would compile kernels
    for module in (step_times, forms):
        monkeypatch.setattr(module, "time_training", training)
    monkeypatch.setattr(step_times, "time_search", lambda *given: times["search"])
    return times


def images(count: int, side: int | None = None):
    """Data of ``count`` training images; none is read."""
    data = dataset()
    rows = data.train.subset(torch.arange(count) % len(data.train))
    return replace(data, train=rows if side is None else rows.resized((side, side)))


def plan(config, data, spent=5.0, **init) -> FitPlan:
    return make_plan(config, data, ENGINE, lambda: spent, **init)


@pytest.mark.parametrize("budget", ["2m", "1h", "8h"])
@pytest.mark.parametrize("search", ["auto", "always", "never"])
def test_times_add_up_to_the_budget(machine, budget, search):
    config = FitConfig(budget=budget, search=search)
    found = plan(config, images(2000))
    assert found.seconds == pytest.approx(config.seconds)
    assert found.spent == 5 and found.closing_seconds == CLOSING
    assert found.epochs == pytest.approx(found.train_seconds / found.step_seconds * found.batch / 2000)
    assert FitPlan.from_dict(found.to_dict(), "x") == found
    assert (found.search_seconds > 0) == (found.decision == "search")


def test_a_search_that_cannot_decide_is_not_begun(machine, monkeypatch, tmp_path):
    """2,000 steps of 0.1 s are 200 s, more than 0.35 of the 583 s that a budget of 10 minutes leaves: 204 s just pay."""
    assert plan(FitConfig(budget="10m"), images(2000)).decision == "search"
    machine["search"] = 0.11
    monkeypatch.setattr(kept_times, "cache_folder", lambda: tmp_path / "new")
    found = plan(FitConfig(budget="10m"), images(2000))
    assert found.decision == "prior" and found.genotype == "RESNET" and found.search_steps == 0
    assert any(
        "no search: 2,000 steps, which a search needs to decide, would take 4 min of 10 min" in why for why in found.why
    )
    assert plan(FitConfig(budget="10m", search="never"), images(2000)).decision == "prior"
    forced = plan(FitConfig(budget="10m", search="always"), images(2000))
    assert forced.decision == "search" and forced.search_seconds == pytest.approx(0.35 * 583, rel=0.01)


def test_few_images_are_not_searched_on(machine):
    found = plan(FitConfig(budget="8h"), images(999))
    assert found.decision == "prior" and "999 training images are too few" in found.why[1]


def test_a_search_leaves_time_to_train_what_it_found(machine):
    """The found network at 16 channels and 5 cells takes 0.128 s a step of 64; 383 s show it 191,000 images."""
    machine["train"] = 1e-3
    found = plan(FitConfig(budget="10m"), images(2000))
    assert found.decision == "prior" and any("would see" in why for why in found.why)


def test_a_long_budget_searches_no_longer_than_twice_what_decides(machine):
    assert plan(FitConfig(budget="8h"), images(2000)).search_steps == 2 * UPDATES


@pytest.mark.parametrize(("budget", "least", "most"), [("2m", 8, 24), ("1h", 32, 96), ("8h", 64, 96)])
def test_more_time_trains_larger_networks(machine, budget, least, most):
    found = plan(FitConfig(budget=budget, search="never"), images(2000))
    assert least <= found.channels <= most
    seen = found.train_seconds / found.step_seconds * found.batch
    assert seen >= images_needed(2000) or found.channels == 8


def test_what_the_user_fixes_stays(machine):
    config = FitConfig(budget="1h", search="never", channels=20, cells=3, batch=24, stem="stride2", genotype="PDARTS")
    config = replace(config, search="auto")
    found = plan(config, images(2000))
    assert (found.channels, found.cells, found.batch, found.stem) == (20, 3, 24, "stride2")
    assert found.decision == "given" and found.genotype == "PDARTS" and "cells: PDARTS, as asked" in found.why


@pytest.mark.parametrize(
    ("side", "stem"), [(16, "cifar"), (40, "cifar"), (64, "stride2"), (96, "stride4"), (224, "stride4")]
)
def test_stems_fit_the_images(machine, side, stem):
    assert plan(FitConfig(budget="1h"), images(64, side)).stem == stem


@pytest.mark.parametrize(("count", "batch"), [(60, 16), (128, 16), (300, 32), (2000, 64), (50_000, 64)])
def test_few_images_have_small_batches(machine, count, batch):
    assert plan(FitConfig(budget="1h"), images(count)).batch == batch


def test_shipped_weights_fix_their_network(machine):
    found = plan(FitConfig(budget="1h"), images(2000), init=Pretrained("w.safetensors", "RESNET", 32, 1, "cifar"))
    assert (found.decision, found.genotype, found.channels, found.cells, found.init) == (
        "prior",
        "RESNET",
        32,
        1,
        "w.safetensors",
    )
    assert found.why[-1] == "begins with the weights of w.safetensors"
    assert "cells: RESNET, those of the weights to begin with" in found.why


def test_a_budget_that_reading_the_data_used_up_is_refused(machine):
    with pytest.raises(
        OcheError, match=r"reading the data and planning took 70 s, and .* a longer budget, a smaller --size"
    ):
        plan(FitConfig(budget="90s"), images(2000), spent=70)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"budget": "30s"}, "too short to train and assess"),
        ({"budget": "an hour"}, "is not a length of time"),
        ({"channels": 0}, "channels=0 leaves nothing"),
        ({"genotype": "PDARTS", "search": "always"}, "contradict each other"),
    ],
)
def test_impossible_configurations_are_refused(fields, says):
    with pytest.raises(OcheError, match=says):
        FitConfig(**fields)


def test_a_damaged_plan_is_refused(machine):
    kept = plan(FitConfig(budget="1h"), images(64)).to_dict()
    del kept["channels"]
    with pytest.raises(OcheError, match=r"runs/x/plan.json is no plan of a fit .*channels"):
        FitPlan.from_dict(kept, "runs/x/plan.json")


def test_earlier_times_are_used_again(machine):
    """The second plan measures the chosen network alone, in the time of the first."""
    first = plan(FitConfig(budget="1h", search="never"), images(2000))
    machine["search"], machine["train"] = 99.0, 1.2e-4  # within 25 %
    assert plan(FitConfig(budget="1h", search="never"), images(2000)).channels == first.channels
    again = plan(FitConfig(budget="1h"), images(2000))
    assert again.step_seconds == pytest.approx(1.2 * first.step_seconds)


def test_a_machine_that_became_slower_is_timed_anew(machine):
    config = FitConfig(budget="1h", search="never")
    first = plan(config, images(2000))
    machine["train"] *= 10
    slow = plan(config, images(2000))
    assert slow.channels < first.channels
    assert slow.step_seconds == pytest.approx(machine["train"] * slow.channels**2 * slow.cells)


def test_a_plan_that_sees_too_few_images_is_short(machine):
    data = images(2000)
    assert not is_short(plan(FitConfig(budget="1h", search="never"), data), data)
    machine["train"] = 0.1
    config = FitConfig(budget="2m", search="never", seed=1)
    assert is_short(make_plan(replace(config, threads=1), data, Engine("cpu", 1), lambda: 5.0), data)
