"""Commands for a run that exists: `oche resume`, `oche evaluate`, `oche report`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from oche.analysis.classification import Assessment
from oche.api import resume as resume_run
from oche.cli.common import (
    Path_,
    console,
    next_after_training,
    percent,
    reached,
    say_found,
    say_next,
    say_trained,
    simple,
)  # fmt: skip
from oche.core.console import Log
from oche.core.errors import OcheError, plural
from oche.devices.launch import make_log
from oche.runs.claim import is_run
from oche.runs.run import Run
from oche.strategies.journal import FILE as JOURNAL


@dataclass(frozen=True)
class ResumeArgs:
    run: Path_
    """run directory"""
    data: str | None = None
    """place of the run's data, if they have moved"""
    data_dir: Path | None = None
    """folder with archives downloaded by hand, used instead of downloads"""
    quiet: bool = False
    """print warnings only"""


def resume(args: list[str]) -> int:
    given = simple(
        ResumeArgs,
        args,
        "resume",
        "Continue an interrupted or killed run. Its result is that of a run without interruption.",
        "oche resume runs/x\n  oche resume runs/x --data NEW/PLACE",
    )
    log = make_log(given.quiet)
    if (given.run / "demo.json").exists():
        from oche.cli.demo import resume_demo

        resume_demo(given.run, log)
        return 0
    if (given.run / JOURNAL).exists():
        from oche.cli.strategy import resume_strategy

        return resume_strategy(given.run, log)
    run = resume_run(given.run, data=given.data, data_dir=given.data_dir, quiet=given.quiet)
    if run.kind != "toy":
        (say_found if run.kind == "search" else say_trained)(run, log)
    return 0


@dataclass(frozen=True)
class EvaluateArgs:
    run: Path_
    """directory of a finished training"""
    data: str | None = None
    """data to measure whole, instead of the test part of the run's own: images of its classes, or text; or the run's own
    data, if they have moved"""
    data_dir: Path | None = None
    """folder with archives downloaded by hand, used instead of downloads"""
    damaged: Literal["refuse", "skip"] | None = None
    """what to do about images that cannot be decoded: refuse to measure, or skip them; by default as the run did"""
    layout: Literal["NHWC", "NCHW"] | None = None
    """axes of arrays of --data; by default known by the channels of the network"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps"""
    out: Path | None = None
    """folder for assessment.json, its pictures and its page; by default evaluation or evaluation-DATA in the run's directory"""
    quiet: bool = False
    """print the result only"""


def evaluate(args: list[str]) -> int:
    from oche.deploy.evaluate import evaluate_run, result_numbers, write_evaluation

    given = simple(
        EvaluateArgs, args, "evaluate",
        "Measure the network of a finished training again. On images: accuracy in all and by class, calibration, confused "
        "classes and the worst mistakes, as a table and as a page with pictures. On text: validation and test perplexity.",
        "oche evaluate runs/x/train\n  oche evaluate runs/x/train --data other.npz --out other\n"
        "  oche evaluate runs/ptb/train --data other.txt",
    )  # fmt: skip
    run, log = Run.open(given.run), Log(quiet=given.quiet)
    found = evaluate_run(run, given.data, given.data_dir, given.device, log, given.damaged, given.layout)
    print(reached(result_numbers(found)))
    if isinstance(found, Assessment):
        _print_assessment(found)
        name = "evaluation" if given.data is None else f"evaluation-{Path(given.data).stem}"
        print(f"report: {write_evaluation(found, run, given.out or run.path / name)}")
    elif given.out is not None:
        write_evaluation(found, run, given.out)
    else:
        _print_unknown_tokens(found)
    if isinstance(found, Assessment):
        say_next(log, *next_after_training(run.path, text=False)[1:])
    return 0


def _print_assessment(found: Assessment) -> None:
    """Print the accuracy of each class and the calibration."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("class", "images", "accuracy"):
        table.add_column(column, justify="left" if column == "class" else "right")
    for name, accuracy, row in zip(found.classes, found.by_class, found.confusion, strict=True):
        table.add_row(escape(name), f"{sum(row):,}", percent(accuracy))
    out = console()
    out.print(table)
    for i, j, n in found.confused[:3]:
        out.print(escape(f"{found.classes[i]} taken for {found.classes[j]}: {n}"))
    print(
        f"calibration error {100 * found.ece:.2f} %, negative log-likelihood {found.nll:.4f} nats, "
        f"{plural(found.images, 'image')}"
    )


def _print_unknown_tokens(numbers: dict[str, float | int]) -> None:
    shares = {key: numbers[key] for key in numbers if key.endswith("_unknown") and numbers[key]}
    if shares:
        said = [
            f"{100 * share:.2f} % of {numbers[key.replace('unknown', 'tokens')]:,}" for key, share in shares.items()
        ]
        print(f"unknown tokens: {', '.join(said)}")


@dataclass(frozen=True)
class ReportArgs:
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """directory of a run or a study; or several run directories, or the directory of a comparison, to compare them"""
    out: Path | None = None
    """page of a comparison; by default report.html in its directory, or comparison.html here for several directories"""


def report(args: list[str]) -> int:
    from oche.report.comparison_page import write_comparison
    from oche.report.run_page import write_report

    given = simple(
        ReportArgs,
        args,
        "report",
        "Draw the pictures of a run and write its report.html. For several runs, write one page that compares them; for a study, "
        "write the report that oche study report makes.",
        "oche report runs/x\n  oche report runs/a runs/b --out a-b.html\n  oche report runs/compare",
    )
    one = given.runs[0] if len(given.runs) == 1 else None
    if not given.runs:
        raise OcheError("oche report needs a run directory, or several; write oche report runs/x")
    if one is not None and (is_run(one) or not one.is_dir()):
        if given.out is not None:
            raise OcheError(f"--out is for comparisons; the report of a run is {one / 'report.html'}")
        if Run.open(one).kind == "fit":
            from oche.fitting.page import write_fit_page

            write_fit_page(one)
        else:
            write_report(one)
        print(one / "report.html")
    elif one is not None and (one / "study.yaml").is_file():
        from oche.study.report import write_study_report

        print(write_study_report(one, out=given.out))
    else:
        print(write_comparison(given.runs, given.out or (one / "report.html" if one else Path("comparison.html"))))
    return 0
