"""Runs on data that were handed over in Python: they keep the images, and need the object no more."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import oche
import small_runs
from oche.cli import main as cli
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.runs import python_data
from oche.runs.python_data import form_of, keep_data, listeners_of, place_of, shape_of
from python_data import Items, Stream, Vision, arrays, pictures

X, Y = arrays(n=48)
VISION = Vision(*zip(X, Y, strict=True))
QUIET = Log(quiet=True)


@pytest.fixture(autouse=True)
def _quick(quick):
    pass


def search(out, data, **fields):
    return small_runs.search(out, data, **{"limit": None, "method": oche.methods.darts(batch=8, steps=2), **fields})


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A search and a training on a data set of torchvision's form; tests read and copy them."""
    with pytest.MonkeyPatch.context() as patch:
        small_runs.no_report(patch)
        run = search(tmp_path_factory.mktemp("handed") / "x", VISION)
        return run, oche.train(run, recipe=small_runs.recipe())


def same_run(one, other):
    return small_runs.metrics(one.path) == small_runs.metrics(other.path) and small_runs.same_weights(
        one.path, other.path
    )


# --- what a run keeps


def test_a_run_keeps_the_images_and_the_training_of_its_cell_uses_them(done):
    run, trained = done
    file = run.path / "data" / "Vision.npz"
    assert run.config.data == trained.config.data == str(file) and trained.config.parts == run.path
    with np.load(file) as kept:
        assert (kept["x"] == X).all() and kept["classes"].tolist() == ["ant", "bee", "cat", "dog"]
    assert not (trained.path / "data").exists()
    assert oche.load(trained).classes == ("ant", "bee", "cat", "dog")


@pytest.mark.slow
def test_the_run_is_that_of_a_file_with_the_same_arrays(tmp_path):
    np.savez(tmp_path / "arrays.npz", x=X, y=Y)
    filed = search(tmp_path / "filed", tmp_path / "arrays.npz")
    for name, data in {
        "pair": (X, Y),
        "loader": DataLoader(TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)), 5),
    }.items():
        assert same_run(search(tmp_path / name, data), filed)


@pytest.mark.slow
def test_commands_read_what_the_run_keeps(done, tmp_path, capsys):
    run = shutil.copytree(done[0].path, tmp_path / "x")
    assert cli.main(["search", "--config", str(run / "config.yaml"), "--out", str(tmp_path / "again"), "--quiet"]) == 0
    assert same_run(oche.Run.open(tmp_path / "again"), oche.Run.open(run))
    assert cli.main(["evaluate", str(run / "train")]) == 0
    assert "test accuracy" in capsys.readouterr().out


