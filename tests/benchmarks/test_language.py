"""The script that compares found cells with random ones and an LSTM, on a text of a few lines."""

import importlib.util
import statistics
import sys

import pytest
import torch

import oche
from oche.core.seeds import generator
from paths import ROOT

pytestmark = pytest.mark.slow  # whole runs


@pytest.fixture
def script():
    file = ROOT / "benchmarks/language.py"
    spec = importlib.util.spec_from_file_location("language_benchmark", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_a_comparison_and_its_table(script, tmp_path, quick, monkeypatch, capsys):
    words = torch.randint(20, (7000,), generator=torch.Generator().manual_seed(0)).tolist()
    (tmp_path / "my.txt").write_text(" ".join(f"w{n}" for n in words))
    sizes = "--search-steps 2 --search-width 8 --search-batch 16 --search-lr 1 --steps 3 --width 6 --batch 4 --lr 1"
    sizes += " --threads 1 --seeds 0 1"
    line = [
        "--data",
        str(tmp_path / "my.txt"),
        "--out",
        str(tmp_path / "out"),
        *sizes.split(),
        "--kinds",
        "found",
        "random",
        "lstm",
    ]
    table = script.run(script.parsed(line)).read_text()
    runs = {(k, s): oche.Run.open(tmp_path / f"out/{k}-{s}") for k in ("found", "random", "lstm") for s in (0, 1)}
    searched = {s: oche.Run.open(tmp_path / f"out/search-{s}") for s in (0, 1)}
    for seed in (0, 1):
        assert runs["found", seed].genotype == searched[seed].genotype
        space = searched[seed].config.space
        assert runs["random", seed].genotype == space.random(generator(seed, "random cell"))
        assert f"- seed {seed}: `{searched[seed].genotype}`" in table
        assert {runs[kind, seed].summary["steps"] for kind in ("found", "random", "lstm")} == {3}
    for kind in ("found", "random", "lstm"):
        row = next(row for row in table.splitlines() if row.startswith(f"| {kind} |"))
        values = [runs[kind, seed].summary["test_ppl"] for seed in (0, 1)]
        assert f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}" in row and "| 2 |" in row
    weights = [runs[kind, 0].summary["parameters"] for kind in ("found", "lstm")]
    assert weights[0] == runs["random", 0].summary["parameters"]
    assert abs(weights[1] - weights[0]) <= 8 * 12 + 26 + 8  # half a step of the LSTM's width
    gap = runs["found", 0].summary["test_ppl"] - runs["lstm", 0].summary["test_ppl"]
    assert f"{gap:+.2f}" in table
    for name in ("search", "train"):
        monkeypatch.setattr(script.oche, name, lambda *a, **k: pytest.fail("a finished run was made again"))
    assert script.run(script.parsed(line)).read_text() == table
