"""The job array as a cluster runs it: bash reads it, an sbatch of our own gives tasks their numbers, and they do their trials."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

import small_runs
import study_files
from oche.core import atomic_files as atomic
from oche.core.console import Log
from oche.study import local
from oche.study import run as study_run
from oche.study.config import read_study
from oche.study.results import trial_results
from oche.study.slurm import job_array_script
from oche.study.slurm import write_job_array as write_array
from study_files import LOG

pytestmark = pytest.mark.slow  # processes

SBATCH = """\
#!/bin/bash
# What sbatch does with a script, for the one task that the test names: a copy of it runs elsewhere, under the task's number,
# and what it says goes where its own line --output says.
set -eu
range=$(sed -n 's/^#SBATCH --array=//p' "$1")
[[ $range =~ ^0-([0-9]+)(%[0-9]+)?$ ]] && (( TASK <= BASH_REMATCH[1] ))
said=$(sed -n 's/^#SBATCH --output=//p' "$1" | sed "s/%A/7/; s/%a/$TASK/")
spool=$(mktemp -d); cp "$1" "$spool/slurm_script"; cd "$spool"
export SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$TASK
echo "Submitted batch job 7"
exec bash "$spool/slurm_script" >"$said" 2>&1
"""


@pytest.fixture
def sbatch(tmp_path):
    """Submits a script, as a user does, for one of its tasks."""
    tool = tmp_path / "bin" / "sbatch"
    tool.parent.mkdir()
    tool.write_text(SBATCH)
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)

    def submit(script: Path, task: int) -> subprocess.Popen:
        env = {**os.environ, "PATH": f"{tool.parent}:{os.environ['PATH']}", "TASK": str(task)}
        return subprocess.Popen(["sbatch", str(script)], env=env, stdout=subprocess.DEVNULL)

    return submit


def array(folder: Path, **keys) -> tuple[Path, Path, list]:
    """(the array's script, the study's directory, its rows)."""
    file = study_files.write(folder, **keys)
    assert write_array(read_study(file), Log(quiet=True), "x") == 0
    out = folder / "out"
    return out / "array.sh", out, list(trial_results(out))


def test_bash_reads_the_script_whatever_the_directory_is_called(tmp_path):
    folder = tmp_path / 'it\'s a $HOME of "studies" & more'
    folder.mkdir()
    script, out, _ = array(folder, grid={"method": "darts", "seed": [0, 1]})
    checked = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")
    asked = script.read_text().replace("exec ", "printf '%s\\n' ", 1)
    said = subprocess.run(["bash", "-c", asked], env={"SLURM_ARRAY_TASK_ID": "1"}, capture_output=True, text=True)
    assert str(out / "trials" / [*trial_results(out)][1].id) in said.stdout.splitlines()


def test_a_task_does_its_trial_alone_saves_before_the_time_is_up_and_goes_on_when_submitted_again(
    tmp_path, sbatch, without_reports
):
    keys = dict(checkpoint=0.05, search={"batch": 8, "steps": 40}, grid={"method": "darts", "seed": [0, 1]})
    script, out, (_, row) = array(tmp_path, **keys)
    task, said, metrics = sbatch(script, 1), out / "slurm" / "7_1.txt", row.path / "search" / "metrics.jsonl"
    end = time.monotonic() + 300
    while not (metrics.exists() and metrics.read_bytes().count(b"\n") >= 2):
        assert task.poll() is None and time.monotonic() < end, said.read_text()
        time.sleep(0.02)
    task.send_signal(signal.SIGTERM)  # --signal=B:TERM@60: to the batch shell alone, which has become oche
    assert task.wait(timeout=300) == 130 and "stopping after this step" in said.read_text()
    assert [r.state for r in trial_results(out)] == ["waiting", "interrupted"]
    first = atomic.read_json(row.path / "usage.json")
    assert first["exit"] == 130 and first["cpu_s"] > 0 and 50 < first["peak_mb"] < 4000

    assert sbatch(script, 1).wait(timeout=300) == 0
    assert [r.state for r in trial_results(out)] == ["waiting", "complete"]
    steps = [record["step"] for record in small_runs.metrics(row.path / "search")]
    assert steps == sorted({*steps}) and steps[-1] == 40
    used = atomic.read_json(row.path / "usage.json")
    assert used["exit"] == 0 and used["cpu_s"] > first["cpu_s"] and used["wall_s"] > first["wall_s"]

    # Written anew it has the one that is missing, and asks for half as much memory again as the other took.
    text = array(tmp_path, **keys)[0].read_text()
    assert "#SBATCH --array=0-0\n" in text and f"#SBATCH --mem={round(1.5 * used['peak_mb'])}M\n" in text
    assert sbatch(script, 1).wait(timeout=60) != 0  # there is no such task any more


# --- Slurm


def test_the_array_has_a_task_for_each_trial_that_is_missing(tmp_path, started, capsys):
    study = study_files.study(tmp_path, grid={"method": "darts", "seed": [0]})
    assert study_run.run_study(study, LOG, "x") == 0
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
    assert study_run.run_study(study, LOG, "x") == 0 and write_array(study, Log(), "x") == 0
    assert "nothing to submit" in capsys.readouterr().out and not (tmp_path / "out/array.sh").exists()
