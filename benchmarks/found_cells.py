"""Compare methods on data without a table: short searches in the DARTS space, and trainings of the found cells from scratch.

    python benchmarks/found_cells.py --data digits cifar10.parquet --out runs/found --jobs 2

Every found cell, and as many random ones, is trained in the same way on a part of the training set. Test accuracies are those
after the last epoch. The same line keeps finished runs and makes the missing ones; OUT/table.md is written after each. Sizes are
small on purpose: they serve to compare methods, not to reach high accuracies.
"""

from __future__ import annotations

import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

RANDOM = "a random cell"


@dataclass(frozen=True)
class Setting:
    data: tuple[str, ...] = ("digits",)
    """data sets, as for oche search"""
    methods: tuple[str, ...] = ("darts", "sdarts-rs", "beta-darts", "gaea", "pc-darts")
    """names from oche list methods"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """seeds of each method"""
    out: Path = Path("runs/found")
    """folder for the runs and the table"""
    limit: int | None = 5000
    """number of training images"""
    search_steps: int = 300
    """steps of each search"""
    train_steps: int = 600
    """steps of each training"""
    channels: int = 8
    """channels of supernets and final networks"""
    cells: int = 3
    """cells of supernets and final networks"""
    batch: int = 32
    """images in a batch"""
    jobs: int = 1
    """runs at a time, each on one thread"""


def one(setting: Setting, data: str, method: str, seed: int) -> tuple[str, str, int, float, float]:
    """(data, method, seed, test accuracy, share of skip connections in the normal cell) of one cell, found and trained."""
    import oche
    from oche.core.optimizers import Adam
    from oche.core.seeds import generator
    from oche.methods.catalog import METHODS

    where = setting.out / f"{Path(data).stem}-{method.replace(' ', '-')}-{seed}"
    space = oche.spaces.darts(channels=setting.channels, cells=setting.cells)
    common: dict[str, Any] = dict(limit=setting.limit, seed=seed, threads=1, quiet=True)

    def run(name: str, make) -> oche.Run:
        path = where / name
        if (path / "status.json").exists():
            found = oche.Run.open(path)
            return found if found.state == "complete" else oche.resume(path, quiet=True)
        return make(path)

    if method == RANDOM:
        genotype = space.random(generator(seed, "random cell"))
    else:
        made = METHODS[method].make(steps=setting.search_steps, batch=setting.batch)
        if isinstance(
            made.a, Adam
        ):  # in a short search the learning rate of the architecture is higher, in proportion to the missing steps
            made = METHODS[method].make(steps=setting.search_steps, batch=setting.batch, a=_faster(made.a))
        found = run("search", lambda path: oche.search(data, space=space, method=made, out=path, **common))
        genotype = found.genotype
    recipe = oche.training.small(
        channels=setting.channels, cells=setting.cells, steps=setting.train_steps, batch=setting.batch, evaluate=1000
    )
    trained = run("train", lambda path: oche.train(genotype, data=data, recipe=recipe, out=path, **common))
    normal = genotype.cells["normal"]
    return data, method, seed, trained.summary["test_acc"], normal.share("skip_connect")


def _faster(adam):
    from dataclasses import replace

    return replace(adam, lr=10 * adam.lr)


def table(setting: Setting, results: list[tuple[str, str, int, float, float]]) -> str:
    from oche.core.environment import describe_environment

    e = describe_environment("cpu")
    lines = [
        "# Cells found by short searches in the DARTS space, trained from scratch",
        "",
        f"{time.strftime('%Y-%m-%d')}, commit {str(e['commit'])[:12]}, torch {e['torch']}, {e['cpu']}, one thread a run, "
        f"{setting.jobs} at a time. C = {setting.channels}, {setting.cells} cells, {setting.limit or 'all'} training images at "
        f"most, batch {setting.batch}, searches of {setting.search_steps} steps with ten times the published rate of the "
        f"architecture (Adam), trainings of {setting.train_steps} steps (recipe `small`). Test accuracy in %, mean ± sample "
        f"standard deviation over seeds {', '.join(map(str, setting.seeds))}; share of skip connections in the normal cell.",
    ]
    for data in setting.data:
        rows = []
        for method in (*setting.methods, RANDOM):
            mine = [r for r in results if r[:2] == (data, method)]
            if mine:
                acc = [100 * r[3] for r in mine]
                sd = f" ± {statistics.stdev(acc):.2f}" if len(acc) > 1 else ""
                share = "–" if method == RANDOM else f"{statistics.fmean(r[4] for r in mine):.2f}"
                mean = statistics.fmean(acc)
                rows.append((mean, f"| {method} | {mean:.2f}{sd} | {min(acc):.2f} | {len(acc)} | {share} |"))
        lines += [
            "",
            f"## {Path(data).stem}",
            "",
            "| method | test accuracy | worst | n | skips |",
            "| --- | --- | --- | --- | --- |",
        ]
        lines += [row for _, row in sorted(rows, reverse=True)]
    return "\n".join([*lines, ""])


def main(setting: Setting) -> None:
    os.environ.update(OMP_NUM_THREADS="1")
    setting.out.mkdir(parents=True, exist_ok=True)
    work = [(d, m, s) for s in setting.seeds for d in setting.data for m in (*setting.methods, RANDOM)]
    results = []
    with ProcessPoolExecutor(setting.jobs) as pool:
        for done in as_completed([pool.submit(one, setting, *w) for w in work]):
            results.append(done.describe_outcome())
            print(*results[-1], flush=True)
            (setting.out / "table.md").write_text(table(setting, results))


if __name__ == "__main__":
    main(tyro.cli(Setting, description=__doc__))
