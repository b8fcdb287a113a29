"""Runs on folders that change: what was tested stays tested, what trained trains, and all of it is said on one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import oche
import small_runs
from class_folders import copy, of_an_earlier_version, renamed, write
from oche.bilevel.search import Search
from oche.cli import main as cli
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.data import load
from oche.runs.membership import MANIFEST, TEXT, Earlier
from oche.runs.run import Run
from oche.runs.run_data import is_data_of, load_recorded
from oche.training.image_trainer import Training

CLASSES = {"ants": range(20), "bees": range(20, 40)}
NEW = {"ants": range(100, 106), "bees": range(106, 112)}
CELLS = "DARTS_V2"


class Killed(BaseException):
    pass


def dies_at(patch, task, step: int) -> None:
    done = task.step

    def dying(self, at, progress):
        if at == step:
            raise Killed
        done(self, at, progress)

    patch.setattr(task, "step", dying)


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    """A folder with: data; search and train, finished; stopped, a killed search like it; after, a training of the search."""
    here = tmp_path_factory.mktemp("begun")
    data = write(here / "data", CLASSES)
    with pytest.MonkeyPatch.context() as patch:
        small_runs.no_report(patch)
        search(here / "search", data)
        train(CELLS, data, here / "train")
        with pytest.MonkeyPatch.context() as killing, pytest.raises(Killed):
            dies_at(killing, Search, 2)
            search(here / "stopped", data, checkpoint=0.0)
        with pytest.MonkeyPatch.context() as killing, pytest.raises(Killed):
            dies_at(killing, Training, 1)
            train(CELLS, data, here / "half", checkpoint=0.0)
    return here


@pytest.fixture
def here(begun, tmp_path, quick, monkeypatch) -> Path:
    """A copy of those directories, in which the data are where the runs say."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(begun, tmp_path / "w")
    for file in (tmp_path / "w").rglob("*.yaml"):
        file.write_text(file.read_text().replace(str(begun), str(tmp_path / "w")))
    return tmp_path / "w"


def search(out: Path, data: Path, **fields) -> Run:
    return small_runs.search(
        out, data, method=oche.methods.darts(batch=4, steps=4, order=1), limit=None, device="cpu", **fields
    )


def train(what, data: Path | None, out: Path | None, **fields) -> Run:
    return oche.train(what, data, recipe=small_runs.recipe(batch=8), out=out, device="cpu", **fields)


def parts_of(run: Path) -> tuple[set[int], set[int]]:
    """The ids of the training and the test images that the run at ``run`` uses now."""
    opened = Run.open(run)
    data = load_recorded(opened.config, Log(quiet=True), Earlier.read(run, Log(quiet=True)), "evaluate")
    return set(data.train.ids.tolist()), set(data.test.ids.tolist())


# --- resume -------------------------------------------------------------------------------------------------------------


def test_a_stopped_search_goes_on_with_its_halves_whatever_files_are_called(here, capsys):
    renamed(here / "data")
    assert cli.main(["resume", str(here / "stopped")]) == 0
    assert small_runs.same_weights(here / "stopped", here / "search")
    assert small_runs.metrics(here / "stopped") == small_runs.metrics(here / "search")
    assert "since" not in capsys.readouterr().err
    assert Run.open(here / "stopped").summary["note"] == Run.open(here / "search").summary["note"] == ""


def test_images_that_were_added_change_no_bit_and_are_told(here, capsys):
    write(here / "data", NEW, prefix="a")  # listed before the others
    oche.resume(here / "stopped")
    assert small_runs.same_weights(here / "stopped", here / "search")
    told = f"images of data since {here / 'stopped'} began: 12 new (in no part)"
    assert capsys.readouterr().err.count(told) == 1
    assert Run.open(here / "stopped").summary["note"] == told


def test_a_class_that_was_added_shifts_no_label(here):
    write(here / "data", {"aphids": range(200, 210)})
    oche.resume(here / "stopped")
    assert small_runs.same_weights(here / "stopped", here / "search")
    assert json.loads((here / "stopped" / "space.json").read_text())["classes"] == ["ants", "bees"]


