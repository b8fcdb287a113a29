"""The script that measures how steps grow with the size of the search."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest

from oche.bench.interleaved import Result
from oche.bench.settings import BenchConfig
from oche.core.errors import OcheError
from paths import ROOT

pytestmark = pytest.mark.slow  # draws


@pytest.fixture(scope="module")
def growth():
    file = ROOT / "benchmarks/growth.py"
    spec = importlib.util.spec_from_file_location("growth", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_growth_measures_each_point_once_and_finds_the_powers(growth, tmp_path, monkeypatch, capsys):
    asked = []

    def fake(given, work, forms, profile=False):
        asked.append(growth.name(given))
        seconds = 0.1 * given.batch * given.channels**2 * given.cells
        rows = [{"name": "a|b", "ms": 2.0, "share": 1.0, "calls": 3}] if profile else []
        return {form: Result([seconds, seconds, 9e9], 2**20 * given.batch, profile=rows) for form in forms}

    monkeypatch.setattr(growth, "measure_forms", fake)
    base = BenchConfig(works=("first",), batch=4, channels=4, cells=3, nodes=2, candidates=3)
    sizes = dict(batch=(2, 4, 8), channels=(2, 4), cells=(3,), nodes=(2,), candidates=(3,), forms=("plain", "native"))
    given = growth.Growth(tmp_path / "g", base, **sizes)
    growth.main(given)
    assert len(asked) == len({*asked}) == 4  # the base lies on every axis
    page = (tmp_path / "g.md").read_text()
    assert "| plain | 1.00 | 2.00 |  |  |  |" in page and "| a\\|b | 2.0 | 100.0 % | 3 |" in page
    assert "| batch 8 | native | 38.4 | 0.01 |" in page
    drawn = (tmp_path / "g.svg").read_text()
    assert all(axis in drawn for axis in growth.AXES) and "seconds a step" in drawn and "native" in drawn
    growth.main(given)
    assert len(asked) == 4  # what is there is not measured again
    assert len(json.loads((tmp_path / "g.json").read_text())) == 4


@pytest.mark.parametrize("power", [0.5, 1, 2.5])
def test_powers(growth, power):
    assert growth.exponent([(x, 3 * x**power) for x in (1, 2, 5, 8)]) == pytest.approx(power)
    assert growth.exponent([(4, 1.0)]) is None and growth.exponent([]) is None


def test_a_base_that_leaves_a_size_open_is_refused(growth, tmp_path):
    with pytest.raises(OcheError, match=r"the base leaves nodes open; give --base.nodes a number"):
        growth.main(growth.Growth(tmp_path / "g", BenchConfig(batch=4, channels=4, cells=3, candidates=3)))
