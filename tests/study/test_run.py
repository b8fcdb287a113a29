"""Studies from beginning to end: what runs, what never runs twice, what is tried once more, what is said."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import yaml

import runs
import study_files
from oche.cli import main as cli
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.core.lock import Lock
from oche.core.seeds import generator
from oche.runs.run import Run
from oche.study import local
from oche.study import run as drive
from oche.study import trial as trials
from oche.study.config import Placement, read_study
from oche.study.processes.resources import usable_cores
from oche.study.results import trial_results
from oche.study.slurm import job_array_script
from oche.study.slurm import write_job_array as write_array
from oche.study.trial import Trial
from paths import ROOT
from study_files import LOG

GRID = {"method": ["darts", "random"], "seed": [0, 1]}


@pytest.fixture
def started(monkeypatch) -> list[str]:
    return study_files.here(monkeypatch)


def test_every_trial_is_searched_and_trained_and_the_control_is_only_trained(tmp_path, started):
    study = study_files.study(tmp_path, recipe="small", grid=GRID)
    assert drive.run_study(study, LOG, "x") == 0
    found = trial_results(tmp_path / "out")
    assert [trial_result.id for trial_result in found] == started == [t.id for t in study.trials]
    assert {trial_result.state for trial_result in found} == {"complete"}
    darts, control = found[:2]
    assert (darts.group, darts.seed) == ("darts · darts · digits", 0)
    assert darts.labels == {"method": "darts", "space": "darts", "data": "digits"}
    search, train = Run.open(darts.path / "search"), Run.open(darts.path / "train")
    assert darts.genotype == str(search.genotype) == str(train.genotype)
    assert darts.numbers["test_acc"] == train.summary["test_acc"]
    assert darts.numbers["search_val_acc"] == search.summary["val_acc"]
    assert darts.numbers["parameters"] == train.summary["parameters"] and darts.numbers["flops"] > 0
    assert darts.numbers["search_steps"] == 3 and darts.numbers["train_steps"] == 2
    assert darts.numbers["search_seconds"] > 0 and darts.numbers["train_seconds"] > 0
    assert not (control.path / "search").exists()
    space = study.trials[1].search.space
    assert control.genotype == str(space.random(generator(0, "random cell"))) != found[3].genotype
    assert control.numbers["train_steps"] == 2 and "search_seconds" not in control.numbers
    # the networks of both are trained alike: all that differs is the cell
    of = [(trial_result.path / "train/config.yaml").read_text() for trial_result in (darts, control)]
    cells = [Run.open(trial_result.path / "train").config.genotype for trial_result in (darts, control)]
    assert Run.open(darts.path / "train").config.train == Run.open(control.path / "train").config.train
    assert cells[0] != cells[1] and len(of[0].splitlines()) == len(of[1].splitlines())


def test_more_seeds_run_the_new_ones_only_and_nothing_runs_twice(tmp_path, started):
    assert drive.run_study(study_files.study(tmp_path, grid={"method": "darts", "seed": [0]}), LOG, "x") == 0
    first = trial_results(tmp_path / "out")
    assert len(started) == 1
    more = study_files.study(tmp_path, grid={"method": "darts", "seed": [1, 0]})
    assert drive.run_study(more, LOG, "x") == 0
    assert started == [t.id for t in more.trials] and trial_results(tmp_path / "out")[0] == first[0]
    assert drive.run_study(more, LOG, "x") == 0
    assert (
        drive.run_study(read_study(tmp_path / "out", out=str(tmp_path / "out")), LOG, "x") == 0
    )  # from its own directory
    assert len(started) == 2
    fewer = study_files.study(tmp_path, grid={"method": "darts", "seed": [1]})
    assert drive.run_study(fewer, LOG, "x") == 0
    assert [trial_result.seed for trial_result in trial_results(tmp_path / "out")] == [1] and len(started) == 2


def test_a_crash_leaves_the_others_going_and_is_tried_once_more(tmp_path, started, monkeypatch, capsys):
    study = study_files.study(tmp_path, grid={"method": ["darts", "gdas", "snas"]})
    work, crashes = trials._work, {study.trials[0].id: 1, study.trials[1].id: 9}

    def crashing(path, *rest):
        if crashes.get(path.name, 0) > 0:
            crashes[path.name] -= 1
            raise RuntimeError("out of luck")
        return work(path, *rest)

    monkeypatch.setattr(trials, "_work", crashing)
    assert drive.run_study(study, LOG, "x") == 1
    names = [t.id for t in study.trials]
    assert started == [*names, names[0], names[1]]
    assert [trial_result.state for trial_result in trial_results(tmp_path / "out")] == [
        "complete",
        "failed",
        "complete",
    ]
    assert capsys.readouterr().err.count("gdas · darts · digits · seed 0: RuntimeError: out of luck") == 2
    crashes.clear()
    assert drive.run_study(study, LOG, "x") == 0 and started[5:] == [names[1]]  # asked for anew, it is tried anew


def test_a_mistake_is_not_tried_again(tmp_path, started, monkeypatch):
    study = study_files.study(tmp_path, grid={"method": ["darts"]})

    class Mistaken(study_files.Here):
        def __init__(self, *rest):
            super().__init__(*rest)
            self.exit = 2

    def refused(*rest):
        raise OcheError("no")

    monkeypatch.setattr(trials, "_work", refused)
    monkeypatch.setattr(local, "begin", Mistaken)
    assert drive.run_study(study, LOG, "x") == 1 and len(started) == 1


def test_a_trial_that_was_killed_goes_on_to_the_same_end(tmp_path, started, monkeypatch):
    study = study_files.study(tmp_path, recipe="small", checkpoint=0, grid={"method": "darts"})
    assert drive.run_study(study, LOG, "x") == 0
    (whole,) = trial_results(tmp_path / "out")
    out = tmp_path / "killed"
    trial: Trial = study.trials[0]
    trial.write(out)
    job_array_script = f"""
