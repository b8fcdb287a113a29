"""Strategies on a table of NAS-Bench-201 over many seeds, beside the gradient methods of a comparison.

    python benchmarks/blackbox.py --table nasbench201.parquet [--compare runs/compare] [--epoch-seconds 2.5] [--seeds 500]

The table that it prints has the test accuracy after 200 epochs of the best cell by validation accuracy after 12 epochs, mean ±
sample standard deviation over seeds. The closed form of random search is the control. A query of the table costs nothing, and
stands for 12 epochs of training of one network. With ``--epoch-seconds``, the measured seconds of one epoch of one cell on this
machine, that cost is shown in hours and marked as estimated. ``--compare`` adds the methods of `oche compare`, with the seconds
that their searches took.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections import defaultdict
from pathlib import Path

from oche.core.nasbench201 import Table
from oche.strategies import (
    AgeingEvolution,
    Bananas,
    LocalSearch,
    PredictorGuided,
    RandomSearch,
    Reinforce,
    Strategy,
)
from oche.strategies.table_runs import TableRuns

QUERIES = (50, 100, 200, 500)
EPOCHS = 12  # of the column that is searched

# name: (settings, share of the seeds, most queries); strategies that fit models get fewer seeds
STRATEGIES: dict[str, tuple[Strategy, float, int]] = {
    "random": (RandomSearch(), 1.0, 500),
    "evolution, P 10 S 3": (AgeingEvolution(10, 3), 1.0, 500),
    "evolution, P 10 S 10": (AgeingEvolution(10, 10), 1.0, 500),
    "evolution, P 30 S 10": (AgeingEvolution(30, 10), 1.0, 500),
    "evolution, P 100 S 25": (AgeingEvolution(100, 25), 1.0, 500),
    "evolution, P 10 S 3, drops the worst": (AgeingEvolution(10, 3, "worst"), 1.0, 500),
    "local, best of 10": (LocalSearch(10), 1.0, 500),
    "local, 1 start": (LocalSearch(1), 1.0, 500),
    "local, best of 10, first improvement": (LocalSearch(10, "first"), 1.0, 500),
    "REINFORCE, Adam 0.01": (Reinforce(0.01, correct_bias=False), 1.0, 500),
    "REINFORCE, Adam 0.1": (Reinforce(0.1, correct_bias=False), 1.0, 500),
    "REINFORCE, Adam 0.01, corrected average": (Reinforce(0.01), 1.0, 500),
    "BANANAS, forest": (Bananas(), 0.1, 200),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True, help="Parquet file of NAS-Bench-201")
    parser.add_argument("--data", default="cifar10", choices=("cifar10", "cifar100", "imagenet16"))
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--only", nargs="*", default=(), help="strategies whose names begin so")
    parser.add_argument("--compare", type=Path, help="directory of oche compare")
    parser.add_argument("--epoch-seconds", type=float, help="measured seconds of one epoch of training of one cell")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    given = parser.parse_args()
    runs = TableRuns(Table(given.table), f"{given.data}_valid_12ep")
    lines = [
        f"| search on {given.data}_valid_12ep | seeds | {' | '.join(f'{n} queries' for n in QUERIES)} | best | seconds |"
    ]
    lines += ["|---|---|" + "---|" * (len(QUERIES) + 2), closed_form(runs)]
    for name, (strategy, share, most) in STRATEGIES.items():
        if not given.only or name.startswith(tuple(given.only)):
            lines.append(row(runs, name, strategy, range(max(2, round(share * given.seeds))), most))
            print(lines[-1], flush=True)
    if not given.only or "predictor" in given.only:
        lines.append(predictor_row(runs, range(max(2, round(0.1 * given.seeds)))))
    lines += ["", cost(given.epoch_seconds)]
    if given.compare:
        lines += ["", *compared(given.compare)]
    text = "\n".join(lines) + "\n"
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")


def closed_form(runs: TableRuns) -> str:
    cells = [f"{m.mean:.2f} ± {m.sd:.2f}" for m in map(runs.random, QUERIES)]
    return f"| random, closed form | – | {' | '.join(cells)} | – | – |"


def row(runs: TableRuns, name: str, strategy: Strategy, seeds: range, most: int) -> str:
    """A row of the table, for the numbers of queries up to ``most``."""
    began = time.perf_counter()
    curve = runs.curve(strategy, seeds, [n for n in QUERIES if n <= most])
    moments = {n: curve.moments(n) for n in curve.queries}
    cells = [f"{moments[n].mean:.2f} ± {moments[n].sd:.2f}" if n in moments else "–" for n in QUERIES]
    seconds = time.perf_counter() - began
    return f"| {name} | {len(seeds)} | {' | '.join(cells)} | {100 * curve.best:.0f} % | {seconds:.1f} |"


def predictor_row(runs: TableRuns, seeds: range) -> str:
    """The predictor is another search for each number of queries."""
    cells, began = [], time.perf_counter()
    for n in QUERIES:
        m = runs.curve(PredictorGuided(), seeds, [n]).moments(n)
        cells.append(f"{m.mean:.2f} ± {m.sd:.2f}")
    return f"| predictor, forest | {len(seeds)} | {' | '.join(cells)} | – | {time.perf_counter() - began:.1f} |"


def cost(seconds: float | None) -> str:
    """What the queries cost without a table."""
    parts = []
    for n in QUERIES:
        hours = "" if seconds is None else f" ({n * EPOCHS * seconds / 3600:.1f} h, estimated)"
        parts.append(f"{n} queries {n * EPOCHS:,} epochs{hours}")
    return f"Without a table, one training at a time, it takes: {', '.join(parts)}. The last column is the time of all runs."


def compared(folder: Path) -> list[str]:
    """Rows of the methods of a comparison: true accuracy, and the seconds of their searches."""
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    with (folder / "table.csv").open(newline="") as file:
        for trial in csv.DictReader(file):
            if trial.get("true_acc"):
                found[trial["method"]].append(trial)
    lines = ["| gradient method | seeds | test accuracy | seconds of a search, measured |", "|---|---|---|---|"]
    for method, trials in found.items():
        values = [100 * float(trial["true_acc"]) for trial in trials]
        spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        seconds = statistics.fmean(float(trial["seconds"]) for trial in trials)
        lines.append(f"| {method} | {len(values)} | {statistics.fmean(values):.2f}{spread} | {seconds:.0f} |")
    return lines


if __name__ == "__main__":
    main()