def test_a_stopped_training_keeps_its_test_images(here, capsys):
    before = parts_of(here / "half")
    write(here / "data", NEW, prefix="a")
    gone = sorted((here / "data" / "ants").glob("0*.png"))[0]
    gone.unlink()
    oche.resume(here / "half")
    train, test = parts_of(here / "half")
    assert train <= before[0] and test <= before[1] and len(train) + len(test) == 39
    assert "12 new (in no part), 1 gone" in capsys.readouterr().err


@pytest.mark.parametrize("names", [["ants"], ["ants", "bees"]])
def test_a_stopped_search_of_other_images_is_refused_and_kept(here, capsys, names):
    for name in names:
        for file in (here / "data" / name).glob("*.png"):
            file.unlink()
    write(here / "data", NEW)
    write(here / "data", {"bees": range(300, 310)})
    kept = (here / "stopped" / "metrics.jsonl").read_bytes()
    code = cli.main(["resume", str(here / "stopped")])
    if names == ["ants"]:  # half of the images are there
        assert code == 0
        return
    said = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and len(said) == 1 and "data holds 0 of the 40 images" in said[0] and "start anew" in said[0]
    assert (here / "stopped" / "metrics.jsonl").read_bytes() == kept


def test_a_class_that_was_renamed_is_named(here, capsys):
    (here / "data" / "bees").rename(here / "data" / "wasps")
    assert cli.main(["resume", str(here / "stopped")]) == 2
    assert "20 of its images are in wasps now; rename the classes back" in capsys.readouterr().err


def test_a_run_that_was_killed_before_its_first_step_records_its_parts_then(here):
    shutil.rmtree(here / "stopped" / "checkpoints")
    of_an_earlier_version(here / "stopped")
    oche.resume(here / "stopped")
    assert small_runs.same_weights(here / "stopped", here / "search")
    own, other = (Earlier.read(here / n, Log(quiet=True)).manifest for n in ("stopped", "search"))
    assert own.parts.tolist() == other.parts.tolist() and own.ids.tolist() == other.ids.tolist()


# --- runs of earlier versions, and damage --------------------------------------------------------------------------------


def test_runs_of_earlier_versions_go_on_by_position_without_a_word(here, capsys):
    of_an_earlier_version(here / "stopped")
    assert cli.main(["resume", str(here / "stopped")]) == 0
    assert small_runs.same_weights(here / "stopped", here / "search")
    assert capsys.readouterr().err == "" and not (here / "stopped" / MANIFEST).exists()
    found = oche.evaluate(of_an_earlier_version(here / "train"), device="cpu")
    assert found["test_acc"] == Run.open(here / "train").summary["test_acc"]
    other = write(here / "other", {"ants": [1, 2], "bees": [800]})
    assert oche.evaluate(here / "train", other, device="cpu")["test_images"] == 3
    told = f"images of other: whether {here / 'train'} was trained on some is not known, since it recorded none\n"
    assert capsys.readouterr().err == told


