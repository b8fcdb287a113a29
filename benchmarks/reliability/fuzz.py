"""Thousands of bad inputs: each must end in one line and exit code 2 (1 if the system failed), and lose no data.

    python benchmarks/reliability/fuzz.py                   10,000 inputs, some minutes on one core
    python benchmarks/reliability/fuzz.py --only configuration --first 412 --count 1      one of them again

The inputs are command lines, run in this process one after the other. Input number i of a kind follows from (kind, seed, i).
OUT/table.md counts outcomes by kind, OUT/faults.txt has every fault: a traceback, more lines than one, another exit code, a
file that changed, a run that was resumed to another result, more than 20 seconds of computing. The same line continues where it
stopped.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import inputs_changes
import inputs_data
import inputs_folders
import inputs_numbers
import inputs_pixels
import inputs_python
import inputs_runs
import inputs_words
import torch
import tyro
from judge import Outcome, judge
from sound import Sound, make

import oche.report.run_page
from oche.core.atomic_files import write_bytes

# kind: (function that makes an input, share of all inputs)
KINDS = {
    "genotype": (inputs_words.genotype, 200), "nb201": (inputs_words.nb201, 90), "options": (inputs_words.options, 200),
    "commands": (inputs_words.commands, 80), "configuration": (inputs_words.configuration, 200),
    "study": (inputs_words.study, 20), "texts": (inputs_data.texts, 20),
    "tables": (inputs_data.tables, 40), "archives": (inputs_data.archives, 20), "images": (inputs_data.images, 35),
    "layouts": (inputs_folders.layouts, 40), "labels": (inputs_folders.labels, 40),
    "label tables": (inputs_folders.label_tables, 20),
    "changes": (inputs_changes.changes, 40), "measured": (inputs_changes.measured, 40),
    "exported": (inputs_runs.exported, 30), "finished": (inputs_runs.finished, 60),
    "halfway": (inputs_runs.halfway, 10),
    "reported": (inputs_runs.reported, 3),
    "broken": (inputs_numbers.broken, 40), "diverging": (inputs_numbers.diverging, 10), "tensors": (inputs_numbers.tensors, 60),
    "objects": (inputs_python.objects, 80),
    "pixels": (inputs_pixels.pixels, 40), "axes": (inputs_pixels.axes, 40), "ranges": (inputs_pixels.ranges, 40),
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    count: int = 10_000
    """number of inputs in all, or of the kind --only"""
    seed: int = 0
    """seed of all inputs"""
    only: str | None = None
    """only this kind; see KINDS"""
    first: int = 0
    """number of the first input of each kind"""
    out: Path = Path("build/fuzz")
    """folder for the results"""


def one(kind: str, seed: int, number: int, sound: Sound) -> tuple[tuple[str, ...], Outcome]:
    """Run input ``number`` of ``kind``; return its words and its outcome."""
    with tempfile.TemporaryDirectory(prefix="oche-fuzz-") as scratch:
        at, back = Path(scratch) / "a" / "b", Path.cwd()
        at.mkdir(parents=True)
        os.chdir(at)  # relative paths lead here
        try:
            case = KINDS[kind][0](Random(f"{kind} {seed} {number}"), sound, at)
            return case.words, judge(case)
        finally:
            os.chdir(back)


def counts(setting: Setting) -> dict[str, int]:
    if setting.only:
        return {setting.only: setting.count}
    total = sum(share for _, share in KINDS.values())
    return {kind: -(-setting.count * share // total) for kind, (_, share) in KINDS.items()}


def of_kind(kind: str, count: int, setting: Setting, sound: Sound) -> dict[str, Any]:
    """Run the inputs of a kind; return {"seconds", "outcomes": counts, "faults": descriptions}."""
    began, outcomes, faults = time.monotonic(), Counter(), []
    for number in range(setting.first, setting.first + count):
        words, outcome = one(kind, setting.seed, number, sound)
        outcomes[outcome.verdict] += 1
        if outcome.is_fault:
            shown = f"{kind} {number}: {outcome.verdict}: oche {[word[:200] for word in words]}"
            faults.append(f"{shown}\n{outcome.said[-3000:]}\n")
    return {"seconds": time.monotonic() - began, "outcomes": outcomes, "faults": faults}


def main(setting: Setting) -> None:
    torch.set_num_threads(1)
    setting.out.mkdir(parents=True, exist_ok=True)
    drawn, quick = oche.report.run_page.write_report, lambda path: path
    sound, found = Sound((setting.out / "sound").resolve()), {}
    for kind, count in counts(setting).items():
        kept = setting.out / f"{kind}-{setting.seed}-{setting.first}-{count}.json"
        if not kept.exists():
            oche.report.run_page.write_report = quick
            if not sound.exported.exists():  # made last
                shutil.rmtree(sound.root, ignore_errors=True)
                make(sound.root)
            oche.report.run_page.write_report = drawn if kind == "reported" else quick
            write_bytes(kept, json.dumps(of_kind(kind, count, setting, sound)).encode())
        found[kind] = json.loads(kept.read_text())
        print(kind, found[kind]["outcomes"], f"{found[kind]['seconds']:.0f} s", flush=True)
    (setting.out / "table.md").write_text(as_table(found))
    (setting.out / "faults.txt").write_text("\n".join(fault for kind in found.values() for fault in kind["faults"]))
    print((setting.out / "table.md").read_text(), end="")


def as_table(found: dict[str, dict[str, Any]]) -> str:
    verdicts = ["refused", "failed", "taken"]
    verdicts += sorted({verdict for kind in found.values() for verdict in kind["outcomes"]} - {*verdicts})
    rows: list[list[Any]] = [["kind", "inputs", *verdicts, "seconds"], ["---"] * (len(verdicts) + 3)]
    counted = [
        [name, sum(kind["outcomes"].values()), *(kind["outcomes"].get(v, 0) for v in verdicts), round(kind["seconds"])]
        for name, kind in found.items()
    ]
    sums = [sum(column) for column in list(zip(*counted, strict=True))[1:]]
    rows += [*counted, ["all", *sums]]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows) + "\n"


if __name__ == "__main__":
    main(tyro.cli(Setting, description=__doc__))
