"""Grids: all combinations, seed by seed, under labels that tell trials apart."""

from __future__ import annotations

import study_files
from oche.study.grid import flat, nested, varying_labels


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
    assert study.trials[2].search.search.method.select.count == 5
    assert study.trials[0].group == (
        "darts · darts · digits · search.a.lr=0.0003 · search.select.count=default · search.hypergrad=default"
    )
    assert [t.search.search.method.arch_optimizer.lr for t in study.trials[:2]] == [3e-4, 0.01]
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
