"""`oche train`: train a network from scratch."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from oche.api import run_train
from oche.cli.common import Flags, choose, part, say_trained, take, values
from oche.core.config.command_line import parse
from oche.core.config.help import asks
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.devices.launch import make_log
from oche.runs.config import TrainConfig
from oche.runs.resolve import default_training, next_free_path
from oche.runs.run import Run
from oche.training.recipes import RECIPES

MAIN = (
    "--recipe", "--data", "--size", "--train.budget", "--train.epochs", "--train.batch", "--train.channels", "--train.cells",
    "--limit", "--random", "--seed", "--device", "--out", "--overwrite", "--quiet",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrainArgs(Flags, TrainConfig):
    random: int = 0
    """number of random cells of the run's space to train in the same way, for comparison"""


def train(args: list[str]) -> int:
    named, rest = take(args, "recipe", "data")
    if "data" in named:  # it sets defaults, and counts more than a --config file
        rest += ["--data", named["data"]]
    what = rest.pop(0) if rest and not rest[0].startswith("-") else next(iter(values(rest, "--genotype")), None)
    if what is None and not values(rest, "--config") and not asks(rest):
        raise OcheError(
            "oche train needs a genotype first: write oche train runs/x, oche train DARTS_V2, or --config FILE"
        )
    options: dict[str, Any] = {}
    if (recipe := named.get("recipe")) is not None:
        options = {"recipe": recipe, "train": choose("recipe", recipe, RECIPES)()}
    config, out = default_training(what or "DARTS_V2", named.get("data"), options)
    if asks(rest):  # a whole genotype would only fill the help
        config = replace(config, genotype=what or "")
    given = parse(
        TrainArgs(**{f.name: getattr(config, f.name) for f in fields(TrainConfig)}), rest,
        prog="oche train WHAT",
        description="Train a network from scratch. WHAT is a run directory, a published name (see oche list genotypes) or the "
        "text of a genotype. --recipe NAME chooses size and schedule (see oche list recipes), --data another data set. Recurrent "
        "cells and lstm make language models, trained on text.",
        epilog="examples:\n"
        "  oche train runs/cifar                                published setting: 20 cells, 600 epochs\n"
        "  oche train runs/digits-beta-darts --recipe small --random 3\n"
        "  oche train runs/cifar --data cifar100                transfer the cell\n"
        "  oche train DARTS_V2 --data cifar10 --train.cutout 0 --train.drop-path 0.1\n"
        "  oche train DARTS_RNN_V2 --data ptb                   a language model, as published\n"
        "  oche train --genotype lstm --data my.txt --recipe recurrent-small",
        main=MAIN, texts={
            "--recipe": "size and schedule, by their name in oche list recipes; sets the defaults of --train options "
            f"(default: {config.recipe})",
            "--genotype": "the cells to train, in place of WHAT: a published name, the text of a genotype, or lstm",
        },
    )  # fmt: skip
    log = make_log(given.quiet)
    config = part(given, TrainConfig)
    if given.random < 0:
        raise OcheError(f"--random {given.random} is no number of cells; use 0 or more")
    if given.random and (out is None or Run.open(str(what)).kind != "search"):
        raise OcheError("--random needs a search to take the space from; write oche train runs/x --random 3")
    run = run_train(config, out=given.out or out, overwrite=given.overwrite, log=log, refresh=not given.random)
    say_trained(run, log)
    if given.random:
        _train_random(Run.open(str(what)), config, given.random, log)
    return 0


def _train_random(origin: Run, config: TrainConfig, count: int, log: Log) -> None:
    from oche.core.seeds import generator
    from oche.report.run_page import write_report

    for i in range(1, count + 1):
        cell = origin.config.space.random(generator(config.seed, "random cell", i))
        done = run_train(
            replace(config, genotype=str(cell)),
            out=next_free_path(origin.path / f"random-{i}"),
            overwrite=False,
            log=log,
            refresh=False,
        )
        say_trained(done, log)
    if not log.mute:
        report = write_report(origin.path)
        log.say(f"report: {report}")
