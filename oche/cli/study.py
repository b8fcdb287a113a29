"""Many runs: `oche compare`, and `oche study` with its parts `status`, `report` and `trial`."""

from __future__ import annotations

import time
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from oche.cli.common import Path_, console, simple
from oche.core.console import Log
from oche.study.comparison.settings import ComparisonConfig

if TYPE_CHECKING:
    from oche.study.config import Study

_REFRESH = 3.0  # seconds between two tables of status --follow


COMPARE_MAIN = (
    "--table", "--data", "--methods", "--seeds", "--budget", "--steps", "--jobs", "--threads", "--device", "--out", "--quiet",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CompareArgs(ComparisonConfig):
    quiet: bool = False
    """print warnings only"""


def compare(args: list[str]) -> int:
    from oche.study.comparison.run import run_comparison

    given = simple(
        CompareArgs,
        args,
        "compare",
        "Run methods with several seeds on NAS-Bench-201, each search in a process of its own, and write the true accuracies of "
        "their cells to OUT/table.md, table.csv and compare.svg. The same command continues unfinished runs and keeps finished "
        "ones. The defaults suit a small machine; the last example has the published size.",
        "oche compare --table nasbench201.parquet --methods darts gdas --seeds 0 1 2 --steps 400\n"
        "  oche compare --data cifar10.parquet --table nasbench201.parquet --budget 5m --jobs 2 --out runs/five-minutes\n"
        "  oche compare --table nasbench201.parquet --channels 16 --cells 5 --limit None --steps 19500 --device cuda",
        COMPARE_MAIN,
    )
    log = Log(quiet=given.quiet)
    code = run_comparison(given, log)
    if code == 0:
        log.say("next: the same command with more --seeds or --methods adds to the table and keeps these runs")
    return code


@dataclass(frozen=True)
class StudyArgs:
    file: Path_
    """study.yaml (see docs/studies.md), or the directory of a study to continue"""
    out: Path | None = None
    """directory of the study; by default that of the file"""
    jobs: int | Literal["auto"] | None = None
    """trials at a time; auto: as many as cores (or GPUs) and memory allow; by default the number in the file"""
    on: Literal["local", "ray", "slurm"] = "local"
    """local: processes on this machine; ray: a Ray cluster; slurm: write a job array script, run nothing"""
    address: str | None = None
    """address of a Ray cluster: auto or HOST:PORT; by default a cluster is started on this machine"""
    check: bool = False
    """check the file and list its trials, run nothing"""
    quiet: bool = False
    """print warnings only"""


def study(args: list[str]) -> int:
    if args and args[0] in _PARTS:
        return _PARTS[args[0]](args[1:])
    given = simple(
        StudyArgs,
        args,
        "study",
        "Run the trials of a file: method x space x data x seed x settings. Each trial is a search, perhaps followed by a "
        "training, in a process of its own. The same command continues unfinished trials and keeps complete ones, even after "
        "seeds were added to the file. 'oche study status DIR' shows the trials, 'oche study report DIR' compares them, "
        "'oche study trial DIR' runs one.",
        "oche study study.yaml\n"
        "  oche study study.yaml --jobs 2 --out runs/mine\n"
        "  oche study runs/mine                                 continue\n"
        "  oche study study.yaml --on ray --address auto\n"
        "  oche study study.yaml --on slurm                     writes OUT/array.sh\n"
        "  oche study status runs/mine",
    )
    from oche.study.config import read_study
    from oche.study.run import check_directory
    from oche.study.validate import check_trials

    out = given.out or (given.file if given.file.is_dir() else None)
    asked = read_study(given.file, out=out and str(out), jobs=given.jobs)
    log, where = Log(quiet=given.quiet), str(given.file)
    if given.check:
        check_directory(asked.place.out)
        check_trials(asked.trials, where, log)
        log.say("\n".join(f"{trial.id}  {trial.group} · seed {trial.seed}" for trial in asked.trials))
        return 0
    return _RUNNERS[given.on](asked, log, where, given.address)


def _local(asked: Study, log: Log, where: str, address: str | None) -> int:
    from oche.study.run import run_study

    return run_study(asked, log, where)


def _ray(asked: Study, log: Log, where: str, address: str | None) -> int:
    from oche.study.ray import run_study_on_ray

    return run_study_on_ray(asked, log, where, address)


def _slurm(asked: Study, log: Log, where: str, address: str | None) -> int:
    from oche.study.slurm import write_job_array

    return write_job_array(asked, log, where)


_RUNNERS = {"local": _local, "ray": _ray, "slurm": _slurm}


@dataclass(frozen=True)
class StatusArgs:
    study: Path_
    """directory of a study"""
    follow: bool = False
    """refresh the table every few seconds until all trials have ended, or Ctrl-C; for studies that another machine runs"""


def status(args: list[str]) -> int:
    given = simple(
        StatusArgs,
        args,
        "study status",
        "List the trials of a study with their progress.",
        "oche study status runs/x\n  oche study status runs/x --follow",
    )
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from oche.study.status import all_ended, status_table

    def current() -> Group:
        line, table = status_table(given.study, out.width)
        return Group(table, Text(line))

    out = console()
    if not given.follow:
        out.print(current())
        return 0
    with suppress(KeyboardInterrupt), Live(current(), console=out, auto_refresh=False) as live:
        while not all_ended(given.study):
            time.sleep(_REFRESH)
            live.update(current(), refresh=True)
    if not out.is_terminal:
        out.print()  # rich leaves the last line open in a pipe
    return 0


@dataclass(frozen=True)
class ReportArgs:
    study: Path_
    """directory of a study"""
    cells: int = 0
    """cells of the NAS-Bench-201 table to evaluate in each finished supernet, for the rank correlation; 0: none"""
    quiet: bool = False
    """print the path of the report only"""


def report(args: list[str]) -> int:
    given = simple(
        ReportArgs,
        args,
        "study report",
        "Compare the trials of a study, finished or not, with statistics; write report.html, report.md, tables/ and pictures/.",
        "oche study report runs/x\n  oche study report runs/x --cells 100",
    )
    from oche.study.report import write_study_report

    print(write_study_report(given.study, given.cells, Log(quiet=given.quiet)))
    return 0


@dataclass(frozen=True)
class TrialArgs:
    path: Path_
    """directory of a trial"""
    usage: bool = False
    """record memory and time in usage.json, as oche study does; for a process of its own, such as a task of a job array"""
    quiet: bool = False
    """print warnings only"""


def trial(args: list[str]) -> int:
    given = simple(
        TrialArgs,
        args,
        "study trial",
        "Finish one trial of a study; wait first while another process works on it.",
        "oche study trial runs/x/trials/3d22c8d75410",
    )
    from oche.study.processes.oche_process import record_usage
    from oche.study.results import read_trial_file
    from oche.study.trial import run_trial

    read_trial_file(given.path)  # raises OcheError if there is none
    with record_usage(given.path / "usage.json") if given.usage else nullcontext():
        run_trial(given.path, Log(quiet=given.quiet))
    return 0


_PARTS = {"status": status, "report": report, "trial": trial}
