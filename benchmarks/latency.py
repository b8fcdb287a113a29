"""Compare the time of whole networks with two predictions: the sum of the times of their operations, and the latency that a
search's penalty uses, which is that sum times a factor measured on three other networks.

    python benchmarks/latency.py --cells 12 --out latency.md

For random cells of two spaces, every operation is measured alone and every network as a whole, on one CPU thread with batch 1.
Time is that of the process (`time.process_time`), so other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from scipy.stats import spearmanr

import oche
from oche.core import atomic_files as atomic
from oche.cost import module_cost as clock
from oche.cost.breakdown import final_network
from oche.cost.expected_cost import COUNTS, cost_model
from oche.cost.latency_table import LatencyTable, describe_hardware, latency_model, measure_latency
from oche.devices.engine import Engine
from oche.spaces import SPACES
from oche.training.recipes import space_at_recipe_size

SPACES_AND_RECIPES = (("nb201", "nb201"), ("darts", "small"))


def row(space_name: str, recipe: str, cells: int, engine: Engine) -> str:
    """A row of the table: predictions against measurements over random cells."""
    space = space_at_recipe_size(SPACES[space_name](), recipe)
    table = LatencyTable.fresh(engine)
    by_time, plain = latency_model(space, table), cost_model(space, table)
    by_count = cost_model(space, COUNTS["flops"])
    sums, scaled, wholes, counts = [], [], [], []
    for i in range(cells):
        cell = space.random(torch.Generator().manual_seed(i))
        wholes.append(measure_latency(final_network(space, cell), torch.zeros(1, 3, *space.image), engine).median)
        sums.append(plain.of(cell))
        scaled.append(by_time.of(cell))
        counts.append(by_count.of(cell))
    times = f"{min(wholes):.2f}–{max(wholes):.2f} | {ratio(wholes, sums)} | {ratio(wholes, scaled)}"
    ranks = f"{spearmanr(sums, wholes)[0]:.2f} | {spearmanr(counts, wholes)[0]:.2f}"
    return f"| {space_name}, recipe {recipe} | {times} | {ranks} | {cells} |"


def ratio(wholes: Sequence[float], told: Sequence[float]) -> str:
    """Median and range of measured time divided by predicted time."""
    each = sorted(w / t for w, t in zip(wholes, told, strict=True))
    return f"{statistics.median(each):.2f} ({each[0]:.2f}–{each[-1]:.2f})"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cells", type=int, default=12, help="random cells of each space")
    parser.add_argument("--out", type=Path, default=Path("latency.md"), help="file for the table")
    given = parser.parse_args(words)
    clock.perf_counter = time.process_time
    engine = Engine("cpu", 1)
    about = describe_hardware(engine)
    lines = [
        "# The time of a network and the sum of the times of its parts",
        "",
        f"{about['time'][:10]}, {about['hardware']}, one thread, torch {about['torch']}, oche {oche.__version__}, batch 1, "
        "32 x 32, plain modules in channels_last. Processor time, medians.",
        "",
        "| networks | ms of a whole one | over the sum: median (range) | over the price | ranks: with price | with FLOPs | n |",
        "|---|---|---|---|---|---|---|",
        *(row(space, recipe, given.cells, engine) for space, recipe in SPACES_AND_RECIPES),
    ]
    atomic.write_bytes(given.out, "\n".join([*lines, ""]).encode())
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
