"""study.yaml: which trials it asks for, their names by content, and what is refused before anything is made."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import study_files
from oche.cli import main as cli
from oche.core.errors import OcheError
from oche.study.config import read_study
from oche.study.grid import flat, nested, varying_labels
from oche.study.random_search import Tune
from oche.study.trial import Trial
from oche.study.validate import check_trials


def names(study) -> list[tuple[str, int]]:
    return [(trial.group, trial.seed) for trial in study.trials]


def test_a_grid_is_all_combinations_seed_by_seed(tmp_path):
    study = study_files.study(tmp_path, recipe="small", grid={"method": ["darts", "random"], "seed": "3-4"})
    assert names(study) == [
        ("darts · darts · digits", 3), ("random · darts · digits", 3),
        ("darts · darts · digits", 4), ("random · darts · digits", 4),
    ]  # fmt: skip
    first, control = study.trials[:2]
    assert (first.search.search.steps, first.search.space.channels, first.search.limit) == (3, 2, 60)
    assert (first.train.train.steps, first.train.recipe, first.train.seed, first.train.limit) == (2, "small", 3, 60)
    assert control.control and not first.control and control.train == first.train
    assert study.place.jobs == "auto" and first.search.threads == 1


def test_settings_of_a_grid_are_labels_where_trials_differ_in_them(tmp_path):
    grids = [
        {"method": "darts", "search.a.lr": [3e-4, 0.01], "limit": [60]},
        {"method": "random-ws", "search.select.count": 5, "limit": 60},
    ]
    study = study_files.study(tmp_path, grid=grids, trials=[{"method": "darts", "search": {"hypergrad": "exact"}}])
    assert [t.labels.get("search.a.lr") for t in study.trials] == ["0.0003", "0.01", "default", "default"]
    assert study.trials[2].search.search.select.count == 5
    assert study.trials[0].group == (
        "darts · darts · digits · search.a.lr=0.0003 · search.select.count=default · search.hypergrad=default"
    )
    assert [t.search.search.a.lr for t in study.trials[:2]] == [3e-4, 0.01]
    assert "limit" not in study.trials[0].labels


def test_the_same_trial_asked_for_twice_is_one(tmp_path):
    study = study_files.study(
        tmp_path, grid={"method": "darts", "seed": [0, 1]}, trials=[{"method": "darts", "seed": 1}]
    )
    assert names(study) == [("darts · darts · digits", 0), ("darts · darts · digits", 1)]


def test_components_are_chosen_by_name_and_changed():
    dotted = {"search.hypergrad.terms": 3, "search.hypergrad": "Neumann", "search.a.lr": 1.0}
    assert nested(dotted) == {"search": {"hypergrad": {"type": "Neumann", "terms": 3}, "a": {"lr": 1.0}}}
    assert flat({"search": {"a": {"lr": 1}, "drop-path": 2}, "limit": None}, "x") == {
        "search.a.lr": 1, "search.drop_path": 2, "limit": None,
    }  # fmt: skip
    assert varying_labels([{"seed": 0, "x": 1e-3, "y": 1}, {"seed": 1, "y": 1}]) == [{"x": "0.001"}, {"x": "default"}]


def test_data_that_are_called_the_same_are_told_apart(tmp_path):
    folders = [tmp_path / "a/images", tmp_path / "b/images"]
    for folder in folders:
        folder.mkdir(parents=True)
    one, two = (
        study_files.study(tmp_path, grid={"method": "darts", "data": [*map(str, f)]}) for f in (folders[:1], folders)
    )
    assert [t.labels["data"] for t in one.trials] == ["images"]
    assert [t.labels["data"] for t in two.trials] == [*map(str, folders)]


# --- names by content


def test_the_name_of_a_trial_is_its_configuration(tmp_path, monkeypatch):
    (trial,) = study_files.study(tmp_path, recipe="small", grid={"method": "darts"}).trials
    train = trial.train
    same = [
        replace(trial, labels={"method": "another"}),
        replace(trial, search=replace(trial.search, device="cuda", threads=3, checkpoint=1.0)),
        replace(trial, search=replace(trial.search, data_dir=Path("/elsewhere"))),
    ]
    assert {t.id for t in same} == {trial.id} and len(trial.id) == 12
    others = [
        replace(trial, search=replace(trial.search, seed=1)),
        replace(trial, search=replace(trial.search, engine="plain")),
        replace(trial, search=replace(trial.search, search=replace(trial.search.search, steps=4))),
        replace(trial, train=replace(train, train=replace(train.train, steps=3))),
        replace(trial, train=None),
    ]
    monkeypatch.setattr("oche.study.trial.__version__", "another")
    others.append(replace(trial))
    assert len({t.id for t in (*same, *others)}) == 1 + len(others)


def test_a_control_has_no_method_whose_settings_could_tell_it_apart(tmp_path):
    grid = {"method": ["random", "darts"], "search.steps": [3, 4]}
    study = study_files.study(tmp_path, recipe="small", grid=grid)
    assert [t.control for t in study.trials].count(True) == 1 and len(study.trials) == 3


def test_the_text_of_a_plugin_counts(tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text("x = 1\n")
    ids = set()
    for text in ("x = 1\n", "x = 2\n"):
        plugin.write_text(text)
        ids.add(study_files.study(tmp_path, plugins=[str(plugin)], grid={"method": "darts"}).trials[0].id)
    assert len(ids) == 2


def test_a_trial_is_read_as_it_was_written(tmp_path):
    study = study_files.study(tmp_path, recipe="small", grid={"method": ["pc-darts", "random"], "search.w.lr": 0.05})
    for trial in study.trials:
        trial.write(tmp_path / trial.id)
        back = Trial.read(tmp_path / trial.id)
        assert back == trial and back.id == trial.id
        tree = json.loads((tmp_path / trial.id / "trial.json").read_text())
        assert (tree["id"], tree["group"], tree["seed"]) == (trial.id, trial.group, trial.seed)


def test_the_study_s_own_file_asks_for_the_same(tmp_path, monkeypatch):
    images = tmp_path / "images"
    images.mkdir()
    monkeypatch.chdir(tmp_path)
    tune = {"samples": 2, "over": {"search.w.lr": {"log": ["1e-3", 0.1]}}}
    study = study_files.study(
        tmp_path, jobs=3, gpus=0.5, data="images", grid={"method": ["darts"], "seed": "0-2"},
        trials=[{"method": "gdas"}], tune=tune,
    )  # fmt: skip
    (tmp_path / "out").mkdir()
    (tmp_path / "out/study.yaml").write_text(study.text)
    monkeypatch.chdir("/")
    again = read_study(tmp_path / "out")
    assert again == study and again.place.jobs == 3
    assert yaml.safe_load(study.text)["data"] == str(images)


# --- tuning


def test_drawn_settings_follow_from_the_seed_and_more_of_them_leave_the_others(tmp_path):
    tree = {"samples": 3, "over": {
        "search.w.lr": {"log": ["1e-3", 1]}, "search.a.lr": {"uniform": [0.1, 0.2]}, "search.batch": {"among": [8, 16]},
    }}  # fmt: skip
    points = Tune.of(tree, "x").points()
    assert points == Tune.of({**tree, "samples": 9}, "x").points()[:3]
    assert points != Tune.of({**tree, "seed": 1}, "x").points()
    many = Tune.of({**tree, "samples": 400}, "x").points()
    assert all(1e-3 <= p["search.w.lr"] <= 1 and 0.1 <= p["search.a.lr"] <= 0.2 for p in many)
    # a decade is a third of the range of logarithms; uniform would leave it 1 %
    assert 90 < sum(p["search.w.lr"] < 1e-2 for p in many) < 180
    assert 150 < sum(p["search.batch"] == 8 for p in many) < 250
    study = study_files.study(tmp_path, grid={"method": ["darts", "gdas"]}, tune=tree)
    assert len(study.trials) == 6 and {t.search.search.w.lr for t in study.trials} == {p["search.w.lr"] for p in points}
    assert study.measure == ("val_acc", "max") and study.epochs == 50


# --- refused

GRID = {"method": ["darts"]}
REFUSED = {
    "asked.yaml: unknown key 'searhc.steps'; did you mean 'search'?": {"searhc.steps": 3, "grid": GRID},
    "asked.yaml: search: unknown key 'stepz'; did you mean 'steps'?": {"search": {"stepz": 3}, "grid": GRID},
    "asked.yaml: unknown method 'dartz'; did you mean 'darts'?": {"grid": {"method": ["dartz"]}},
    "asked.yaml: unknown space 'nb21'; did you mean 'nb201'?": {"grid": {"space": ["nb21"]}},
    "asked.yaml: unknown recipe 'smal'; did you mean 'small'?": {"grid": GRID, "recipe": "smal"},
    "asked.yaml: there is nothing to run; write grid:": {},
    "asked.yaml: grid: unknown key 'seeds'; did you mean 'seed'?": {"grid": {"seeds": [0]}},
    "asked.yaml: grid: unknown key 'device'": {"grid": {"device": ["cpu", "cuda"]}},
    "asked.yaml: grid.seed: expected seeds, found '4-2'; write 0-4": {"grid": {"seed": "4-2"}},
    "asked.yaml: grid.method: an empty list leaves no trial": {"grid": {"method": []}},
    "asked.yaml: trials.1: expected keys and values, found 3": {"trials": [{"seed": 0}, 3]},
    "asked.yaml: jobs=0, threads=1 are too few": {"jobs": 0, "grid": GRID},
    "asked.yaml: gpus=2.0 is no share of a GPU": {"gpus": 2, "grid": GRID},
    "asked.yaml: jobs: expected": {"jobs": "many", "grid": GRID},
    "asked.yaml: search.steps: expected": {"grid": {"search.steps": ["three"]}},
    "asked.yaml: tune: write over:": {"grid": GRID, "tune": {"samples": 3}},
    "asked.yaml: tune.over.search.w.lr: unknown 'loguniform'": {
        "grid": GRID, "tune": {"over": {"search.w.lr": {"loguniform": [1, 2]}}},
    },
    "asked.yaml: tune.over.search.w.lr.log: expected two numbers above 0": {
        "grid": GRID, "tune": {"over": {"search.w.lr": {"log": [0, 1]}}},
    },
    "asked.yaml: tune.over: unknown key 'serch.w.lr'; did you mean 'search'?": {
        "grid": GRID, "tune": {"over": {"serch.w.lr": {"log": [0.1, 1]}}},
    },
    "asked.yaml: tune judges by validation accuracies, and train.split: 1": {
        "grid": GRID, "recipe": "small", "tune": {"over": {"search.w.lr": {"log": [0.1, 1]}}},
    },
}  # fmt: skip


@pytest.mark.parametrize("says", REFUSED)
def test_what_is_written_wrongly_is_refused_in_one_line(tmp_path, monkeypatch, capsys, says):
    monkeypatch.chdir(tmp_path)
    study_files.write(tmp_path, **REFUSED[says])
    assert cli.main(["study", "asked.yaml"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"oche: {says}") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


LATER = {  # known only from data and networks
    "pc-darts · darts · digits: partial channels": {"grid": {"method": ["darts", "pc-darts"], "space.channels": [3]}},
    "says nothing without training; write recipe: small": {"grid": {"method": ["random"]}},
    "there is no data called 'digitz'": {"grid": GRID, "data": "digitz"},
    "darts · darts · digits: cutout=8 can erase whole images": {"grid": GRID, "recipe": "small", "train.cutout": 8},
    "images": {"grid": {"method": ["darts"], "space": ["recurrent"], "data": ["digits"]}, "space": {}, "limit": None},
}


@pytest.mark.parametrize("says", LATER)
def test_what_could_not_run_is_refused_before_anything_does(tmp_path, monkeypatch, says):
    from oche.core.console import Log

    monkeypatch.delenv("OCHE_NB201", raising=False)
    study = study_files.study(tmp_path, **LATER[says])
    with pytest.raises(OcheError) as refusal:
        check_trials(study.trials, "asked.yaml", Log(quiet=True))
    assert (
        says in str(refusal.value) and str(refusal.value).startswith("asked.yaml: ") and "\n" not in str(refusal.value)
    )
