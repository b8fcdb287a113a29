"""oche cost."""

import json

import pytest

import oche
from cost_cases import BY_HAND
from oche.cli import main as cli
from oche.cost import module_cost as clock
from oche.cost.latency_table import LatencyTable


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Two runs are enough where the time itself is not looked at."""
    monkeypatch.setattr(clock, "MIN_RUNS", 2)
    monkeypatch.setattr(clock, "MIN_SECONDS", 0.0)


@pytest.fixture
def tell(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def tell(*words):
        capsys.readouterr()
        code = cli.main(["cost", *map(str, words)])
        return code, *capsys.readouterr()

    return tell


def test_a_published_cell(tell, tmp_path):
    code, out, _ = tell("DARTS_V2", "--recipe", "small", "--image", 8, "--threads", 1, "--out", "x.json")
    tree = json.loads((tmp_path / "x.json").read_text())
    net = oche.build("DARTS_V2", classes=10, channels=16, cells=5)
    assert code == 0 and tree["network"]["parameters"] == sum(p.numel() for p in net.parameters())
    assert f"parameters     {tree['network']['parameters']:,} " in out and "sep_conv_5x5" in out
    assert tree["about"]["hardware"] in out and tree["recipe"] == "small" and tree["about"]["threads"] == 1
    row = next(r for r in tree["candidates"] if r["operation"] == "sep_conv_3x3" and r["stride"] == 1)
    assert row["size"] == [8, 8] and row["macs"] == BY_HAND["sep_conv_3x3"](16, 1, 64)[1]


def test_a_run_is_taken_at_its_own_size(tell, searched, quick):
    code, out, _ = tell(searched.path, "--recipe", "small", "--quiet")
    config = searched.config
    h, w = config.space.image
    assert code == 0 and f"{config.space.in_channels} x {h} x {w}, {config.space.classes} classes" in out


def test_a_table_for_searches(tell, tmp_path):
    words = ("--table", "t.json", "--space", "nb201", "--image", 8, "--threads", 1)
    assert tell(*words)[0] == 0
    before = LatencyTable.open(tmp_path / "t.json").entries
    code, out, _ = tell(*words)  # nothing is measured twice
    assert code == 0 and f"{len(before)} times, 0 of them new" in out
    assert LatencyTable.open(tmp_path / "t.json").entries == before
    code, _, err = tell(*words, "--batch", 2)
    assert code == 2 and "t.json was measured under other conditions (batch 1, here 2)" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "oche cost needs a genotype or --table FILE"),
        ("DARTS_V2 --table t.json", "oche cost needs a genotype or --table FILE"),
        ("DARTS_V3", "did you mean 'DARTS_V2'?"),
        ("DARTS_V2 --recipe drats", "unknown recipe 'drats'; did you mean 'darts'?"),
        ("DARTS_V2 --recipe recurrent", "unknown recipe 'recurrent'"),
        ("DARTS_RNN_V2", "makes language models"),
        ("DARTS_V2 --batch 0", "use batch >= 1"),
        ("DARTS_V2 --device cuda:77", "device 'cuda:77' is not usable here"),
        ("DARTS_V2 --image 4", "smaller than this space handles"),
        ("--table t.json --space nb202", "unknown space 'nb202'; did you mean 'nb201'?"),
        ("--table t.json --space recurrent", "costs are known of networks for images"),
        ("--table t.json --recipe x", "'x' is no recipe of networks for images; use darts, "),
        ("nowhere/at/all", "there is nothing at nowhere/at/all"),
    ],
)
def test_mistakes_are_answered_on_one_line(words, said, tell):
    code, out, err = tell(*words.split())
    assert code == 2 and said in err and len(err.splitlines()) == 1 and not out
