"""A search by a measured penalty measures once."""

import json
from dataclasses import replace

import pytest

import oche
from oche.cost import module_cost as clock
from oche.methods.catalog import METHODS
from oche.methods.cost_constraints import latency


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Two runs are enough where the time itself is not looked at."""
    monkeypatch.setattr(clock, "MIN_RUNS", 2)
    monkeypatch.setattr(clock, "MIN_SECONDS", 0.0)


@pytest.mark.slow
def test_a_search_measures_once_and_goes_on_with_the_same_times(tmp_path, monkeypatch, quick):
    measured = []

    def time(module, *rest):  # a whole network takes twice the sum of its parts, each of which takes a millisecond
        measured.append(module)
        return clock.Timing(188.0 if hasattr(module, "genotype") else 1.0, 1.0, 1.0, 7)

    monkeypatch.setattr("oche.cost.latency_table.measure_latency", time)
    space = oche.spaces.nb201(channels=4, cells=1)
    method = METHODS["beta-darts"].make(steps=2, batch=8)
    method = replace(method, penalty=method.method.penalty + latency, target="188ms")
    run = oche.search(space=space, method=method, limit=40, out=tmp_path / "x")
    assert (tmp_path / "x" / "latencies.json").exists() and measured
    cell = run.genotype.cells["cell"]
    assert run.summary["cost"] == 2 * (4 + 3 * 5 * len(cell.edges))  # five cells a stage
    assert run.history[-1]["cost"] == pytest.approx(run.summary["cost"])
    assert json.loads((tmp_path / "x" / "space.json").read_text())["priced"]["kind"] == "latency"
    count = len(measured)
    again = replace(method, latencies=tmp_path / "x" / "latencies.json")
    assert oche.search(space=space, method=again, limit=40, out=tmp_path / "y").genotype == run.genotype
    assert len(measured) == count and not (tmp_path / "y" / "latencies.json").exists()
