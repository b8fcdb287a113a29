"""`--on slurm`: a job array script, of which each task does one trial. Nothing is submitted."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import jinja2

from oche.core import atomic_files as atomic
from oche.core.console import Log
from oche.study.config import Study
from oche.study.local import Job
from oche.study.run import opened

_SCRIPT = """\
#!/bin/bash
# {{ trials | length }} trials, one a task. Submit it with:  sbatch {{ script }}
# A task whose trial is complete ends at once, and one that was stopped goes on: submit it again, as it is, until
# oche study status {{ out }} says that all are complete.
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
# exec: the signal that Slurm sends before the time is up reaches oche itself, which saves and stops.
exec {{ python }} -m oche study trial {{ out }}/trials/"${trials[$SLURM_ARRAY_TASK_ID]}" --usage
"""


def script(jobs: Sequence[Job], study: Study, out: Path) -> str:
    """The text of the job array for ``jobs``, with ``out``, the study's directory, from the root.

    Memory is asked for where trials of the study have run: half as much again as the largest of them took.
    """
    peaks = [atomic.read_json(job.usage_file).get("peak_mb", 0) for job in jobs]
    template = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True).from_string(_SCRIPT)
    return template.render(
        trials=[job for job in jobs if not job.found()], name=out.name, threads=study.place.threads,
        jobs=None if study.place.jobs == "auto" else study.place.jobs, memory=round(1.5 * max(peaks, default=0)),
        gpu=study.trials[0].search.device.startswith("cuda"), out=shlex.quote(str(out)), python=shlex.quote(sys.executable),
        script=shlex.quote(str(out / "array.sh")),
    )  # fmt: skip


def write(study: Study, log: Log, where: str) -> int:
    """Writes OUT/array.sh for the trials of ``study`` that are not done. Raises as `opened` does."""
    out = study.place.out.absolute()
    with opened(study, log, where) as jobs:
        if all(job.found() for job in jobs):
            log.say("all trials are complete; there is nothing to submit")
            return 0
        (out / "slurm").mkdir(exist_ok=True)  # Slurm makes no directory for what tasks say
        atomic.write_bytes(out / "array.sh", script(jobs, study, out).encode())
    log.say(f"written: {out / 'array.sh'}\nsubmit it with: sbatch {shlex.quote(str(out / 'array.sh'))}")
    return 0
