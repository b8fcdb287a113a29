"""The demonstration: the bilevel idea on a toy, a cell found on real digits, its network beside random cells, a report.

Every part is a run of its own below one directory, so an interrupted demonstration goes on where it stopped.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import mean, stdev

from oche.api import resume, run_search, run_train
from oche.core import atomic_files as atomic
from oche.core.console import Log
from oche.core.optimizers import Adam, Sgd
from oche.core.seeds import generator
from oche.methods.method import Method
from oche.methods.published import darts
from oche.methods.toy_problem import OPTIMUM, PUBLISHED, experiment
from oche.report.run_page import write_report
from oche.runs.claim import is_run
from oche.runs.config import SearchConfig, TrainConfig
from oche.runs.directory import RunDir
from oche.runs.run import Run
from oche.spaces import ConvSpace
from oche.training.image_recipes import Recipe, small

RANDOM_CELLS = 3


def space() -> ConvSpace:
    """The published space in a small network: 3 cells, two of them halving 8 × 8 digits."""
    return ConvSpace(channels=8, cells=3)


def method() -> Method:
    """DARTS, first order: in the time there is, more steps decide better than a look-ahead. The architecture's rate is raised
    a hundredfold for the same reason: a search of 50 epochs on CIFAR-10 takes a hundred times as many steps."""
    return darts(order=1, epochs=10, batch=64, w=Sgd(lr=0.1, lr_min=0.001), a=Adam(lr=3e-2))


def recipe() -> Recipe:
    """The final networks: the same for the found cell and the random ones."""
    return small(cells=3, epochs=15)


def start(out: Path, seed: int, overwrite: bool, log: Log) -> None:
    """Runs all parts in a new directory ``out``."""
    began = time.monotonic()
    log.say("1/3  a bilevel problem small enough to see: L_train = (w - a)^2, L_val = a w - 2 a + 1")
    config = SearchConfig(data="digits", seed=seed, method="darts", space=space(), search=method())
    toy = experiment()
    log.say(toy_table(toy))
    log.say("2/3  searching for a cell on 1,797 handwritten digits (bilevel, first order)")

    def ready() -> None:
        atomic.write_bytes(out / "demo.json", json.dumps({"seed": seed}).encode())
        _toy_run(out / "toy", toy)

    found = run_search(config, out=out, overwrite=overwrite, log=log, before=ready)
    log.say(f"found: {found.genotype}")
    _networks(found, seed, log)
    log.say(f"\n{time.monotonic() - began:.0f} s in all")


def go_on(out: Path, log: Log) -> None:
    """Finishes an interrupted demonstration."""
    if not (out / "toy" / "toy.json").exists():
        _toy_run(out / "toy", experiment(), overwrite=True)
    found = resume(out, quiet=log.quiet)
    _networks(found, json.loads((out / "demo.json").read_text())["seed"], log)


def _networks(found: Run, seed: int, log: Log) -> None:
    """Trains the found network and random ones, whichever of them are not finished yet."""
    log.say(f"3/3  training its network from scratch, and {RANDOM_CELLS} random cells of the same space the same way")
    cells = {"train": found.genotype}
    for i in range(1, RANDOM_CELLS + 1):
        cells[f"random-{i}"] = found.config.space.random(generator(seed, "random cell", i))
    accuracies = {}
    for name, cell in cells.items():
        out = found.path / name
        config = TrainConfig(data="digits", seed=seed, genotype=str(cell), recipe="small", train=recipe())
        run = resume(out, quiet=log.quiet) if is_run(out) else run_train(config, out=out, overwrite=False, log=log)
        accuracies[name] = run.summary["test_acc"]
        log.say(f"     {name:<9} test accuracy {100 * accuracies[name]:.2f} %, {run.summary['parameters']:,} weights")
    others = [100 * a for name, a in accuracies.items() if name != "train"]
    found_one, spread = 100 * accuracies["train"], f"{mean(others):.2f} ± {stdev(others):.2f}"
    log.say(f"\nfound cell {found_one:.2f} %, random cells {spread} % (n = {len(others)})")
    report = write_report(found.path)
    log.say(f"report: {report}")
    log.say(
        "next:   oche show " + str(found.path) + "                     the cell in your terminal\n"
        "        oche search --data path/to/your/images    one folder of images per class\n"
        "        oche list methods"
    )


def toy_table(toy: dict) -> str:
    """Table 1 of the seed, ours beside it."""
    rows = [f"     {'xi':>5} {'iterations':>11} {'published':>10} {'µs/iteration':>13}   ends at (a, w)"]
    for run in toy["runs"]:
        published = PUBLISHED.get(run["xi"])
        a, w = run["final"]
        rows.append(
            f"     {run['xi']:>5g} {run['iterations']:>11} {published if published else '–':>10} "
            f"{1e6 * run['seconds_per_iteration']:>13.0f}   ({a:.3f}, {w:.3f})"
        )
    return "\n".join([*rows, f"     optimum (a, w) = ({OPTIMUM[0]:g}, {OPTIMUM[1]:g})"])


def toy_in(out: Path, log: Log, xis: tuple[float, ...], overwrite: bool) -> Path:
    """The toy experiment alone, with its picture and report in ``out``."""
    toy = experiment(xis)
    log.say(toy_table(toy))
    _toy_run(out, toy, overwrite)
    report = write_report(out)
    log.say(f"trajectories: {out / 'pictures'}\nreport: {report}")
    return report


def _toy_run(out: Path, toy: dict, overwrite: bool = False) -> None:
    from oche.core.environment import environment

    with RunDir.create(out, "", "toy", overwrite=overwrite) as run:
        run.write_json("environment.json", environment("cpu"))
        run.write_json("toy.json", toy)
        run.set_state("complete")