import os, signal, sys
from pathlib import Path
from types import SimpleNamespace
from oche.bilevel.search import Search
from oche.core.console import Log
from oche.study.processes.resources import usable_cores
from oche.study.trial import run
step = Search.step
def dying(self, at, progress):
    if at == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    step(self, at, progress)
Search.step = dying
run(Path({str(out)!r}), Log(quiet=True))
"""
    assert subprocess.run([sys.executable, "-c", job_array_script]).returncode == -9
    assert local.TrialJob.at(out).describe_outcome() == "killed" and local.TrialJob.at(out).progress_row()[
        1
    ] == pytest.approx(1 / 3, abs=0.2)
    from oche.study.results import trial_result

    assert trial_result(out).state == "interrupted"
    trials.run_trial(out, LOG)
    again = trial_result(out)
    assert (again.state, again.genotype) == ("complete", whole.genotype)
    assert {k: v for k, v in again.numbers.items() if "second" not in k and "_ms" not in k} == {
        k: v for k, v in whole.numbers.items() if "second" not in k and "_ms" not in k
    }
    assert runs.same_weights(out / "train", whole.path / "train")
    assert runs.metrics(out / "search") == runs.metrics(whole.path / "search")


def test_two_drivers_do_not_share_a_study(tmp_path, started):
    study = study_files.study(tmp_path, grid={"method": "darts"})
    (tmp_path / "out").mkdir()
    lock = Lock(tmp_path / "out")
    try:
        with pytest.raises(OcheError, match="is in use by"):
            drive.run_study(study, LOG, "x")
    finally:
        lock.release()
    assert not started and not (tmp_path / "out/study.yaml").exists()


def test_something_else_is_left_alone(tmp_path, started):
    study = study_files.study(tmp_path, grid={"method": "darts"})
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").touch()
    with pytest.raises(OcheError, match="is no study and not empty"):
        drive.run_study(study, LOG, "x")
    with pytest.raises(OcheError, match="is no study: it has no study"):
        trial_results(tmp_path / "out")


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


def test_status_follows_until_nothing_is_left_to_do(tmp_path, started, monkeypatch, capsys):
    study = study_files.study(tmp_path, grid={"method": "darts", "seed": [0, 1]})
    drive.write_study(study)
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 2:  # between the second look and the third somebody runs it
            assert drive.run_study(study, LOG, "x") == 0

    monkeypatch.setattr("oche.cli.study.time", SimpleNamespace(sleep=sleep))
    assert cli.main(["study", "status", str(tmp_path / "out"), "--follow"]) == 0
    assert len(looks) == 2 and capsys.readouterr().out.endswith("%\n") and len(started) == 2

    next((tmp_path / "out/trials").glob("*/summary.json")).unlink()
    monkeypatch.setattr("oche.cli.study.time.sleep", lambda seconds: signal.raise_signal(signal.SIGINT))
    assert cli.main(["study", "status", str(tmp_path / "out"), "--follow"]) == 0  # Ctrl-C
    assert "2 trials: 1 complete, 1 interrupted" in capsys.readouterr().out


def test_the_best_and_the_room_follow_from_what_trials_left(tmp_path, monkeypatch):
    study = study_files.study(tmp_path, grid={"method": ["darts", "gdas", "snas"]})
    jobs = drive.write_study(study)
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


def test_the_example_runs_at_a_tiny_size(tmp_path, started):
    example = yaml.safe_load((ROOT / "examples/study.yaml").read_text())
    assert read_study(ROOT / "examples/study.yaml").trials[8].group == "random · darts · digits"
    tiny = {**example, **study_files.TINY, "recipe": "small", "grid": {**example["grid"], "seed": 0}}
    del tiny["search.epochs"]  # its length is in steps
    study = study_files.study(tmp_path, **{k: v for k, v in tiny.items() if k != "out"})
    assert drive.run_study(study, LOG, "x") == 0
    assert [trial_result.labels["method"] for trial_result in trial_results(tmp_path / "out")] == [
        "beta-darts",
        "darts",
        "random",
    ]
    assert all("test_acc" in trial_result.numbers for trial_result in trial_results(tmp_path / "out"))


# --- Slurm


def test_the_array_has_a_task_for_each_trial_that_is_missing(tmp_path, started, capsys):
    study = study_files.study(tmp_path, grid={"method": "darts", "seed": [0]})
    assert drive.run_study(study, LOG, "x") == 0
    (tmp_path / "out/trials" / study.trials[0].id / "usage.json").write_text(json.dumps({"peak_mb": 400.0}))
    more = study_files.study(tmp_path, grid={"method": "darts", "seed": [0, 1, 2]}, jobs=2, threads=3)
    assert write_array(more, Log(), "x") == 0
    text = (tmp_path / "out/array.sh").read_text()
    assert f"sbatch {tmp_path / 'out/array.sh'}" in capsys.readouterr().out
    lines = text.splitlines()
    assert lines[0] == "#!/bin/bash"
    wanted = [
        "--job-name=oche-out",
        "--array=0-1%2",
        "--cpus-per-task=3",
        "--mem=600M",
        "--signal=B:TERM@60",
        "--requeue",
    ]
    assert {f"#SBATCH {word}" for word in wanted} <= {*lines} and "--gpus" not in text
    assert [line.split()[0] for line in lines if "· seed" in line] == [t.id for t in more.trials[1:]]
    assert (tmp_path / "out/slurm").is_dir() and f"#SBATCH --output={tmp_path / 'out'}/slurm/%A_%a.txt" in lines

    # what a task of the array does, with an oche that says what it is asked
    fake = text.replace(f"exec {sys.executable} -m oche", "exec echo")
    done = subprocess.run(["bash", "-c", fake], env={"SLURM_ARRAY_TASK_ID": "1"}, capture_output=True, text=True)
    assert done.stdout == f"study trial {tmp_path}/out/trials/{more.trials[2].id} --usage\n" and done.returncode == 0

    on_gpu = study_files.study(tmp_path, grid={"method": "darts"}, device="cuda")
    jobs = [local.TrialJob.at(tmp_path / "out/trials" / more.trials[1].id)]
    text = job_array_script(jobs, on_gpu, tmp_path / "with space")
    assert "#SBATCH --gpus=1\n" in text and "#SBATCH --array=0-0\n" in text and "--mem" not in text
    assert f"'{tmp_path / 'with space'}'/trials/" in text


def test_a_complete_study_has_nothing_to_submit(tmp_path, started, capsys):
    study = study_files.study(tmp_path, grid={"method": "darts"})
    assert drive.run_study(study, LOG, "x") == 0 and write_array(study, Log(), "x") == 0
    assert "nothing to submit" in capsys.readouterr().out and not (tmp_path / "out/array.sh").exists()