def test_a_run_that_moved_finds_its_own_data(done, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(done[0].path, moved)
    elsewhere = oche.Run(moved)
    config = (moved / "config.yaml").read_text()
    (moved / "config.yaml").write_text(config.replace(str(done[0].path), "/gone"))
    inner = (moved / "train" / "config.yaml").read_text()
    (moved / "train" / "config.yaml").write_text(inner.replace(str(done[0].path), "/gone"))
    assert elsewhere.config.data == str(moved / "data" / "Vision.npz") == oche.Run(moved / "train").config.data
    assert oche.evaluate(moved / "train") == oche.evaluate(done[1])


# --- the same data again, and others


def test_the_same_object_again_makes_no_second_copy(done, tmp_path):
    run = oche.Run.open(shutil.copytree(done[0].path, tmp_path / "x"))
    run.path.joinpath("config.yaml").write_text((run.path / "config.yaml").read_text())
    trained = oche.train(run, VISION, recipe=small_runs.recipe())
    assert trained.config.data == run.config.data and trained.config.parts == run.path
    assert same_run(trained, done[1])
    other = oche.train(run, (255 - X, Y), recipe=small_runs.recipe())
    assert other.path.name == "train-arrays" and other.config.data == str(other.path / "data" / "arrays.npz")
    assert other.config.parts == run.path  # none of the images that the search saw is tested


def test_images_of_differing_sizes_are_known_again(tmp_path):
    photos = Items(*pictures(*[(20 + i % 5, 30 - i % 7) for i in range(24)]))
    run = search(tmp_path / "x", photos)
    assert oche.train(run, photos, recipe=small_runs.recipe()).config.data == run.config.data
    assert "scaled and cut to 22x22" in run.summary["note"]


def test_objects_are_measured(done):
    trained = done[1]
    recorded = oche.evaluate(trained)
    assert oche.evaluate(trained, VISION) == recorded  # its own data: the recorded test part
    whole = oche.evaluate(trained, (255 - X, np.array(Vision.classes)[Y]))
    assert whole["test_images"] == 48
    some = oche.evaluate(trained, {"test": ((255 - X)[:10], np.array(Vision.classes)[Y][:10])})
    assert some["test_images"] == 10
    net = oche.load(trained)
    right = net.probabilities(torch.from_numpy(255 - X).permute(0, 3, 1, 2)).argmax(1).numpy() == Y
    assert whole["test_acc"] == pytest.approx(right.mean())
    large = Items(*[(picture, Vision.classes[k]) for picture, k in pictures((30, 40), (25, 25), (40, 30))])
    assert oche.evaluate(trained, large)["test_images"] == 3


# --- stopping and resuming


class Mine(Exception):
    pass


def stop_at(epoch):
    def listener(record):
        if record["epoch"] == epoch:
            raise Mine

    return listener


@pytest.mark.slow
def test_an_error_in_on_epoch_saves_everything_and_the_run_resumes_to_the_same_bits(tmp_path, capsys):
    method = oche.methods.darts(batch=8, epochs=3)
    seen = []
    whole = search(tmp_path / "whole", (X, Y), method=method, on_epoch=seen.append)
    assert [r["epoch"] for r in seen] == [1, 2, 3] and seen == whole.history[1:]
    with pytest.raises(Mine) as caught:
        search(tmp_path / "cut", (X, Y), method=method, on_epoch=[stop_at(2)])
    cut = oche.Run.open(tmp_path / "cut")
    assert caught.value.__notes__ == [
        f"raised by on_epoch after epoch 2; everything is saved; go on with: oche resume {cut.path}"
    ]
    assert cut.state == "failed" and len(cut.history) == 3
    later = []
    assert oche.resume(cut.path, on_epoch=later.append).state == "complete" and [r["epoch"] for r in later] == [3]
    assert same_run(cut, whole)


@pytest.mark.parametrize("kind", ["search", "train"])
def test_stop_ends_a_run_early_and_complete(kind, tmp_path):
    enough = lambda record: "stop" if record["epoch"] == 2 else None  # noqa: E731
    if kind == "search":
        run = search(tmp_path / "x", (X, Y), method=oche.methods.darts(batch=8, epochs=9), on_epoch=enough)
        assert run.genotype.cells
    else:
        recipe = small_runs.recipe(steps=None, epochs=9, batch=16, evaluate=5)
        run = oche.train("DARTS_V2", (X, Y), recipe=recipe, out=tmp_path / "x", on_epoch=enough)
        assert "test_acc" not in run.history[-1]  # it stopped between two tests
        assert run.summary["test_acc"] == oche.evaluate(run)["test_acc"] and run.summary["test_loss"] > 0
    assert run.state == "complete" and run.history[-1]["epoch"] == 2 and run.history[-1]["progress"] < 1


@pytest.mark.slow
def test_a_run_whose_data_were_deleted_takes_them_again(tmp_path):
    with pytest.raises(Mine):
        search(tmp_path / "x", VISION, method=oche.methods.darts(batch=8, epochs=2), on_epoch=stop_at(1))
    shutil.rmtree(tmp_path / "x" / "data")
    with pytest.raises(
        OcheError,
        match=r"are gone from .*Vision\.npz; name their new place: .*; or hand them over again in Python: oche.resume",
    ):
        oche.resume(tmp_path / "x")
    with pytest.raises(
        OcheError, match=r"the data handed over are not those that .*x was begun with; hand over the same"
    ):
        oche.resume(tmp_path / "x", data=(255 - X, Y))
    assert not (tmp_path / "x" / "data").exists()
    run = oche.resume(tmp_path / "x", data=VISION)
    assert run.state == "complete" and Path(run.config.data).is_file()
    shutil.rmtree(tmp_path / "x" / "data")
    assert oche.resume(tmp_path / "x", data=VISION).state == "complete" and Path(run.config.data).is_file()
    assert oche.resume(tmp_path / "x", data=VISION).state == "complete"


# --- what is refused


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "data"),
        (3, "data may be a name or path, .*; found int 3"),
        ("", "data is text '', which is no name or path"),
        (b"digits", "found bytes b'digits'"),
        (Stream(), "can only be read from its start to its end"),
        (X, "without labels"),
        ((X, Y[:3]), "48 images and 3 labels"),
        ((X[:1], Y[:1]), "of one class|at least 2 classes"),
        (Items(*zip(X, Y, strict=True), ValueError("mine")), "data raised ValueError: mine at item 48 of 49"),
        ({"train": (X, Y), "test": (X, np.where(Y == 0, 9, Y))}, "data: y_test.* has label 9"),
    ],
)
@pytest.mark.parametrize("call", ["search", "train", "evaluate", "load"])
def test_anything_else_is_one_line_and_leaves_nothing(call, data, words, done, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    calls = {
        "search": lambda: search("x", data),
        "train": lambda: oche.train("DARTS_V2", data, recipe=small_runs.recipe(), out="x"),
        "evaluate": lambda: oche.evaluate(done[1], data),
        "load": lambda: oche.data.load(data),
    }
    if (data is None and call in ("train", "evaluate")) or (
        call == "evaluate" and ("class" in words or "y_test" in words)
    ):
        return  # the run's own data; fewer classes may be measured
    with pytest.raises(OcheError, match=words) as caught:
        calls[call]()
    assert "\n" not in str(caught.value) and "oche-data-" not in str(caught.value) and not [*tmp_path.iterdir()]


@pytest.mark.parametrize("given", [3, "print", [print, 3], type, {"a": print}])
def test_what_is_no_listener(given):
    with pytest.raises(OcheError, match=r"on_epoch is .*; give a function of one record, or a list of such functions"):
        oche.search("digits", on_epoch=given)
    assert listeners_of(None) == () and listeners_of(print) == (print,) and listeners_of([print, len]) == (print, len)


def test_forms_that_a_run_asks_for(done, tmp_path):
    assert shape_of(done[1]) == ((12, 12), None) and form_of(done[0], {}) == (None, None)
    assert form_of(str(done[0].path), {"size": 16, "layout": "NHWC"}) == (16, "NHWC")
    assert form_of("DARTS_V2", {}) == (None, None)
    with place_of(tmp_path / "no.npz", None, None, QUIET) as (place, file):
        assert (place, file) == (str(tmp_path / "no.npz"), None)
    with place_of(None, None, None, QUIET) as found:
        assert found == (None, None)


def test_much_data_are_kept_with_a_word(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(python_data, "_LARGE", 100)
    (tmp_path / "arrays.npz").write_bytes(b"x" * 200)
    keep_data(tmp_path / "x", tmp_path / "arrays.npz", QUIET)
    assert (tmp_path / "x" / "data" / "arrays.npz").read_bytes() == b"x" * 200
    assert "x keeps the 0.0 GB of images that were handed over" in capsys.readouterr().err
