"""The form of a fit's trainings: the fastest that computes right gradients, and the plain choice in doubt."""

from __future__ import annotations

import pytest

from oche.core.errors import OcheError
from oche.devices.engine import Engine
from oche.fitting import forms
from oche.fitting.forms import Form, fastest_form
from oche.training.image_recipes import Recipe, modern
from tiny_images import dataset

SIZE = modern(channels=4, cells=1, batch=8)


@pytest.fixture
def steps(monkeypatch):
    """The seconds of a step by (engine, precision), which a test sets."""
    times = {("auto", "float32"): 1.0, ("plain", "float32"): 1.0, ("auto", "bf16"): 1.0, ("plain", "bf16"): 1.0}
    monkeypatch.setattr(
        forms, "time_training", lambda genotype, recipe, data, engine: (times[engine.fused, recipe.precision], 0, 0)
    )
    return times


def choose(precision="auto", engine="auto") -> Form:
    return fastest_form("RESNET", SIZE, dataset(), Engine("cpu", fused=engine), precision)


@pytest.mark.parametrize(
    ("faster", "seconds", "chosen"),
    [
        (("auto", "bf16"), 0.5, ("auto", "bf16")),
        (("plain", "float32"), 0.8, ("plain", "float32")),
        (("plain", "float32"), 0.95, ("auto", "float32")),
        (("auto", "bf16"), 0.95, ("auto", "float32")),
    ],
)
def test_the_fastest_form_is_taken_if_it_saves_a_tenth(steps, faster, seconds, chosen):
    steps[faster] = seconds
    found = choose()
    assert (found.engine, found.precision) == chosen
    assert dict(found.seconds)[f"{faster[1]} {faster[0]}"] == seconds and len(found.seconds) == 3


def test_wrong_gradients_rule_bfloat16_out(steps, monkeypatch):
    steps["auto", "bf16"] = 0.1

    def refuse(recipe, genotype, data, engine):
        raise OcheError("wrong gradients")

    monkeypatch.setattr(Recipe, "check", refuse)
    found = choose()
    assert found.precision == "float32" and "bf16 auto" not in dict(found.seconds)


@pytest.mark.parametrize(
    ("precision", "engine", "timed"),
    [
        ("float32", "auto", {"float32 auto", "float32 plain"}),
        ("auto", "plain", {"float32 plain", "bf16 plain"}),
        ("bf16", "auto", set()),
        ("float32", "plain", set()),
        ("auto", "fused", set()),
    ],
)
def test_what_the_user_fixes_is_not_tried_otherwise(steps, precision, engine, timed):
    found = choose(precision, engine)
    assert {name for name, _ in found.seconds} == timed
    assert found.precision == ("bf16" if precision == "bf16" else "float32")


def test_bfloat16_has_no_compiled_form():
    with pytest.raises(OcheError, match=r"precision='bf16' computes with plain modules"):
        choose("bf16", "fused")


def test_a_form_says_what_was_timed(steps):
    steps["auto", "bf16"] = 0.5
    assert choose().describe() == (
        "computes with convolutions in bfloat16, engine auto "
        "(a small step: float32 auto 1000 ms; float32 plain 1000 ms; bf16 auto 500 ms)"
    )
