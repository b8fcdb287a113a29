"""The same trials on a Ray of this machine: they end, are gone on with after deaths, and those that trail are stopped early."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import small_runs
import study_files
from oche.cli import main as cli
from oche.study import local
from oche.study import run as study_run
from oche.study.config import read_study
from oche.study.ray import Task, _needs
from study_processes import outcome, records, wait_for, workers

pytestmark = pytest.mark.slow  # Ray


def test_without_ray_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    file = study_files.write(tmp_path, grid={"method": "darts"})
    assert cli.main(["study", str(file), "--on", "ray"]) == 2
    assert capsys.readouterr().err == "oche: --on ray needs ray; pip install 'oche[study]', or leave --on out\n"
    assert not (tmp_path / "out").exists()


class FakeRay:
    """Knows how many GPUs its cluster has, and keeps what tasks ask for."""

    def __init__(self, gpus: float) -> None:
        self.gpus, self.asked = gpus, []

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 8.0, **({"GPU": self.gpus} if self.gpus else {})}

    def remote(self, **needs):
        def given(attend):
            return SimpleNamespace(remote=lambda path, threads: self.asked.append((needs, Path(path).name, threads)))

        return given


@pytest.mark.parametrize(
    ("device", "gpus", "share"),
    [("auto", 2.0, 0.25), ("auto", 0.0, 0), ("cuda", 0.0, 0.25), ("cuda:1", 1.0, 0.25), ("cpu", 2.0, 0)],
)
def test_ray_sets_aside_the_threads_and_the_share_of_a_gpu_of_each_trial(tmp_path, monkeypatch, device, gpus, share):
    fake = FakeRay(gpus)
    monkeypatch.setattr("oche.study.ray._ray", lambda: fake)
    study = study_files.study(tmp_path, grid={"method": "darts"}, device=device, threads=3, gpus=0.25)
    (trial,) = study.trials
    trial.write(tmp_path / trial.id)
    needs = _needs(study)
    assert needs == {"num_cpus": 3, "num_gpus": share}
    Task(local.TrialJob.at(tmp_path / trial.id), needs)
    assert fake.asked == [({**needs, "max_retries": 3}, trial.id, 3)]


# --- with Ray


def test_a_lost_worker_and_a_lost_driver_cost_no_trial(tmp_path, monkeypatch, without_reports):
    """The worker that attends to a trial is killed, then the driver with all of its Ray; then it ends like a calm study."""
    pytest.importorskip("ray", reason="needs Ray: pip install 'oche[study]'")
    keys = dict(jobs=2, checkpoint=0.05, search={"batch": 8, "steps": 90}, grid={"method": "darts"})
    file, out = study_files.write(tmp_path, **keys), tmp_path / "out"
    driver = subprocess.Popen([sys.executable, "-m", "oche", "study", str(file), "--on", "ray"])
    try:
        wait_for(out, 3, driver)
        attending = parent(workers(out)[0])
        assert attending != driver.pid
        os.kill(attending, signal.SIGKILL)
        wait_for(out, records(out) + 6, driver)  # given to another worker, it goes on
        (log,) = out.glob("trials/*/log.txt")
        assert log.read_text().count("oche study trial ") == 2
    finally:
        driver.kill()
        driver.wait()
    assert cli.main(["study", str(file), "--on", "ray", "--quiet"]) == 0
    assert log.read_text().count("oche study trial ") == 3
    steps = [record["step"] for record in small_runs.metrics(next(out.glob("trials/*/search")))]
    assert steps == sorted({*steps}) and steps[-1] == 90
    study_files.here(monkeypatch)
    assert study_run.run_study(read_study(file, out=str(tmp_path / "calm")), study_files.LOG, "x") == 0
    assert outcome(out) == outcome(tmp_path / "calm")


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