def test_a_lost_manifest_is_told(here, capsys):
    (here / "train" / MANIFEST).unlink()
    assert oche.evaluate(here / "train", device="cpu")["test_images"] == 8
    assert f"the {MANIFEST} of {here / 'train'} is lost" in capsys.readouterr().err


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[:200], lambda b: b[:-3] + b"abc", lambda b: b"PK" + b])
def test_a_damaged_manifest_is_refused_on_one_line(here, capsys, damage):
    file = here / "train" / MANIFEST
    file.write_bytes(damage(file.read_bytes()))
    assert cli.main(["evaluate", str(here / "train"), "--device", "cpu"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and MANIFEST in said[0]


def test_a_manifest_costs_few_bytes_an_image(here):
    assert (here / "search" / MANIFEST).stat().st_size < 40 * 11 + 1500


# --- the training of a found cell ----------------------------------------------------------------------------------------


def test_a_network_is_never_tested_on_images_that_the_search_saw(here, capsys):
    seen, tested = parts_of(here / "search")
    renamed(here / "data")
    write(here / "data", NEW, prefix="0")
    run = train(here / "search", None, None)
    own = parts_of(run.path)
    assert own[1] == tested and seen < own[0] and len(own[0]) == 32 + 12
    assert run.summary["note"].endswith("12 new (in training)") and run.config.parts == here / "search"
    assert run.summary["test_images"] == 8


@pytest.mark.parametrize("holdout", [0.3, 0.5])
def test_another_holdout_after_a_search_is_refused(here, capsys, holdout):
    words = ["train", str(here / "search"), *small_runs.TRAIN, "--holdout", str(holdout)]
    assert cli.main(words) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and f"holdout={holdout} would test on images that {here / 'search'} has seen" in said[0]
    assert not (here / "search" / "train").exists()


def test_a_training_is_repeated_from_its_config_with_the_same_parts(here):
    run = train(here / "search", None, here / "one")
    write(here / "data", NEW, prefix="0")
    assert cli.main(["train", "--config", str(run.path / "config.yaml"), "--out", str(here / "two"), "--quiet"]) == 0
    assert parts_of(here / "two")[1] == parts_of(here / "one")[1]
    shutil.rmtree(here / "search")
    assert cli.main(["train", "--config", str(run.path / "config.yaml"), "--out", str(here / "three"), "--quiet"]) == 2


def test_any_run_can_keep_the_parts_of_another(here):
    write(here / "data", NEW, prefix="0")
    run = search(here / "again", here / "data", parts=here / "search", seed=3)
    assert parts_of(run.path)[1] == parts_of(here / "search")[1]


# --- data that moved -----------------------------------------------------------------------------------------------------


def moved(here: Path) -> Path:
    return (here / "data").rename(here / "elsewhere")


@pytest.mark.parametrize(
    ("words", "run"),
    [
        (["evaluate", "train"], "train"),
        (["export", "train", "--to", "torch-export"], "train"),
        (["resume", "stopped"], "stopped"),
        (["train", "search", *small_runs.TRAIN], "search"),
    ],
)
def test_every_command_says_where_data_are_missing_and_takes_their_new_place(here, capsys, monkeypatch, words, run):
    monkeypatch.chdir(here)
    moved(here)
    assert cli.main(words) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and f"the data of {run} are gone from {here / 'data'}" in said[0]
    assert f"oche {words[0]} " in said[0] and "--data PLACE" in said[0]
    renamed(here / "elsewhere")
    assert cli.main([*words, "--data", "elsewhere"]) == 0
    if run == "stopped":
        assert small_runs.same_weights(here / "stopped", here / "search")
        assert Run.open(here / "stopped").config.data == str(here / "elsewhere")


def test_data_that_moved_keep_their_test_part(here, capsys):
    expected = oche.evaluate(here / "train", device="cpu")
    tested = parts_of(here / "search")[1]
    place = moved(here)
    write(place, NEW, prefix="0")
    assert oche.evaluate(here / "train", place, device="cpu") == expected
    assert "12 new (in no part)" in capsys.readouterr().err
    run = train(here / "search", place, None)
    assert run.config.parts == here / "search" and run.path == here / "search" / "train"
    assert parts_of(run.path)[1] == tested


def test_a_training_on_other_data_has_its_own_parts(here):
    other = write(here / "other", {"x": range(500, 520), "y": range(520, 540)})
    run = train(here / "search", other, None)
    assert run.path == here / "search" / "train-other" and len(parts_of(run.path)[1]) == 8
    drawn = load(other, holdout=0.2)
    assert set(drawn.test.ids.tolist()) == parts_of(run.path)[1]


def test_other_data_with_some_images_of_the_search_never_test_them(here):
    seen = parts_of(here / "search")[0]
    other = write(here / "other", {"ants": [*range(8), *range(500, 520)], "bees": range(520, 540)})
    tested = parts_of(train(here / "search", other, None).path)[1]
    drawn = set(load(other, holdout=0.2).test.ids.tolist())
    assert drawn & seen and tested == drawn - seen


def test_the_same_data_are_known_by_content(here, capsys):
    run = Run.open(here / "train")
    earlier = Earlier.read(run.path, Log(quiet=True))
    log = Log(quiet=True)
    assert is_data_of(run, earlier, str(moved(here)), None, log)
    for name, numbers in {"other": range(200, 220), "mixed": range(15, 40)}.items():
        place = write(
            here / name, {"ants": [n for n in numbers if n < 20 or n > 210], "bees": [n + 1000 for n in numbers]}
        )
        assert not is_data_of(run, earlier, str(place), None, log)
    assert not is_data_of(run, earlier, str(here / "nothing"), None, log)
    assert not is_data_of(run, earlier, "digits", None, log)


# --- new runs ------------------------------------------------------------------------------------------------------------


def test_a_new_run_draws_as_before(begun):
    data = load(begun / "data", holdout=0.2)
    train, test = parts_of(begun / "train")
    assert set(data.train.ids.tolist()) == train and set(data.test.ids.tolist()) == test


# --- text ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    """A folder with my.txt and a finished training of a language model on it, x."""
    from language_runs import make

    here = tmp_path_factory.mktemp("texts")
    (here / "my.txt").write_text("".join(f"w{k % 7} w{k % 5} w{k % 3} w{k % 11}\n" for k in range(60)))
    with pytest.MonkeyPatch.context() as patch:
        small_runs.no_report(patch)
        make(here / "my.txt", epochs=1)
    return here


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda text: text + "w1 w2 w3 w4\n" * 10, "its text has changed; train: 240 -> 280 tokens"),
        (lambda text: text[: len(text) // 2], "train: 240 -> "),
        (lambda text: text.replace("w6", "w1"), "test: other tokens"),
    ],
)
def test_a_text_that_changed_is_not_divided_anew(texts, tmp_path, monkeypatch, edit, words):
    run, file = copy(texts / "x", tmp_path / "x"), texts / "my.txt"
    before = file.read_text()
    try:
        file.write_text(edit(before))
        with pytest.raises(OcheError, match=r"are not those that .*x was begun with") as error:
            oche.evaluate(run, device="cpu")
        assert words.split("; ")[-1] in str(error.value)
    finally:
        file.write_text(before)


def test_a_change_of_the_training_text_alone_is_told(texts, tmp_path, capsys):
    run, file = copy(texts / "x", tmp_path / "x"), texts / "my.txt"
    before, expected = file.read_text(), oche.evaluate(run, device="cpu")
    try:
        file.write_text(before.replace("w1 w1 w1 w1", "w1 w1 w1 w2", 1))
        assert oche.evaluate(run, device="cpu") == expected
        assert (
            f"the text {texts / 'my.txt'} has changed since {run} began: train: other tokens" in capsys.readouterr().err
        )
    finally:
        file.write_text(before)


def test_a_text_that_moved_is_known_by_content(texts, tmp_path):
    run = copy(texts / "x", tmp_path / "x")
    other = tmp_path / "other.txt"
    shutil.copy(texts / "my.txt", other)
    found = oche.evaluate(run, other, device="cpu")
    assert found == oche.evaluate(run, device="cpu") and "val_ppl" in found
    other.write_text(other.read_text() + "w1 w2\n")
    assert "val_ppl" not in oche.evaluate(run, other, device="cpu")  # other text is measured whole
    assert json.loads((run / TEXT).read_text())["parts"]["train"]["tokens"] == 240


def test_moved_data_with_a_damaged_image_keep_their_test_part(here, capsys):
    expected = oche.evaluate(here / "train", device="cpu")
    (moved(here) / "ants" / "broken.png").write_bytes(b"no image")
    assert oche.evaluate(here / "train", here / "elsewhere", damaged="skip", device="cpu") == expected
    with pytest.raises(OcheError, match=r"broken.png cannot be read"):
        oche.evaluate(here / "train", here / "elsewhere", device="cpu")
