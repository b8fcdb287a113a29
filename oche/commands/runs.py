"""Commands about a run that is there: `oche resume`, `oche evaluate`, `oche report`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..api import Run
from ..api import resume as resume_run
from ..run.log import Log
from .shared import reached, say_found, say_trained, simple

Path_ = Annotated[Path, tyro.conf.Positional]


@dataclass(frozen=True)
class ResumeArgs:
    run: Path_
    """run directory"""
    quiet: bool = False
    """say nothing but warnings"""


def resume(args: list[str]) -> int:
    given = simple(
        ResumeArgs,
        args,
        "resume",
        "Goes on with an interrupted or killed run, to the very same result.",
        "oche resume runs/x",
    )
    log = Log(quiet=given.quiet)
    if (given.run / "demo.json").exists():
        from ..demo import go_on

        go_on(given.run, log)
        return 0
    run = resume_run(given.run, quiet=given.quiet)
    if run.kind != "toy":
        (say_found if run.kind == "search" else say_trained)(run, log)
    return 0


@dataclass(frozen=True)
class EvaluateArgs:
    run: Path_
    """directory of a finished training"""
    data: str | None = None
    """other data than the run's own: with the same classes, or text"""
    data_dir: Path | None = None
    """folder with archives downloaded by hand, used instead of the network"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps"""
    quiet: bool = False
    """say nothing but the result"""


def evaluate(args: list[str]) -> int:
    from ..api import evaluate as measured

    given = simple(
        EvaluateArgs, args, "evaluate",
        "Measures the network of a finished training anew: test accuracy on images, validation and test perplexity on text.",
        "oche evaluate runs/x/train\n  oche evaluate runs/ptb/train --data other.txt",
    )  # fmt: skip
    numbers = measured(given.run, given.data, data_dir=given.data_dir, device=given.device, quiet=given.quiet)
    print(reached(numbers))
    shares = {key: numbers[key] for key in numbers if key.endswith("_unknown") and numbers[key]}
    if shares:
        said = [
            f"{100 * share:.2f} % of {numbers[key.replace('unknown', 'tokens')]:,}" for key, share in shares.items()
        ]
        print(f"unknown tokens: {', '.join(said)}")
    return 0


@dataclass(frozen=True)
class ReportArgs:
    run: Path_
    """run directory"""


def report(args: list[str]) -> int:
    from ..report import write_report

    given = simple(
        ReportArgs, args, "report", "Draws the pictures of a run and writes its report.html.", "oche report runs/x"
    )
    write_report(Run.open(given.run).path)
    print(given.run / "report.html")
    return 0
