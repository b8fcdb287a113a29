"""Which controls a fit has, and how large they are."""

from __future__ import annotations

from dataclasses import replace

import pytest

import small_fits
from oche.fitting.controls import controls_of, like_cost
from oche.runs.config import FitConfig
from tiny_images import dataset


@pytest.mark.parametrize(
    ("decision", "init", "names"),
    [
        ("search", None, ["control-residual", "control-random"]),
        ("prior", None, []),  # the network is the control
        ("prior", "w.safetensors", ["control-residual"]),
    ],
)
def test_a_control_differs_from_the_network(decision, init, names):
    plan = replace(small_fits.tiny_plan(dataset(), decision), init=init)
    assert controls_of(FitConfig(), plan) == names
    assert controls_of(FitConfig(control=False), plan) == []


def test_the_residual_control_costs_what_the_network_costs():
    plan = small_fits.tiny_plan(dataset(), "prior")
    assert like_cost(plan, dataset()) == (plan.channels, plan.cells)
    wide = replace(plan, genotype="DARTS_V2", flops=16 * 300_000)
    narrow = replace(wide, flops=300_000)
    assert like_cost(wide, dataset())[0] == pytest.approx(4 * like_cost(narrow, dataset())[0], rel=0.3)
