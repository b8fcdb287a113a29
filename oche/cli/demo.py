"""The demonstration: `oche toy` and `oche demo`.

The demonstration solves a bilevel toy problem, searches for a cell on handwritten digits, trains its network beside random
cells, and writes a report. Every part is a run of its own below one directory, so that `oche resume` can continue it.
"""

from __future__ import annotations

import json
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from oche.api import resume, run_search, run_train
from oche.cli.common import reached, say_next, simple
from oche.core.atomic_files import write_bytes
from oche.core.console import Log
from oche.core.environment import describe_environment
from oche.core.errors import plural
from oche.core.optimizers import Adam, Sgd
from oche.core.seeds import generator
from oche.methods.published import darts
from oche.methods.recipe import SearchRecipe
from oche.methods.toy_problem import OPTIMUM, PUBLISHED, experiment
from oche.report import run_page
from oche.runs.claim import is_run
from oche.runs.config import SearchConfig, TrainConfig
from oche.runs.directory import RunDir
from oche.runs.resolve import next_free_path
from oche.runs.run import Run
from oche.spaces import ConvSpace
from oche.training.image_recipes import Recipe, small

RANDOM_CELLS = 3


def space() -> ConvSpace:
    """The published space with a small network of 3 cells; two of them halve the 8 × 8 digits."""
    return ConvSpace(channels=8, cells=3)


def method() -> SearchRecipe:
    """First-order DARTS: in so short a time, more steps decide better than a look-ahead.

    The learning rate of the architecture is a hundred times the published one, because a search of 50 epochs on CIFAR-10
    takes a hundred times as many steps.
    """
    return darts(order=1, epochs=10, batch=64, weight_optimizer=Sgd(lr=0.1, lr_min=0.001), arch_optimizer=Adam(lr=3e-2))


def recipe() -> Recipe:
    """The training of the final networks, the same for the found cell and the random ones."""
    return small(cells=3, epochs=15)


def run_demo(out: Path, seed: int, overwrite: bool, log: Log) -> None:
    """Run all parts in a new directory ``out``."""
    began = time.monotonic()
    log.say("1/3  a bilevel toy problem: L_train = (w - a)^2, L_val = a w - 2 a + 1")
    config = SearchConfig(data="digits", seed=seed, method="darts", space=space(), search=method())
    toy = experiment()
    log.say(toy_table(toy))
    log.say("2/3  searching for a cell on 1,797 handwritten digits (bilevel, first order)")

    def ready() -> None:
        write_bytes(out / "demo.json", json.dumps({"seed": seed}).encode())
        _toy_run(out / "toy", toy)

    found = run_search(config, out=out, overwrite=overwrite, log=log, before=ready)
    log.say(f"found: {found.genotype}")
    _networks(found, seed, log)
    log.say(f"\n{time.monotonic() - began:.0f} s in all")


def resume_demo(out: Path, log: Log) -> None:
    """Finish an interrupted demonstration."""
    if not (out / "toy" / "toy.json").exists():
        _toy_run(out / "toy", experiment(), overwrite=True)
    found = resume(out, quiet=log.quiet)
    _networks(found, json.loads((out / "demo.json").read_text())["seed"], log)


def _networks(found: Run, seed: int, log: Log) -> None:
    """Train the networks of the found cell and of random cells, as far as they are not finished."""
    log.say(
        f"3/3  training its network from scratch, and those of {RANDOM_CELLS} random cells of the space in the same way"
    )
    cells = {"train": found.genotype}
    for i in range(1, RANDOM_CELLS + 1):
        cells[f"random-{i}"] = found.config.space.random(generator(seed, "random cell", i))
    accuracies = {}
    for name, cell in cells.items():
        out = found.path / name
        config = TrainConfig(data="digits", seed=seed, genotype=str(cell), recipe="small", train=recipe())
        run = (
            resume(out, quiet=log.quiet)
            if is_run(out)
            else run_train(config, out=out, overwrite=False, log=log, refresh=False)
        )
        accuracies[name] = run.summary["test_acc"]
        log.say(f"     {name:<9} {reached(run.summary)}, {plural(run.summary['parameters'], 'weight')}")
    others = [100 * a for name, a in accuracies.items() if name != "train"]
    found_one, spread = 100 * accuracies["train"], f"{mean(others):.2f} ± {stdev(others):.2f}"
    log.say(f"\nfound cell {found_one:.2f} %, random cells {spread} % (n = {len(others)})")
    report = run_page.write_report(found.path)
    log.say(f"report: {report}")
    where = shlex.quote(str(found.path))
    say_next(
        log,
        (f"oche show {where} --out {where}/pictures", "the cell in your terminal"),
        ("oche search --data YOUR/IMAGES", "one folder of images per class"),
        ("oche list methods", "the methods, with their papers"),
    )  # fmt: skip


