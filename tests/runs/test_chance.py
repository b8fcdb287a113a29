"""The share of the commonest class of the parts of a data set, and the classes that they lack."""

import io
import json
import shutil
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn import metrics

import oche
import small_runs
from oche.cli import main as cli
from oche.cli.common import reached
from oche.core.console import Log, SilentLog
from oche.core.seeds import derive_seed
from oche.data import Resident, halves
from oche.data import load as load_data
from oche.deploy.export import Export, export
from oche.report import run_page
from oche.report.read_run import read_run
from oche.runs.chance import majority_shares
from tiny_images import dataset


def part(labels):
    return Resident(torch.zeros(len(labels), 1, 8, 8, dtype=torch.uint8), torch.tensor(labels))


@pytest.fixture
def data():
    return dataset(classes=4)


def test_shares_of_each_part_and_one_line_for_what_is_lacking(data, capsys):
    parts = {"validation": part([0, 1, 1, 2, 3]), "test": part([2, 2, 2, 0]), "none": None}
    assert majority_shares(data, parts, Log(quiet=True)) == {"validation": 0.4, "test": 0.75}
    said = capsys.readouterr()
    assert said.out == "" and said.err == (
        "the test images of stripes lack 2 of 4 classes (stripe 1, stripe 3): accuracy says nothing about them, and balanced "
        "accuracy is over the others\n"
    )


def test_nothing_is_said_where_every_class_has_an_image(data, capsys):
    assert majority_shares(data, {"test": data.test}, Log()) == {"test": 0.25}
    assert capsys.readouterr() == ("", "")


def test_other_ranks_say_nothing(data, capsys):
    majority_shares(data, {"test": part([1])}, SilentLog())
    assert capsys.readouterr() == ("", "")


def test_many_lacking_classes_are_cut_short(capsys):
    data = replace(dataset(), classes=tuple(f"c{k}" for k in range(9)))
    assert majority_shares(data, {"test": part([8, 8])}, Log()) == {"test": 1.0}
    assert "lack 8 of 9 classes (c0, c1, c2, c3, c4, …)" in capsys.readouterr().err


# --- in runs ----------------------------------------------------------------------------------------------------------

TESTED = [0] * 7 + [1] * 2 + [2]  # of four classes


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A training on images whose test part has 7, 2, 1 and 0 images of the classes, and what it said."""
    root = tmp_path_factory.mktemp("chance")
    g = np.random.default_rng(0)
    x, y = g.integers(0, 256, (32, 12, 12, 3), dtype=np.uint8), np.arange(32) % 4
    tested = g.integers(0, 256, (10, 12, 12, 3), dtype=np.uint8)
    np.savez(root / "birds.npz", x_train=x, y_train=y, x_test=tested, y_test=np.array(TESTED))
    words = (
        "train DARTS_V2 --recipe small --train.channels 2 --train.cells 3 --train.steps 2 --train.batch 8 --device cpu"
    )
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(io.StringIO()) as out,
        redirect_stderr(io.StringIO()) as err,
    ):
        small_runs.no_report(patch)
        assert cli.main([*words.split(), "--data", f"{root}/birds.npz", "--out", f"{root}/t"]) == 0
    return oche.Run.open(root / "t"), out.getvalue(), err.getvalue()


SAYS = "accuracy says nothing about it, and balanced accuracy is over the others"
LACKING = f"the test images of birds lack 1 of 4 classes (3): {SAYS}"


def answers(found) -> list[int]:
    """The class that the network named for each image, in order, from a confusion matrix."""
    return [j for row in found["confusion"] for j, n in enumerate(row) for _ in range(n)]


def test_a_training_says_and_records_what_chance_reaches(run):
    made, out, err = run
    found = json.loads((made.path / "assessment.json").read_text())
    predicted, summary = answers(found), made.summary
    with warnings.catch_warnings(action="ignore"):  # about classes that have no image
        balanced = metrics.balanced_accuracy_score(TESTED, predicted)
    assert summary["test_acc"] == pytest.approx(metrics.accuracy_score(TESTED, predicted))
    assert summary["test_balanced_acc"] == found["balanced_accuracy"] == pytest.approx(balanced)
    assert summary["test_majority"] == found["majority"] == 0.7
    said = f"test accuracy {100 * summary['test_acc']:.2f} % (balanced {100 * balanced:.2f} %, commonest class 70.00 %)"
    assert said in out and err.count(LACKING) == 1


def test_so_does_an_evaluation(run, tmp_path, capsys):
    made, _, _ = run
    assert cli.main(["evaluate", str(made.path), "--device", "cpu", "--out", str(tmp_path / "e")]) == 0
    said = capsys.readouterr()
    assert "commonest class 70.00 %)" in said.out and said.err.count(LACKING) == 1
    found = json.loads((tmp_path / "e" / "assessment.json").read_text())
    assert (found["majority"], found["balanced_accuracy"]) == (0.7, made.summary["test_balanced_acc"])
    numbers = oche.evaluate(made, device="cpu")
    assert numbers["test_majority"] == 0.7 and numbers["test_balanced_acc"] == made.summary["test_balanced_acc"]
    page = (tmp_path / "e" / "report.html").read_text()
    assert "share of the commonest class" in page and "balanced accuracy (mean over classes)" in page


def test_the_card_and_the_page_have_it_too(run, tmp_path):
    made, _, _ = run
    summary = made.summary
    export(made, Export(to="safetensors"), out=tmp_path / "x.safetensors")
    card = (tmp_path / "x.safetensors.md").read_text()
    chance = f"(balanced {100 * summary['test_balanced_acc']:.2f} %, commonest class 70.00 %)"
    assert f"| accuracy | {100 * summary['test_acc']:.2f} % of 10 test images {chance} |" in card
    read = read_run(made.path)
    assert read.chance("test") == (summary["test_balanced_acc"], 0.7) and read.chance("val") == (None, None)
    cards = dict(run_page._headline(read, [read], [])[0].items[0].cards)
    assert cards["share of the commonest class"].replace("\u00a0", " ") == "70.00 %"


def test_runs_of_earlier_versions_have_it_from_their_assessment(run, tmp_path):
    made, _, _ = run
    shutil.copytree(made.path, tmp_path / "t")
    summary = {k: v for k, v in made.summary.items() if "balanced" not in k and "majority" not in k}
    (tmp_path / "t" / "summary.json").write_text(json.dumps(summary))
    assert read_run(tmp_path / "t").chance("test") == (made.summary["test_balanced_acc"], 0.7)
    assert reached(summary) == f"test accuracy {100 * summary['test_acc']:.2f} %"


def test_a_search_has_the_share_of_its_validation_half(searched):
    """Counted again, from the half that its checkpoint went on from."""
    data = load_data("digits", limit=60)
    _, val = halves(data.train, 0.5, derive_seed(0, "halves"))
    counts = val.labels.bincount()
    share = counts.max().item() / len(val)
    space = json.loads((searched.path / "space.json").read_text())
    assert searched.summary["val_majority"] == space["val_majority"] == share
