"""`oche search --strategy NAME`: find cells without gradients, by a table, trainings, scores or shared weights."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from pathlib import Path

from oche.cli.common import choose, part, percent, say_next, take
from oche.core.config.command_line import parse
from oche.core.console import Log
from oche.core.errors import OcheError, did_you_mean, plural
from oche.devices.launch import make_log
from oche.report.format_numbers import format_duration
from oche.spaces import SPACES
from oche.strategies.catalog import STRATEGIES
from oche.strategies.config import StrategyConfig
from oche.strategies.run import StrategyRun, config_of, default_path, make_config, run_strategy, without_result

MAIN = (
    "--strategy", "--evaluate", "--queries", "--budget", "--space", "--table", "--column", "--data", "--recipe",
    "--train.epochs", "--limit", "--seed", "--jobs", "--device", "--out", "--quiet",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StrategyArgs(StrategyConfig):
    out: Path | None = None
    """directory of the search; one that holds its journal is continued; by default the next free one below runs/"""
    quiet: bool = False
    """print warnings only"""


def search_by_strategy(args: list[str]) -> int:
    named, rest = take(args, "strategy", "evaluate", "space", "recipe")
    entry = choose("strategy", name := named["strategy"], STRATEGIES)
    evaluate = named.get("evaluate", "table")
    space = SPACES[named["space"]]() if choose_space(named) else None
    options = {"recipe": named["recipe"]} if "recipe" in named else {}
    planned = make_config(name, evaluate, space, options)
    default = StrategyArgs(**{f.name: getattr(planned, f.name) for f in fields(StrategyConfig)})
    given = parse(
        default, rest, prog="oche search",
        description=f"Find cells by the strategy {name}: {entry.differs} ({entry.paper}). --evaluate says how a cell is scored: "
        "table (accuracies of NAS-Bench-201), train (a training from scratch), shared (a supernet), score:NAME (no training, see "
        "oche list scores). Settings of the strategy are --search options. The journal in OUT is the state of the search: the "
        "same command with --out, or oche resume OUT, continues it.",
        epilog="examples:\n"
        "  oche search --strategy local --table nasbench201.parquet --queries 100\n"
        "  oche search --strategy evolution --evaluate train --data digits --train.epochs 3 --budget 20m --jobs 2\n"
        "  oche search --strategy bananas --evaluate score:naswot --space nb201 --queries 60\n"
        "  oche search --strategy evolution --evaluate shared --data digits --queries 200",
        main=MAIN,
        texts={
            "--strategy": f"strategy, by its name in oche list strategies; sets the defaults of --search options (here: {name})",
            "--space": "search space: nb201, darts or seed (default: nb201 with a table, else darts)",
        },
    )  # fmt: skip
    config = part(given, StrategyConfig)
    out = given.out or default_path(config)
    return _run(config, out, make_log(given.quiet))


def choose_space(named: dict[str, str]) -> bool:
    """Return whether a space is named. Raises `OcheError` for an unknown one, and for an unknown evaluator."""
    found = named.get("evaluate", "table")
    if found not in ("table", "train", "shared") and not found.startswith("score:"):
        hint = did_you_mean(found, ["table", "train", "shared", "score:naswot"])
        raise OcheError(f"unknown --evaluate {found!r}{hint}; use table, train, shared or score:NAME")
    if "space" in named:
        choose("space", named["space"], SPACES)
    return "space" in named


def resume_strategy(path: Path, log: Log) -> int:
    """Continue the search in ``path``."""
    return _run(config_of(path), path, log)


def _run(config: StrategyConfig, out: Path, log: Log) -> int:
    """Search and say what was found. Returns 0 if the search has ended, 1 if it found nothing, 130 if it was interrupted."""
    run = run_strategy(config, out, log)
    if run.found.ended == "interrupted":
        log.warn(f"stopped; everything is saved; go on with: oche resume {out}")
        return 130
    if run.found.best is None:
        raise OcheError(f"{out}: {without_result(run.found)}")
    _say(run, log)
    return 0


def _say(run: StrategyRun, log: Log) -> None:
    summary, path = run.summary, run.path
    assert path is not None
    log.say(f"found: {run.genotype}")
    if "true_acc" in summary:
        log.say(
            f"validation accuracy {percent(summary['score'])} ({summary['column']}), test accuracy "
            f"{percent(summary['true_acc'])} ({summary['true_column']}), {100 * summary['regret']:.2f} below the best cell"
        )
    else:
        shown = percent(summary["score"]) if summary["evaluator"] == "train" else f"{summary['score']:.6g}"
        log.say(f"score: {shown}; {plural(summary['weights'], 'weight')}")
    failed = f", {summary['failures']} failed" if summary["failures"] else ""
    log.say(
        f"{plural(summary['queries'], 'query')} of {plural(summary['distinct'], 'architecture')}{failed}; {_cost(run)}"
    )
    log.say(f"journal: {path / 'journal.jsonl'}")
    genotype = shlex.quote(str(path / "genotype.txt"))
    say_next(log, (f"oche train {genotype}", "its network from scratch"), (f"oche show {genotype}", "the cell"))


def _cost(run: StrategyRun) -> str:
    summary = run.summary
    if summary["unit"] == "seconds":
        return f"{format_duration(summary['cost'])} of evaluation, {format_duration(summary['strategy_seconds'])} of the strategy"
    epochs = summary.get("epochs_stood_for")
    return (
        f"without a table they would take {epochs:,} epochs of training" if epochs else "on test accuracies: an oracle"
    )
