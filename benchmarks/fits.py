"""Measure `oche fit`: the network of a fit against a plain residual network in the same time, and whether plans hold.

    python benchmarks/fits.py hymenoptera digits --seeds 5 --budget 10m
    python benchmarks/fits.py cifar10 --budget 60m --no-control
    python benchmarks/fits.py made-28-10-5000 made-224-2-60 --budget 2m --no-control --seeds 1

made-SIDE-CLASSES-IMAGES is a made set of noise in a colour for each class. It tells whether plans hold, and nothing else.
Every fit is a run below runs/fits/, so the script goes on where it was stopped; finished fits are not done again. It prints a
table, and writes the numbers of every seed to benchmarks/results/fits.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, stdev

import oche
from oche.analysis.paired_tests import PairedComparison, compare_paired
from oche.core.environment import cpu_model
from oche.fitting.planner import holds
from oche.runs.claim import is_run

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"
RESULTS = ROOT / "benchmarks" / "results" / "fits.json"
DATA = {
    "digits": "digits",
    "cifar10": str(SHARED / "cifar10_jpeg.parquet"),
    "hymenoptera": str(ROOT / "runs" / "data" / "hymenoptera_64px"),
}


def data_of(name: str) -> str:
    """Return the path of a set by its name here, or ``name`` itself; the archive of insects is unpacked first."""
    place = DATA.get(name, name)
    if name == "hymenoptera" and not Path(place).exists():
        import tarfile

        with tarfile.open(SHARED / "hymenoptera_64px.tar") as archive:
            archive.extractall(Path(place).parent, filter="data")
    return _made(name) if name.startswith("made-") else place


def _made(name: str) -> str:
    """Return an npz file of noise around a colour for each class, of the size in ``name``: made-SIDE-CLASSES-IMAGES."""
    import numpy as np

    place = ROOT / "runs" / "data" / f"{name}.npz"
    if not place.exists():
        side, classes, count = map(int, name.split("-")[1:])
        rng = np.random.default_rng(0)
        colours = rng.integers(40, 216, (classes, 1, 1, 3))
        labels = np.arange(count) % classes
        images = np.empty((count, side, side, 3), np.uint8)
        for i, label in enumerate(labels):
            images[i] = np.clip(colours[label] + rng.integers(-40, 40, (side, side, 3)), 0, 255)
        place.parent.mkdir(parents=True, exist_ok=True)
        np.savez(place, x=images, y=labels)
    return str(place)


def fit_one(name: str, budget: str, seed: int, options: dict) -> dict:
    """Carry out one fit, or go on with it, and return its numbers."""
    label = "-".join([name, budget, str(seed), *(f"{key}={value}" for key, value in sorted(options.items()))])
    out = ROOT / "runs" / "fits" / label.replace("/", "_")
    if is_run(out):
        run = oche.resume(out, quiet=False)
    else:
        run = oche.fit(data_of(name), budget=budget, seed=seed, out=out, quiet=False, **options)
    plan, summary = json.loads((out / "plan.json").read_text()), run.summary
    train = oche.Run.open(out / "train").summary
    happened = {"step_ms": train["step_ms"], "train_seconds": train["seconds"]}
    predicted = {"step_ms": 1000 * plan["step_seconds"], "train_seconds": plan["train_seconds"]}
    return {
        "data": name, "budget": budget, "seed": seed, "options": options, "decision": plan["decision"],
        "init": plan["init"] is not None,
        "network": [plan["channels"], plan["cells"]], "accuracy": summary["comparisons"]["accuracy"],
        "images": summary["comparisons"]["images"], "controls": summary["comparisons"]["controls"],
        "predicted": predicted, "happened": happened, "holds": all(holds(predicted[k], happened[k]) for k in predicted),
    }  # fmt: skip


def table(rows: list[dict]) -> str:
    """Return the means over seeds, and the paired comparison with the residual network, as Markdown."""
    lines = [
        "| data | budget | n | fit, % | residual, % | difference, points | p | plans that hold |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key in dict.fromkeys((r["data"], r["budget"], json.dumps(r["options"])) for r in rows):
        group = [r for r in rows if (r["data"], r["budget"], json.dumps(r["options"])) == key]
        own = {r["seed"]: 100 * r["accuracy"] for r in group}
        plain = {
            r["seed"]: 100 * r["controls"]["control-residual"]["accuracy"]
            for r in group
            if "control-residual" in r["controls"]
        }
        compared = compare_paired(own, plain)
        paired = (
            ("–", "–")
            if not isinstance(compared, PairedComparison)
            else (f"{compared.difference:+.2f}", f"{compared.p:.2g}")
        )
        lines.append(
            f"| {key[0]} | {key[1]} | {len(own)} | {spread(own.values())} | {spread(plain.values())} "
            f"| {paired[0]} | {paired[1]} | {sum(r['holds'] for r in group)} of {len(group)} |"
        )
    return "\n".join(lines)


def spread(values: Iterable[float], digits: int = 2) -> str:
    """Return mean ± standard deviation, the one value there is, or a dash."""
    found = list(values)
    if not found:
        return "–"
    return f"{mean(found):.{digits}f} ± {stdev(found):.{digits}f}" if len(found) > 1 else f"{found[0]:.{digits}f}"


class Results:
    """The rows of a measurement in a JSON file, which is written after each."""

    def __init__(self, file: Path, title: str, key: tuple[str, ...]) -> None:
        """``key``: the fields by which a row replaces an earlier one."""
        self.file, self.title, self.key = file, title, key
        self.rows: list[dict] = json.loads(file.read_text())[title] if file.exists() else []

    def add(self, row: dict) -> None:
        """Keep ``row`` in place of an earlier one of the same key."""
        self.rows = [r for r in self.rows if any(r[k] != row[k] for k in self.key)] + [row]
        self.file.write_text(json.dumps({"cpu": cpu_model(), self.title: self.rows}, indent=1) + "\n")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help=f"{', '.join(DATA)}, or a path")
    parser.add_argument("--budget", default="10m")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--no-control", action="store_true")
    parser.add_argument("--init", default="auto")
    parser.add_argument("--search", default="auto")
    given = parser.parse_args(argv)
    options = {
        **({"control": False} if given.no_control else {}),
        **({"init": given.init} if given.init != "auto" else {}),
        **({"search": given.search} if given.search != "auto" else {}),
    }
    kept = Results(RESULTS, "fits", ("data", "budget", "seed", "options"))
    for seed in range(given.first, given.first + given.seeds):
        for name in given.data:
            kept.add(fit_one(name, given.budget, seed, options))
    print(table(kept.rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
