"""Measure where the weights that ship with oche help: the same training with them and without, on small sets.

    python benchmarks/warm_starts.py                    all sets, five seeds
    python benchmarks/warm_starts.py digits-100 --seeds 2

Both trainings of a pair have the same network, recipe, seed and number of steps, so they cost the same. Every training is a
run below runs/warm-starts/; finished ones are not done again. It prints a table and writes the numbers of every seed to
benchmarks/results/warm_starts.json.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

from fits import ROOT, Results, data_of, spread

import oche
from oche.analysis.paired_tests import PairedComparison, compare_paired
from oche.fitting.run import TAKEN_LR
from oche.fitting.warm import SHIPPED
from oche.runs.claim import is_run
from oche.runs.warm_start import describe_weights

RESULTS = ROOT / "benchmarks" / "results" / "warm_starts.json"


@dataclass(frozen=True)
class Setting:
    """A set of images: its name here, how many are trained on (None: all), their side (None: as they are), and the steps of a
    training."""

    data: str
    limit: int | None
    size: int | None
    steps: int
    batch: int = 16


SETTINGS = {
    "hymenoptera": Setting("hymenoptera", None, 64, 600),
    "hymenoptera-32px": Setting("hymenoptera", None, 32, 600),
    "hymenoptera-60": Setting("hymenoptera", 60, 32, 300),
    "digits-100": Setting("digits", 100, None, 600),
    "digits-100-32px": Setting("digits", 100, 32, 300),
    "digits": Setting("digits", None, None, 1800),
}


def train_one(name: str, seed: int, warm: bool) -> dict:
    """Carry out one training, or go on with it, and return its numbers."""
    setting, source = SETTINGS[name], describe_weights(SHIPPED)
    assert source is not None
    out = ROOT / "runs" / "warm-starts" / f"{name}-{'warm' if warm else 'anew'}-{seed}"
    if is_run(out):
        run = oche.resume(out)
    else:
        recipe = oche.training.modern(
            channels=source.channels, cells=source.cells, stem=source.stem, batch=setting.batch, steps=setting.steps,
            evaluate=1000, precision="bf16", taken_lr=TAKEN_LR if warm else 1.0,
        )  # fmt: skip
        run = oche.train(
            source.genotype, data_of(setting.data), recipe=recipe, seed=seed, limit=setting.limit, size=setting.size,
            out=out, **({"init": SHIPPED} if warm else {}),
        )  # fmt: skip
    return {"setting": name, "seed": seed, "warm": warm, "accuracy": run.summary["test_acc"], "steps": setting.steps}


def table(rows: list[dict]) -> str:
    """Return a Markdown table: means over seeds with and without the weights, and their paired difference."""
    lines = ["| images | n | anew, % | with the weights, % | difference, points | p |", "|---|---|---|---|---|---|"]
    for name in dict.fromkeys(row["setting"] for row in rows):
        of = {
            warm: {r["seed"]: 100 * r["accuracy"] for r in rows if r["setting"] == name and r["warm"] == warm}
            for warm in (True, False)
        }
        compared = compare_paired(of[True], of[False])
        paired = f"{compared.difference:+.1f} | {compared.p:.2g}" if isinstance(compared, PairedComparison) else "– | –"
        anew, warm = (spread(of[kind].values(), 1) for kind in (False, True))
        lines.append(f"| {name} | {len(of[True])} | {anew} | {warm} | {paired} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", default=[*SETTINGS], help=", ".join(SETTINGS))
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args(argv)
    kept = Results(RESULTS, "trainings", ("setting", "seed", "warm"))
    for name in given.settings:
        for seed in range(given.seeds):
            for warm in (True, False):
                kept.add(train_one(name, seed, warm))
    print(table(kept.rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
