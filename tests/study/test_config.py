"""study.yaml: which trials it asks for, their names by content, and what is refused before anything is made."""

from __future__ import annotations

import pytest
import yaml

import study_files
from oche.cli import main as cli
from oche.study.config import read_study


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
