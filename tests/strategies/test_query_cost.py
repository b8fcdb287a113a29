"""Costs that queries of a table stand for: a sum over edges, and the timing of five small cells."""

import pytest

import oche
from oche.core.nasbench201 import OPERATIONS
from oche.devices.engine import Engine
from oche.strategies.query_cost import QueryCost, evenly, timed_cost

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|nor_conv_3x3~0|none~1|none~2|"


def test_a_cell_costs_what_its_edges_cost():
    cost = QueryCost(10.0, {**dict.fromkeys(OPERATIONS, 0.0), "nor_conv_3x3": 5.0, "skip_connect": 1.0}, "made")
    assert cost(CELL) == 10 + 5 + 1 + 5
    assert cost.mean == 10 + 6 * (5 + 1) / 5
    assert evenly(7.5)(CELL) == evenly(7.5).mean == 7.5


def test_five_cells_are_timed_and_scaled_to_the_published_training(monkeypatch):
    steps = {"none": 1.0, "skip_connect": 0.9, "nor_conv_1x1": 1.6, "nor_conv_3x3": 4.0, "avg_pool_3x3": 1.3}
    seen = []

    def step(space, genotype, engine, batch, count):
        seen.append((space.channels, space.cells, space.classes, space.image))
        return steps[genotype.cells["cell"].edges[0][0]]

    monkeypatch.setattr("oche.strategies.query_cost._step_seconds", step)
    cost = timed_cost("imagenet16", Engine("cpu", 1), batch=100)
    scale = 12 * 151_700 / 100
    assert cost.fixed == pytest.approx(scale)
    assert cost.operations["nor_conv_3x3"] == pytest.approx(scale * 3 / 6)
    assert cost.operations["skip_connect"] == 0  # noise of the clock gives no negative cost
    assert set(seen) == {(16, 5, 120, (16, 16))}
    assert "12 epochs of 151,700 images" in cost.source


def test_a_convolution_takes_longer_than_nothing():
    cost = timed_cost("cifar10", Engine("cpu", 1), batch=8, steps=2, space=oche.spaces.nb201(channels=4, cells=1))
    assert cost.fixed > 0 and cost.operations["nor_conv_3x3"] > 0
