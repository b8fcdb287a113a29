"""The comparison script: what it asks of each run, that it skips what is done, and the table that it writes."""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from oche.bench201 import OPERATIONS
from oche.commands import SearchArgs
from oche.errors import OcheError
from oche.methods import METHODS
from oche.run.config import parse
from oche.spaces import SPACES

FILE = Path(__file__).parents[1] / "benchmarks/compare_nb201.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("compare_nb201", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A table in which all cells reach 50 %, and the one of 3 × 3 convolutions 60 %."""
    archs = ["|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*row) for row in itertools.product(OPERATIONS, repeat=6)]
    path = tmp_path_factory.mktemp("table") / "made.parquet"
    values = [60.0 if arch.count("nor_conv_3x3") == 6 else 50.0 for arch in archs]
    pq.write_table(pa.table({"arch": archs, "cifar10_test_200ep": values}), path)
    return path


def setting(script, made, out, **fields):
    fixed = dict(
        data="digits", table=made, out=out, seeds=(0,), budget="1s", channels=2, limit=60, tried=5, device="cpu"
    )
    return script.Setting(**{**fixed, **fields})


@pytest.mark.parametrize("method", METHODS)
def test_the_line_of_every_method_is_understood(script, made, tmp_path, method):
    words = setting(script, made, tmp_path, tried=30, batch=8).words(method, 4)
    words = [
        w
        for i, w in enumerate(words)
        if w not in ("search", "--method", "--space") and words[i - 1] not in ("--method", "--space")
    ]
    given = parse(
        SearchArgs(method=method, search=METHODS[method].make(), space=SPACES["nb201"]()),
        words,
        prog="x",
        description="",
        epilog="",
    )
    assert (given.search.budget, given.search.batch, given.seed, given.space.channels) == ("1s", 8, 4, 2)
    counts = {"random-ws": ("count", 30), "one-shot": ("count", 30), "evolution-ws": ("cycles", 30)}
    if method in counts:
        name, value = counts[method]
        assert getattr(given.search.select, name) == value
    assert given.search.select.asks == METHODS[method].make().select.asks


def test_runs_are_made_once_and_the_table_holds_them(script, made, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(FILE.parents[1])
    asked = setting(script, made, tmp_path / "out", methods=("random-ws",))
    assert script.main(asked) == 0
    usage = json.loads((tmp_path / "out/random-ws-0.json").read_text())
    assert usage["exit"] == 0 and usage["peak_mb"] > 50 and usage["wall_s"] > 1
    text = (tmp_path / "out/table.md").read_text()
    line = next(line for line in text.splitlines() if line.startswith("| random-ws |"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1] in ("50.00", "60.00") and cells[4] == "1" and cells[-1].startswith("87.66")
    assert (
        "| a random cell, the mean of all | 50.00 ± 0.08 | 10.00 | 50.00 | 15,625 |" in text and "Not there" not in text
    )

    monkeypatch.setattr(script, "subprocess", None)  # nothing is started again
    assert script.main(asked) == 0
    with pytest.raises(OcheError, match="holds runs of another setting"):
        script.main(setting(script, made, tmp_path / "out", methods=("random-ws",), channels=4))


def test_failures_are_told_in_their_own_words(script, made, tmp_path):
    asked = setting(script, made, tmp_path, methods=("darts", "gdas"))
    (tmp_path / "darts-0.log").write_text("oche search …\noche: the loss became nan\n")
    (tmp_path / "darts-0.json").write_text(json.dumps({"exit": 1, "peak_mb": 1, "wall_s": 1}))
    text = script.table(asked)
    assert "- darts, seed 0: oche: the loss became nan" in text and "- gdas, seed 0: not run" in text


def test_unknown_methods_are_refused(script, made, tmp_path):
    with pytest.raises(OcheError, match="unknown methods dartz; known: darts"):
        script.main(setting(script, made, tmp_path / "new", methods=("dartz",)))
    assert not (tmp_path / "new").exists()


def test_spread(script):
    assert (
        script.spread([1.0, 2.0, 3.0]) == "2.00 ± 1.00" and script.spread([5.0]) == "5.00" and script.spread([]) == "–"
    )
