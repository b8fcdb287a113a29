"""`oche cost`: what it counts against hand-made sums, what it writes, what it refuses."""

import json
from dataclasses import replace

import pytest
import torch

import oche
from oche.cli import main as cli
from oche.cost import flops, parameters
from oche.cost import module_cost as clock
from oche.cost.latency_table import LatencyTable
from oche.cost.summary import summarise_costs
from oche.devices.engine import Engine
from oche.methods.cost_constraints import latency
from oche.methods.published import METHODS

# Operation at C channels, stride s, on H x W pixels out: (weights, multiply-adds), on paper.
BY_HAND = {
    "none": lambda c, s, n: (0, 0),
    "max_pool_3x3": lambda c, s, n: (0, 0),
    "avg_pool_3x3": lambda c, s, n: (0, 0),
    "skip_connect": lambda c, s, n: (0, 0) if s == 1 else (c * c + 2 * c, n * c * c),
    "sep_conv_3x3": lambda c, s, n: (2 * (9 * c + c * c + 2 * c), 2 * n * (9 * c + c * c)),
    "sep_conv_5x5": lambda c, s, n: (2 * (25 * c + c * c + 2 * c), 2 * n * (25 * c + c * c)),
    "dil_conv_3x3": lambda c, s, n: (9 * c + c * c + 2 * c, n * (9 * c + c * c)),
    "dil_conv_5x5": lambda c, s, n: (25 * c + c * c + 2 * c, n * (25 * c + c * c)),
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Two runs are enough where the time itself is not looked at."""
    monkeypatch.setattr(clock, "MIN_RUNS", 2)
    monkeypatch.setattr(clock, "MIN_SECONDS", 0.0)


def test_candidates_by_hand():
    space = oche.spaces.darts(channels=4, cells=3, classes=3, in_channels=1, image=(8, 8))
    genotype = oche.genotypes.DARTS_V2
    net = oche.build(genotype, classes=3, channels=4, cells=3, in_channels=1, image=8)
    found = summarise_costs(net, genotype, space, Engine("cpu", 1))
    places = [(c.place.channels, c.place.stride, c.place.size) for c in found.candidates]
    assert {*places} == {(4, 1, (8, 8)), (8, 2, (8, 8)), (8, 1, (4, 4)), (16, 2, (4, 4)), (16, 1, (2, 2))}
    assert len(places) == 5 * 8
    for c in found.candidates:
        (h, w), s = c.place.size, c.place.stride
        assert (c.cost.parameters, c.cost.macs) == BY_HAND[c.operation](c.place.channels, s, (h // s) * (w // s)), c
        assert c.cost.flops == 2 * c.cost.macs and c.cost.time.median > 0
    assert found.parts > 0 and found.network.parameters == sum(p.numel() for p in net.parameters())


def darts_v2(c=48, cells=14, classes=1000):
    """Weights and multiply-adds of DARTS_V2's network for ImageNet at 224 x 224, layer by layer (1806.09055 §A.3)."""
    conv = lambda a, b, k, n: (a * b * k * k, n * a * b * k * k)  # noqa: E731
    rows = [conv(3, c // 2, 3, 112**2), conv(c // 2, c, 3, 56**2), conv(c, c, 3, 28**2)]
    norms, previous, last, side = c // 2 + c + c, c, c, 28
    for i in range(cells):
        reduce = i in (cells // 3, 2 * cells // 3)
        c *= 2 if reduce else 1
        rows += [conv(previous, c, 1, side**2), conv(last, c, 1, side**2)]
        norms += 2 * c
        out = side // 2 if reduce else side
        cell = oche.genotypes.DARTS_V2.cells["reduce" if reduce else "normal"]
        for op, source, _ in cell.edges:
            w, m = BY_HAND[op](c, 2 if reduce and source < 2 else 1, out**2)
            rows.append((w, m))
        side = out
        previous, last = last, 4 * c
    rows.append((last * classes + classes, last * classes))
    return sum(w for w, _ in rows) + 2 * norms, sum(m for _, m in rows)


def test_a_whole_network_by_hand():
    net = oche.build("DARTS_V2", classes=1000, channels=48, cells=14, stem="imagenet", image=224)
    weights, macs = darts_v2()
    assert parameters(net) == weights == 4718752  # published: 4.7 M
    assert flops(net, lambda: net(torch.zeros(1, 3, 224, 224))) == 2 * macs
    assert macs == 529911552  # published: 574 M, by a way of counting that nobody has found out


def test_published_multiply_adds_of_gdas():
    """581 M and 5.3 M at C = 50 in 1910.04465: the same operations are counted there."""
    net = oche.build("GDAS_V1", classes=1000, channels=50, cells=14, stem="imagenet", image=224)
    assert round(flops(net, lambda: net(torch.zeros(1, 3, 224, 224))) / 2e6) == 581
    assert round(parameters(net) / 1e6, 1) == 5.3


# --- the command ----------------------------------------------------------------------------------------------------------


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
        ("", "oche cost takes a genotype, or --table FILE"),
        ("DARTS_V2 --table t.json", "oche cost takes a genotype, or --table FILE"),
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


# --- a search by a measured penalty ---------------------------------------------------------------------------------------


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
