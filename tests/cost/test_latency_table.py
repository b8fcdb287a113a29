"""Measured times: the statistics of a clock, files of tables, where they fit."""

import json
from dataclasses import replace
from statistics import median

import pytest
import torch
from torch import nn

import oche
from oche.core.environment import cpu_model
from oche.core.errors import OcheError
from oche.core.seeds import generator
from oche.cost import module_cost as clock
from oche.cost.breakdown import space_parts
from oche.cost.expected_cost import cost_model
from oche.cost.latency_table import LatencyTable, fill_table, latency_model, measure_latency
from oche.cost.module_cost import Timing, time_function
from oche.devices.engine import Engine

SPACE = oche.spaces.nb201(channels=2, cells=1, classes=3, in_channels=1, image=(8, 8))
ENGINE = Engine("cpu", 1)


def test_a_clock_leaves_the_warm_up_out(monkeypatch):
    """Runs of 9 s, three of them, then of 1, 2, … 11 s: the median is 6, the deciles 2 and 10."""
    lengths, now = iter([9.0] * 3 + [float(i) for i in range(1, 12)]), [0.0]

    def work():
        now[0] += next(lengths)

    monkeypatch.setattr(clock, "perf_counter", lambda: now[0])
    monkeypatch.setattr(clock, "MIN_SECONDS", 66.0)
    assert time_function(work) == Timing(6000.0, 2000.0, 10000.0, 11)


def test_a_clock_measures_at_least_so_often(monkeypatch):
    now = iter(range(1000))
    monkeypatch.setattr(clock, "perf_counter", lambda: float(next(now)))
    monkeypatch.setattr(clock, "MIN_SECONDS", 0.0)
    assert time_function(lambda: None).runs == clock.MIN_RUNS


@pytest.mark.slow
def test_times_are_of_as_many_images_as_the_batch_has():
    seen = []

    class Look(nn.Module):
        def forward(self, x):
            seen.append((tuple(x.shape), self.training, torch.is_grad_enabled()))
            return x

    measure_latency(Look(), torch.zeros(1, 2, 4, 4), ENGINE, batch=3)
    assert set(seen) == {((3, 2, 4, 4), False, False)}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table of the space, in a file."""
    path = tmp_path_factory.mktemp("table") / "latencies.json"
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "MIN_SECONDS", 0.0)
        fresh = replace(LatencyTable.fresh(ENGINE), each=told.append)
        fill_table(SPACE, fresh).write(path)
    assert told == list(fresh.entries) and len(told) == len({*told})
    return path


def test_a_table_says_what_it_was_measured_on(table):
    about = json.loads(table.read_text())["about"]
    assert about["hardware"] == cpu_model() and about["device"] == "cpu" and about["threads"] == 1
    assert about["torch"] == torch.__version__ and about["time"][:2] == "20"
    assert LatencyTable.open(table).differs(ENGINE) == ""
    assert "threads 1, here 2" in LatencyTable.open(table).differs(Engine("cpu", 2))


def test_a_table_from_a_file_gives_its_own_times_and_measures_none(table):
    found = LatencyTable.open(table)
    assert cost_model(SPACE, found) is not None
    for key in found.entries:
        found.entries[key] = Timing(1.0, 1.0, 1.0, 7)
    one = cost_model(SPACE, found)
    assert one.fixed == 4.0  # stem, two residual blocks, head
    assert (one.groups["cell"] == 3.0).all()  # a cell in each of three stages
    with pytest.raises(OcheError, match=r"the table of latencies has no .* measure one for this space and size"):
        cost_model(replace(SPACE, channels=4), found)


def test_the_expected_latency_of_one_cell_is_the_sum_of_its_parts(table):
    found = LatencyTable.open(table)
    one = cost_model(SPACE, found)
    cell = SPACE.random(torch.Generator().manual_seed(1))
    key = lambda op, place: found.entries[place.key(op)].median  # noqa: E731
    parts = space_parts(SPACE)
    want = sum(found.entries[p.key].median for p in parts.fixed)
    for e, (op, _, _) in enumerate(cell.cells["cell"].edges):
        want += sum(key(op, place) for place in parts.places["cell"][e])
    assert one.of(cell) == pytest.approx(want, rel=1e-12)


def test_prices_are_such_that_whole_networks_get_their_own_time(table):
    found = LatencyTable.open(table)
    wholes = {key: 7.0 for key in found.entries if key.startswith("network")}
    assert len(wholes) == 3
    found.entries |= {key: Timing(t, t, t, 7) for key, t in wholes.items()}
    sums, scaled = cost_model(SPACE, found), latency_model(SPACE, found)
    cells = [SPACE.random(generator(0, "whole networks", i)) for i in range(3)]
    factor = median(7.0 / sums.of(cell) for cell in cells)
    assert scaled.fixed == pytest.approx(factor * sums.fixed, rel=1e-12)
    assert sorted(scaled.of(cell) for cell in cells)[1] == pytest.approx(7.0, rel=1e-12)


def test_times_of_other_machines_do_not_join(table):
    found = LatencyTable.open(table)
    assert found.fits(ENGINE, 1, table) is found
    with pytest.raises(
        OcheError, match=r"was measured under other conditions \(batch 1, here 4\), so its times cannot be compared"
    ):
        found.fits(ENGINE, 4, table)
    found.about["hardware"] = "Abacus"
    with pytest.raises(OcheError, match="hardware Abacus, here"):
        found.fits(ENGINE, 1, table)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": "oche latencies 1", "about": {}, "batch": 1, "entries": {"x": 3}}']
)
def test_what_is_no_table_is_refused(text, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(OcheError, match=r"x\.json"):
        LatencyTable.open(path)
    with pytest.raises(OcheError, match=r"there is no table of latencies at .*; measure one: oche cost --table"):
        LatencyTable.open(tmp_path / "y.json")
