"""True accuracies beside a search: which column of which table, what every epoch records, and the curve that the report draws."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import oche
from oche.cli.main import main
from oche.core.architecture import Genotype
from oche.core.errors import OcheError
from oche.core.nasbench201 import OPERATIONS, Table, to_text
from oche.spaces import darts, nb201
from oche.spaces.nasbench201_ground_truth import GroundTruth, column_for, load_ground_truth, table_for
from paths import SHARED

SPACE = nb201(channels=2, cells=1)
COLUMNS = ("cifar10_test_200ep", "cifar100_test_200ep", "imagenet16_test_200ep")
REAL = SHARED / "nasbench201_accuracies.parquet"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A table in which an operation is worth its place in the list, and each data set a little less."""
    ops = list(itertools.product(range(5), repeat=6))
    names = [OPERATIONS[o] for o in range(5)]
    archs = ["|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*(names[o] for o in row)) for row in ops]
    path = tmp_path_factory.mktemp("table") / "made.parquet"
    values = {column: [10.0 - i + sum(row) for row in ops] for i, column in enumerate(COLUMNS)}
    pq.write_table(pa.table({"arch": archs, **values}), path)
    return path


def worth(genotype: Genotype) -> float:
    return 10.0 + sum(OPERATIONS.index(op) for op, _, _ in genotype.cells["cell"].edges)


@pytest.mark.parametrize(
    ("data", "column"),
    [
        ("cifar10", 0), ("CIFAR-10", 0), ("/data/cifar10_jpeg.parquet", 0), ("hf:owner/cifar10", 0), ("cifar100", 1),
        ("x/CIFAR-100.npz", 1), ("ImageNet16-120", 2), ("~/imagenet16_120.npz", 2), ("digits", None), ("my/images", None),
    ],
)  # fmt: skip
def test_the_data_decide_which_accuracy(data, column):
    assert column_for(data) == (None if column is None else COLUMNS[column])


def test_accuracy_and_regret_are_shares_of_one(made):
    of = load_ground_truth(made, "cifar100")
    assert of is not None and of.best == pytest.approx((9 + 24) / 100)
    cell = oche.genotypes.resolve("|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|none~2|")
    wanted = (9 + 3 + 2 + 1 + 4) / 100
    assert of(cell) == pytest.approx({"true_acc": wanted, "regret": 0.33 - wanted})
    assert of.describe() == {"table": str(made), "column": COLUMNS[1], "best": of.best}
    assert load_ground_truth(None, "cifar10") is None and load_ground_truth(made, "digits").column == COLUMNS[0]


def test_a_column_that_the_table_lacks_is_refused(made, tmp_path):
    pq.write_table(pq.read_table(made).select(["arch", COLUMNS[0]]), tmp_path / "one.parquet")
    with pytest.raises(OcheError, match="has no column 'cifar100_test_200ep'"):
        GroundTruth(Table(tmp_path / "one.parquet"), COLUMNS[1])


def test_the_table_of_the_environment_is_used_where_it_fits(made, monkeypatch, tmp_path):
    monkeypatch.delenv("OCHE_NB201", raising=False)
    assert table_for(None, "cifar10", SPACE) is None
    monkeypatch.setenv("OCHE_NB201", str(made))
    assert table_for(None, "cifar10", SPACE) == made
    assert table_for(None, "digits", SPACE) is None and table_for(None, "cifar10", darts()) is None
    assert table_for(Path("mine"), "digits", SPACE) == Path("mine")
    few = nb201(candidates=("none", "skip_connect", "sep_conv_3x3"))
    assert table_for(None, "cifar10", few) is None
    for space in (few, darts()):
        with pytest.raises(OcheError, match=r"table mine knows the cells of NAS-Bench-201, .* use --space nb201"):
            table_for(Path("mine"), "cifar10", space)
    monkeypatch.setenv("OCHE_NB201", str(tmp_path / "none"))
    with pytest.raises(
        OcheError, match=r"there is no table at .*none, which the environment variable OCHE_NB201 names"
    ):
        table_for(None, "cifar10", SPACE)


WORDS = [
    "search",
    "--space",
    "nb201",
    "--space.channels",
    "2",
    "--space.cells",
    "1",
    "--limit",
    "60",
    "--search.batch",
    "16",
]


@pytest.mark.slow
def test_every_epoch_records_the_truth_and_the_report_draws_it(made, tmp_path, monkeypatch):
    monkeypatch.chdir(made.parent)
    out = tmp_path / "x"
    assert main([*WORDS, "--search.epochs", "2", "--table", made.name, "--out", str(out), "--quiet"]) == 0
    run = oche.Run.open(out)
    assert run.config.table == made  # from the root
    assert [r["epoch"] for r in run.history] == [0, 1, 2]
    for record in [*run.history, run.summary]:
        true = worth(Genotype.parse(record["genotype"])) / 100
        assert record["true_acc"] == pytest.approx(true) and record["regret"] == pytest.approx(0.34 - true)
    assert json.loads((out / "space.json").read_text())["truth"]["column"] == COLUMNS[0]
    page = (out / "report.html").read_text()
    assert "By the table of NAS-Bench-201 the cell has a test accuracy of" in page
    assert (out / "pictures/truth.svg").exists() and "best cell of the space: 34.00" in page


def test_without_a_table_nothing_is_recorded_and_one_for_other_cells_is_refused(
    made, tmp_path, monkeypatch, quick, capsys
):
    monkeypatch.setenv("OCHE_NB201", str(made))
    assert main([*WORDS, "--search.steps", "1", "--out", str(tmp_path / "x"), "--quiet"]) == 0
    assert not any("true_acc" in r for r in oche.Run.open(tmp_path / "x").history)
    assert main(["search", "--table", str(made), "--out", str(tmp_path / "y"), "--quiet"]) == 2
    assert "knows the cells of NAS-Bench-201" in capsys.readouterr().err and not (tmp_path / "y").exists()
    assert main([*WORDS, "--table", str(tmp_path / "no"), "--out", str(tmp_path / "y"), "--quiet"]) == 2
    assert "there is no table at" in capsys.readouterr().err and not (tmp_path / "y").exists()


@pytest.mark.slow
@pytest.mark.skipif(not REAL.exists(), reason=f"needs the table at {REAL}")
def test_the_real_table_knows_the_published_figures():
    for data, best, skips in (
        ("cifar10", 0.9437, 0.5430),
        ("cifar100", 0.7351, 0.1561),
        ("ImageNet16-120", 0.4731, 0.1632),
    ):
        of = load_ground_truth(REAL, data)
        found = of(oche.genotypes.resolve(to_text("|{0}~0|+|{0}~0|{0}~1|+|{0}~0|{0}~1|{0}~2|".format("skip_connect"))))
        assert of.best == pytest.approx(best, abs=5e-5) and found["true_acc"] == pytest.approx(skips, abs=5e-5)
