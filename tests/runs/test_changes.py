"""Edits of a stopped run's config.yaml: taken and told of, or refused on one line, and never a traceback."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

import oche
import small_runs
from oche.bilevel.search import Search
from oche.cli import main as cli
from oche.runs.changes import BEGAN
from oche.training.image_trainer import Training


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> dict[str, Path]:
    """A search and a training that were killed in the middle, with a checkpoint of every step."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        small_runs.no_report(patch)
        for task in (Search, Training):
            done = task.step

            def dying(self, at, progress, done=done):
                if at == 2:
                    raise Killed
                done(self, at, progress)

            patch.setattr(task, "step", dying)
        with pytest.raises(Killed):
            small_runs.search(folder / "search", checkpoint=0.0)
        with pytest.raises(Killed):
            oche.train(
                "DARTS_V2", "digits", out=folder / "train", limit=60, checkpoint=0.0, device="cpu",
                recipe=oche.training.small(channels=4, cells=2, reductions=(1,), batch=10, epochs=1),
            )  # fmt: skip
    return {"search": folder / "search", "train": folder / "train"}


def edited(run: Path, to: Path, **changes) -> Path:
    """A copy of ``run`` with dotted keys of its config.yaml changed, written ``a__b``."""
    shutil.copytree(run, to)
    tree = yaml.safe_load((to / "config.yaml").read_text())
    for key, value in changes.items():
        *owners, last = key.split("__")
        at = tree
        for owner in owners:
            at = at[owner]
        assert at[last] != value
        at[last] = value
    (to / "config.yaml").write_text(yaml.safe_dump(tree))
    return to


REFUSED = [
    ("search", dict(seed=5), "seed: 0 -> 5 (all random numbers follow from it"),
    ("search", dict(holdout=0.4), "holdout: 0.2 -> 0.4 (the test part would hold images that were trained on)"),
    ("search", dict(layout="NHWC"), "layout: None -> NHWC (images would be read along other axes)"),
    ("search", dict(limit=61), "limit: 60 -> 61 (other images would train and validate)"),
    ("search", dict(space__channels=8), "space.channels: 2 -> 8 (the supernet of the checkpoint has the other space)"),
    ("search", dict(space__candidates=["none", "skip_connect"]), "space.candidates: "),
    ("search", dict(search__split=0.6), "search.split: 0.5 -> 0.6 (images would move between training and validation)"),
    ("search", dict(search__method__relax={"type": "Sigmoid"}), "search.method.relax: Softmax -> Sigmoid"),
    ("search", dict(search__method__edge={"type": "AuxiliarySkip"}), "search.method.edge: MixedEdge -> AuxiliarySkip"),
    (
        "search",
        dict(search__method__arch_optimizer={"type": "ExponentiatedGradient"}),
        "Adam -> ExponentiatedGradient (the checkpoint holds the state of the other optimizer)",
    ),
    (
        "train",
        dict(train__channels=8),
        "train.channels: 4 -> 8 (the network of the checkpoint was made by the other recipe)",
    ),
    ("train", dict(train__cells=3), "train.cells: 2 -> 3"),
    ("train", dict(train__auxiliary=0.4), "train.auxiliary: "),
    ("train", dict(train__ema=0.9), "train.ema: "),
    ("train", dict(train__split=0.5), "train.split: 1.0 -> 0.5 (images would move"),
    ("train", dict(seed=1), "seed: 0 -> 1"),
]


@pytest.mark.parametrize(("kind", "changes", "words"), REFUSED)
def test_what_a_checkpoint_cannot_take_is_refused_on_one_line(kind, changes, words, stopped, tmp_path, capsys):
    run = edited(stopped[kind], tmp_path / "x", **changes)
    before = {f.name: f.read_bytes() for f in run.iterdir() if f.is_file() and f.name != ".lock"}
    assert cli.main(["resume", str(run)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and words in said[0] and f"oche {kind} --config" in said[0]
    assert {f.name: f.read_bytes() for f in run.iterdir() if f.is_file() and f.name != ".lock"} == before


def test_all_refused_fields_are_named_at_once(stopped, tmp_path, capsys):
    run = edited(stopped["search"], tmp_path / "x", seed=5, space__channels=8, threads=1)
    assert cli.main(["resume", str(run)]) == 2
    said = capsys.readouterr().err
    assert "seed: 0 -> 5" in said and "space.channels: 2 -> 8" in said and "threads" not in said


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("search", dict(threads=1), "threads: 0 -> 1"),
        ("search", dict(checkpoint=30.0), "checkpoint: 0.0 -> 30.0"),
        ("search", dict(engine="plain"), "engine: auto -> plain"),
        ("search", dict(search__batch=8), "search.batch: "),
        ("train", dict(train__label_smoothing=0.2), "train.label_smoothing: 0.0 -> 0.2"),
        ("train", dict(train__epochs=2), "train.epochs: 1 -> 2"),
    ],
)
def test_what_it_can_take_is_told_of(kind, changes, words, stopped, tmp_path, capsys, quick):
    run = edited(stopped[kind], tmp_path / "x", **changes)
    assert cli.main(["resume", str(run)]) == 0
    said = capsys.readouterr()
    assert f"changed since the run began: {words}" in said.out + said.err
    assert oche.Run.open(run).state == "complete"


def test_an_unedited_run_says_nothing_of_changes(stopped, tmp_path, capsys, quick):
    run = shutil.copytree(stopped["search"], tmp_path / "x")
    assert cli.main(["resume", str(run)]) == 0
    said = capsys.readouterr()
    assert "changed since" not in said.out + said.err


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("search", dict(space__channels=8)),
        ("search", dict(space__cells=4)),
        ("search", dict(search__method__arch_optimizer={"type": "ExponentiatedGradient"})),
        ("train", dict(train__channels=8)),
        ("train", dict(train__auxiliary=0.4)),
        ("train", dict(train__ema=0.9)),
    ],
)
def test_runs_that_kept_no_beginning_are_refused_on_one_line_too(kind, changes, stopped, tmp_path, capsys):
    run = edited(stopped[kind], tmp_path / "x", **changes)
    (run / BEGAN).unlink()
    assert cli.main(["resume", str(run)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and (
        "the checkpoint does not fit the network" in said[0] or "holds the state of another optimizer" in said[0]
    )


def test_data_may_move_but_not_become_others(tmp_path, capsys, quick):
    file = small_runs.npz(tmp_path / "here.npz")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        done = Search.step
        patch.setattr(Search, "step", lambda self, at, q: done(self, at, q) if at < 2 else dying())
        small_runs.search(tmp_path / "run", file, limit=None, checkpoint=0.0)
    others = small_runs.npz(tmp_path / "others.npz", classes=3)
    run = edited(tmp_path / "run", tmp_path / "x", data=str(others))
    assert cli.main(["resume", str(run)]) == 2
    assert "was begun with classes ['0', '1', '2', '3'], and others has ['0', '1', '2'] now" in capsys.readouterr().err
    file.rename(tmp_path / "there.npz")
    run = edited(tmp_path / "run", tmp_path / "y", data=str(tmp_path / "there.npz"))
    assert cli.main(["resume", str(run)]) == 0
    assert "here.npz -> " in capsys.readouterr().out


def dying():
    raise Killed