def toy_table(toy: dict) -> str:
    """The iterations beside those of Table 1 in the seed paper."""
    rows = [f"     {'xi':>5} {'iterations':>11} {'published':>10} {'µs/iteration':>13}   ends at (a, w)"]
    for run in toy["runs"]:
        published = PUBLISHED.get(run["xi"])
        a, w = run["final"]
        rows.append(
            f"     {run['xi']:>5g} {run['iterations']:>11} {published if published else '–':>10} "
            f"{1e6 * run['seconds_per_iteration']:>13.0f}   ({a:.3f}, {w:.3f})"
        )
    return "\n".join([*rows, f"     optimum (a, w) = ({OPTIMUM[0]:g}, {OPTIMUM[1]:g})"])


def run_toy(out: Path, log: Log, xis: tuple[float, ...], overwrite: bool) -> Path:
    """Run the toy problem alone; write its picture and report to ``out``."""
    toy = experiment(xis)
    log.say(toy_table(toy))
    _toy_run(out, toy, overwrite)
    report = run_page.write_report(out)
    log.say(f"trajectories: {out / 'pictures'}\nreport: {report}")
    say_next(log, ("oche demo", "a search on handwritten digits, in three minutes"))
    return report


def _toy_run(out: Path, toy: dict, overwrite: bool = False) -> None:
    with RunDir.create(out, "", "toy", overwrite=overwrite) as run:
        run.write_json("environment.json", describe_environment("cpu"))
        run.write_json("toy.json", toy)
        run.set_state("complete")


# --- commands ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ToyArgs:
    out: Path | None = None
    """folder for the picture and the report; by default the next free runs/toy"""
    xi: tuple[float, ...] = (0.0, 0.3, 0.5, 0.7)
    """look-ahead step sizes to try; 0: first order"""
    overwrite: bool = False
    """move an existing run at that path aside"""
    quiet: bool = False
    """print warnings only"""


def toy(args: list[str]) -> int:
    given = simple(
        ToyArgs, args, "toy",
        "Solve min over a of L_val(w*(a), a) with L_train = (w - a)^2, L_val = a w - 2 a + 1 "
        "(the seed paper's Table 1 and Figure 2).",
        "oche toy\n  oche toy --xi 0 0.5 1.0 --out runs/my-toy",
    )  # fmt: skip
    run_toy(given.out or next_free_path(Path("runs/toy")), Log(quiet=given.quiet), given.xi, given.overwrite)
    return 0


@dataclass(frozen=True)
class DemoArgs:
    out: Path | None = None
    """run directory; by default the next free runs/demo"""
    seed: int = 0
    """seed of all random numbers"""
    overwrite: bool = False
    """move an existing run at that path aside"""
    quiet: bool = False
    """print warnings only"""


def demo(args: list[str]) -> int:
    given = simple(
        DemoArgs, args, "demo",
        "Solve the toy problem, search on the 1,797 handwritten digits of scikit-learn, train the found network beside those of "
        "three random cells, write a report. Downloads nothing; takes about three minutes on two cores.",
        "oche demo\n  oche demo --seed 1 --out runs/demo-1",
    )  # fmt: skip
    run_demo(given.out or next_free_path(Path("runs/demo")), given.seed, given.overwrite, Log(quiet=given.quiet))
    return 0
