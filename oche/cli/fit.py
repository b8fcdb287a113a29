"""`oche fit`: images in, a trained network, its page and its export out, in a given time."""

from __future__ import annotations

from dataclasses import dataclass

from oche.api import run_fit
from oche.cli.common import Flags, part
from oche.core.config.command_line import parse
from oche.devices.launch import make_log
from oche.fitting.controls import controls_of
from oche.fitting.run import describe_plan, plan_fit
from oche.runs.config import FitConfig

MAIN = (
    "--data", "--budget", "--out", "--plan", "--search", "--genotype", "--init", "--control", "--size", "--holdout",
    "--damaged", "--seed", "--device", "--threads", "--overwrite", "--quiet",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FitArgs(Flags, FitConfig):
    plan: bool = False
    """print the plan with predicted times, and stop"""


def fit(args: list[str]) -> int:
    if args and not args[0].startswith("-"):
        args = ["--data", *args]
    given = parse(
        FitArgs(), args, prog="oche fit DATA",
        description="Find and train a good network for your images in a given time. DATA is a folder with one folder of images "
        "per class, a .parquet or .npz file, or the name of a set. The planner times steps on this machine, chooses the sizes "
        "and prints the plan; every value can be fixed.",
        epilog="examples:\n"
        "  oche fit my/images --budget 30m --out runs/mine\n"
        "  oche fit my/images --plan                            the plan alone\n"
        "  oche fit cifar10 --budget 8h --search always\n"
        "  oche fit my/images --init runs/other                 begin with weights trained before",
        main=MAIN,
    )  # fmt: skip
    log, config = make_log(given.quiet), part(given, FitConfig)
    if given.plan:
        config, plan, _ = plan_fit(config, log)
        print(describe_plan(plan, controls_of(config, plan)))
        return 0
    run = run_fit(config, out=given.out, overwrite=given.overwrite, log=log)
    log.say(f"page: {run.path / 'report.html'}")
    return 0
