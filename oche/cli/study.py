"""`oche study`, with `oche study status`, `report` and `trial`."""

from __future__ import annotations

import time
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from oche.cli.common import Path_, console, simple
from oche.core.console import Log

if TYPE_CHECKING:
    from oche.study.config import Study

_LOOK = 3.0  # seconds between two looks of status --follow


@dataclass(frozen=True)
class StudyArgs:
    file: Path_
    """study.yaml, see docs/studies.md, or the directory of a study to go on with"""
    out: Path | None = None
    """directory of the study; by default what the file says"""
    jobs: int | Literal["auto"] | None = None
    """trials at a time; auto: as many as cores (or GPUs) and memory allow; by default what the file says"""
    on: Literal["local", "ray", "slurm"] = "local"
    """local: processes on this machine; ray: a Ray cluster; slurm: write a job array script and run nothing"""
    address: str | None = None
    """of a Ray cluster, auto or HOST:PORT; by default one is started on this machine"""
    check: bool = False
    """check the file and say what would be run"""
    quiet: bool = False
    """say nothing but warnings"""


def study(args: list[str]) -> int:
    if args and args[0] in _PARTS:
        return _PARTS[args[0]](args[1:])
    given = simple(
        StudyArgs,
        args,
        "study",
        "Runs the trials of a file: method x space x data x seed x settings, each a search and perhaps a training, in a process "
        "of its own. Trials that are complete are never run again and unfinished ones go on, so the same line may be given "
        "again, with more seeds in the file too. 'oche study status DIR' shows the trials, 'oche study report DIR' "
        "compares them, 'oche study trial DIR' runs one.",
        "oche study study.yaml\n"
        "  oche study study.yaml --jobs 2 --out runs/mine\n"
        "  oche study runs/mine                                 go on\n"
        "  oche study study.yaml --on ray --address auto\n"
        "  oche study study.yaml --on slurm                     writes OUT/array.sh\n"
        "  oche study status runs/mine",
    )
    from oche.study import run as drive
    from oche.study.config import read

    out = given.out or (given.file if given.file.is_dir() else None)
    asked = read(given.file, out=out and str(out), jobs=given.jobs)
    log, where = Log(quiet=given.quiet), str(given.file)
    if given.check:
        drive.check_out(asked.place.out)
        drive.check(asked.trials, where, log)
        log.say("\n".join(f"{trial.id}  {trial.group} · seed {trial.seed}" for trial in asked.trials))
        return 0
    return _RUN[given.on](asked, log, where, given.address)


def _local(asked: Study, log: Log, where: str, address: str | None) -> int:
    from oche.study.run import run

    return run(asked, log, where)


def _ray(asked: Study, log: Log, where: str, address: str | None) -> int:
    from oche.study.ray import run

    return run(asked, log, where, address)


def _slurm(asked: Study, log: Log, where: str, address: str | None) -> int:
    from oche.study.slurm import write

    return write(asked, log, where)


_RUN = {"local": _local, "ray": _ray, "slurm": _slurm}


@dataclass(frozen=True)
class StatusArgs:
    study: Path_
    """directory of a study"""
    follow: bool = False
    """look again every few seconds, until all trials have ended, or Ctrl-C: for studies that another machine runs"""


def status(args: list[str]) -> int:
    given = simple(
        StatusArgs,
        args,
        "study status",
        "Lists the trials of a study and how far they are.",
        "oche study status runs/x\n  oche study status runs/x --follow",
    )
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from oche.study.status import over, table

    def looked() -> Group:
        line, made = table(given.study)
        return Group(made, Text(line))

    out = console()
    if not given.follow:
        out.print(looked())
        return 0
    with suppress(KeyboardInterrupt), Live(looked(), console=out, auto_refresh=False) as live:
        while not over(given.study):
            time.sleep(_LOOK)
            live.update(looked(), refresh=True)
    if not out.is_terminal:
        out.print()  # there the last line is left open
    return 0


@dataclass(frozen=True)
class ReportArgs:
    study: Path_
    """directory of a study"""
    cells: int = 0
    """of searches with a table of NAS-Bench-201: cells of it to try with each supernet, for the rank correlation; 0: none"""
    quiet: bool = False
    """say nothing but where the report is"""


def report(args: list[str]) -> int:
    given = simple(
        ReportArgs,
        args,
        "study report",
        "Compares the trials of a study, finished or not, with statistics: report.html, report.md, tables/ and pictures/.",
        "oche study report runs/x\n  oche study report runs/x --cells 100",
    )
    from oche.study.report import write

    print(write(given.study, given.cells, Log(quiet=given.quiet)))
    return 0


@dataclass(frozen=True)
class TrialArgs:
    path: Path_
    """directory of a trial"""
    usage: bool = False
    """note memory and time in its usage.json, as oche study does: for a process of its own, such as a task of a job array"""
    quiet: bool = False
    """say nothing but warnings"""


def trial(args: list[str]) -> int:
    given = simple(
        TrialArgs,
        args,
        "study trial",
        "Does what is left of one trial of a study, once no other process is at work on it.",
        "oche study trial runs/x/trials/3d22c8d75410",
    )
    from oche.study.processes.subprocess import noted
    from oche.study.results import about
    from oche.study.trial import run

    about(given.path)  # there is one
    with noted(given.path / "usage.json") if given.usage else nullcontext():
        run(given.path, Log(quiet=given.quiet))
    return 0


_PARTS = {"status": status, "report": report, "trial": trial}
