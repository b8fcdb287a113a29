"""The status of a study, and what is said on the way."""

from __future__ import annotations

import json
import re
import signal
from types import SimpleNamespace

import pytest

import study_files
from oche.cli import main as cli
from oche.study import local
from oche.study import run as study_run
from oche.study.config import Placement
from oche.study.processes.resources import usable_cores
from study_files import LOG

GRID = {"method": ["darts", "random"], "seed": [0, 1]}


@pytest.mark.slow
def test_what_is_said(tmp_path, started, capsys):
    file = study_files.write(tmp_path, recipe="small", grid=GRID)
    assert cli.main(["study", str(file), "--check"]) == 0
    assert capsys.readouterr().out.count(" · darts · digits · seed ") == 4 and not (tmp_path / "out").exists()
    assert cli.main(["study", str(file)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("4 trials\n") and "darts · darts · digits · seed 0: test acc " in said and "best: " in said
    out = tmp_path / "out"
    next((out / "trials").glob("*/summary.json")).unlink()
    assert cli.main(["study", "status", str(out)]) == 0
    said = capsys.readouterr().out
    # state.json still says complete; without its result it is not
    assert "4 trials: 3 complete, 1 interrupted; best: " in said
    assert (
        re.search(r"interrupted +100 % +test acc \d+\.\d\d % so far", said)
        and len(re.findall("complete +100 %", said)) == 3
    )
    assert cli.main(["study", str(out)]) == 0
    assert "4 trials, 3 of them complete" in capsys.readouterr().out


@pytest.mark.slow
def test_status_follows_until_nothing_is_left_to_do(tmp_path, started, monkeypatch, capsys):
    study = study_files.study(tmp_path, grid={"method": "darts", "seed": [0, 1]})
    study_run.write_study(study)
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 2:  # between the second look and the third somebody runs it
            assert study_run.run_study(study, LOG, "x") == 0

    monkeypatch.setattr("oche.cli.study.time", SimpleNamespace(sleep=sleep))
    assert cli.main(["study", "status", str(tmp_path / "out"), "--follow"]) == 0
    assert len(looks) == 2 and capsys.readouterr().out.endswith("%\n") and len(started) == 2

    next((tmp_path / "out/trials").glob("*/summary.json")).unlink()
    monkeypatch.setattr("oche.cli.study.time.sleep", lambda seconds: signal.raise_signal(signal.SIGINT))
    assert cli.main(["study", "status", str(tmp_path / "out"), "--follow"]) == 0  # Ctrl-C
    assert "2 trials: 1 complete, 1 interrupted" in capsys.readouterr().out


def test_the_best_and_the_room_follow_from_what_trials_left(tmp_path, monkeypatch):
    study = study_files.study(tmp_path, grid={"method": ["darts", "gdas", "snas"]})
    jobs = study_run.write_study(study)
    assert local.best_trial(jobs) == "" and local.local_resources(jobs, study.place, "cpu").need == 0
    for job, value in zip(jobs, (0.25, 0.75, None), strict=True):
        job.usage_file.write_text(json.dumps({"peak_mb": 100 * (value or 9)}))
        if value:
            (job.path / "summary.json").write_text(json.dumps({"genotype": "g", "search_val_acc": value}))
    assert local.best_trial(jobs) == "gdas · darts · digits · seed 0, search val acc 75.00 %"
    room = local.local_resources(jobs, study.place, "cpu")
    assert room.measured and room.need == 900 * 2**20 and len(room.slots) == usable_cores()
    room = local.local_resources(jobs, Placement(jobs=5), "cpu")
    assert not room.measured and len(room.slots) == 5
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [
        slot["CUDA_VISIBLE_DEVICES"] for slot in local.local_resources(jobs, Placement(gpus=0.5), "auto").slots
    ] == [*"0101"]
    assert [trial_result[0] for trial_result in local.progress_rows(jobs)] == ["2 of 3 trials"]
