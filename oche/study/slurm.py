"""`--on slurm`: write a job array script whose tasks each do one trial. It submits nothing."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import jinja2

from oche.core.atomic_files import read_json, write_bytes
from oche.core.console import Log
from oche.core.errors import plural
from oche.study.config import Study
from oche.study.local import TrialJob
from oche.study.run import open_study

_SCRIPT = """\
#!/bin/bash
# {{ count }}, one per task. Submit it with:  sbatch {{ script }}
# A task whose trial is complete ends at once; a trial that was stopped continues. Submit this file again until
# oche study status {{ out }} shows that all are complete.
#SBATCH --job-name=oche-{{ name }}
#SBATCH --array=0-{{ trials | length - 1 }}{{ "%" ~ jobs if jobs }}
#SBATCH --cpus-per-task={{ threads }}
{% if memory -%}
#SBATCH --mem={{ memory }}M
{% endif -%}
{% if gpu -%}
#SBATCH --gpus=1
{% endif -%}
#SBATCH --output={{ out }}/slurm/%A_%a.txt
#SBATCH --signal=B:TERM@60
#SBATCH --requeue
set -eu
trials=(
{%- for trial in trials %}
  {{ trial.path.name }}  # {{ trial.name }}
{%- endfor %}
)
export OMP_NUM_THREADS={{ threads }}
# exec: the signal that Slurm sends before the time limit reaches oche itself, which saves and stops.
exec {{ python }} -m oche study trial {{ out }}/trials/"${trials[$SLURM_ARRAY_TASK_ID]}" --usage
"""


def job_array_script(jobs: Sequence[TrialJob], study: Study, out: Path) -> str:
    """The text of the job array for the unfinished ``jobs``; ``out``: the study's directory, as an absolute path.

    If trials of the study have run, it asks for 1.5 times the largest peak memory among them.
    """
    peaks = [read_json(job.usage_file).get("peak_mb", 0) for job in jobs]
    template = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True).from_string(_SCRIPT)
    return template.render(
        trials=(left := [job for job in jobs if not job.outcome()]), count=plural(len(left), "trial"), name=out.name,
        threads=study.place.threads,
        jobs=None if study.place.jobs == "auto" else study.place.jobs, memory=round(1.5 * max(peaks, default=0)),
        gpu=study.trials[0].search.device.startswith("cuda"), out=shlex.quote(str(out)), python=shlex.quote(sys.executable),
        script=shlex.quote(str(out / "array.sh")),
    )  # fmt: skip


def write_job_array(study: Study, log: Log, where: str) -> int:
    """Write OUT/array.sh for the unfinished trials of ``study``. Raises as `open_study` does."""
    out = study.place.out.absolute()
    with open_study(study, log, where) as jobs:
        if all(job.outcome() for job in jobs):
            log.say("all trials are complete; there is nothing to submit")
            return 0
        (out / "slurm").mkdir(exist_ok=True)  # Slurm does not make the folder for the tasks' output
        write_bytes(out / "array.sh", job_array_script(jobs, study, out).encode())
    log.say(f"written: {out / 'array.sh'}\nsubmit it with: sbatch {shlex.quote(str(out / 'array.sh'))}")
    return 0
