"""Compare the recipes `modern` and `darts`: the same small network trained with both, for equally many steps on the same batches.

    python benchmarks/recipes.py --data digits cifar10.parquet --steps 250 250 --out runs/recipes --jobs 2

The same line keeps finished runs and makes the missing ones; OUT/table.md is written after each. Test accuracies are those after
the last step. ``--recipes`` takes further variants in `VARIANTS`, each `modern` without one of its parts. ``--split 0.8``
measures on a fifth of the training images instead of the test images; the parts of `modern` were chosen in this way.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

Result = tuple[str, str, int, float, float]  # data, recipe, seed, accuracy, seconds of CPU


@dataclass(frozen=True)
class Setting:
    data: tuple[str, ...] = ("digits",)
    """data sets, as for oche train"""
    steps: tuple[int, ...] = (250,)
    """steps of a training, for each data set"""
    recipes: tuple[str, ...] = ("darts", "modern")
    """recipes to compare"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """seeds of each recipe"""
    genotype: str = "DARTS_V2"
    """genotype of the network"""
    channels: int = 8
    """channels of the network"""
    cells: int = 3
    """cells of the network"""
    batch: int = 32
    """images in a batch"""
    limit: int | None = 5000
    """largest number of training images"""
    split: float = 1.0
    """share of the training images that trains; below 1, the rest is measured instead of the test images"""
    out: Path = Path("runs/recipes")
    """folder for the runs and the table"""
    jobs: int = 1
    """runs at a time, each on one thread"""


def prepared(setting: Setting, data: str) -> str:
    """Return ``data``, or the used images of a file, decoded once; and a description of them."""
    import numpy as np
    import torch

    from oche.data import load

    if not os.path.exists(data):  # a name
        return data
    path = setting.out / f"{Path(data).stem}-{setting.limit or 'all'}.npz"
    if not path.with_suffix(".note").exists():
        found = load(data, limit=setting.limit)
        assert found.test is not None
        arrays = {}
        for name, split in (("train", found.train), ("test", found.test)):
            x, y = split.gather(torch.arange(len(split)))
            arrays |= {f"x_{name}": x.permute(0, 2, 3, 1).numpy(), f"y_{name}": y.numpy()}
        np.savez(path, **arrays)
        path.with_suffix(".note").write_text(found.note)  # the last file of both, so it marks a complete folder
    return str(path)


def variants() -> dict[str, Callable[..., Any]]:
    from oche.training.image_recipes import darts, modern

    return {
        "darts": darts,
        "darts without drop path and tower": lambda **size: darts(drop_path=0.0, auxiliary=0.0, **size),
        "modern": modern,
        **{f"modern {words}": _changed(modern, **fields) for words, fields in parts().items()},
    }


def parts() -> dict[str, dict[str, Any]]:
    """The changes to `modern`: each removes or adds one part."""
    from oche.core.optimizers import Sgd
    from oche.data.augment.policies import TrivialAugment
    from oche.training.image_recipes import modern

    w = modern().w
    return {
        "without one cycle": dict(weight_optimizer=Sgd(lr=w.lr, nesterov=True, decay=w.decay)),
        "without smoothing": dict(label_smoothing=0.0),
        "without ema": dict(ema=0.0),
        "with trivial": dict(augment=TrivialAugment(0.25), cutout=0),
        "with mixup": dict(mixup=0.2),
        "with cutmix": dict(cutmix=1.0, cutout=0),
        "with tower": dict(auxiliary=0.4),
        "with drop path": dict(drop_path=0.2),
    }


def _changed(make: Callable[..., Any], **fields: Any) -> Callable[..., Any]:
    return lambda **size: make(**{**size, **fields})


def one(setting: Setting, data: str, name: str, seed: int) -> Result:
    """One training: started, continued, or taken as it is."""
    import oche

    steps = setting.steps[setting.data.index(data)]
    path = setting.out / f"{Path(data).stem}-{name.replace(' ', '-')}-{steps}-{seed}"
    begun = time.process_time()
    if (path / "status.json").exists():
        run = oche.Run.open(path)
        run = run if run.state == "complete" else oche.resume(path, quiet=True)
    else:
        recipe = variants()[name](
            channels=setting.channels, cells=setting.cells, batch=setting.batch, steps=steps, split=setting.split,
            evaluate=10**6,
        )  # fmt: skip
        run = oche.train(
            setting.genotype, data=prepared(setting, data), recipe=recipe, out=path, limit=setting.limit, seed=seed,
            threads=1, quiet=True,
        )  # fmt: skip
    cost, file = time.process_time() - begun, path / "cpu_seconds.txt"
    if not file.exists():
        file.write_text(f"{cost:.1f}")
    accuracy = run.summary["test_acc" if setting.split == 1 else "val_acc"]
    return data, name, seed, accuracy, float(file.read_text())


def table(setting: Setting, results: list[Result]) -> str:
    from oche.core.environment import describe_environment

    e = describe_environment("cpu")
    part = "Test" if setting.split == 1 else f"Validation (a share of {1 - setting.split:.2g} of the training images)"
    lines = [
        "# `modern` against `darts` at equal steps",
        "",
        f"{time.strftime('%Y-%m-%d')}, commit {str(e['commit'])[:12]}, torch {e['torch']}, {e['cpu']}, one thread a run, "
        f"{setting.jobs} at a time. {setting.genotype}, C = {setting.channels}, {setting.cells} cells, batch {setting.batch}, "
        f"{setting.limit or 'all'} training images at most. {part} accuracy in % after the last step, mean ± sample standard "
        f"deviation over seeds {', '.join(map(str, setting.seeds))}.",
    ]
    for data, steps in zip(setting.data, setting.steps, strict=True):
        lines += [
            "", f"## {Path(data).stem}, {steps} steps", "", *_note(setting, data),
            "| recipe | accuracy | each seed | n | CPU seconds a run |", "| --- | --- | --- | --- | --- |",
        ]  # fmt: skip
        for name in setting.recipes:
            mine = sorted(r for r in results if r[:2] == (data, name))
            if mine:
                acc = [100 * r[3] for r in mine]
                sd = f" ± {statistics.stdev(acc):.2f}" if len(acc) > 1 else ""
                each = ", ".join(f"{a:.2f}" for a in acc)
                cost = statistics.fmean(r[4] for r in mine)
                lines.append(f"| {name} | {statistics.fmean(acc):.2f}{sd} | {each} | {len(acc)} | {cost:.0f} |")
    return "\n".join([*lines, ""])


def _note(setting: Setting, data: str) -> list[str]:
    file = Path(prepared(setting, data)).with_suffix(".note")
    text = file.read_text() if file.exists() else ""
    return [f"{text[0].upper()}{text[1:]}.", ""] if text else []


def main(setting: Setting) -> None:
    if len(setting.steps) != len(setting.data):
        raise SystemExit(f"steps={setting.steps} for data={setting.data}; give as many of each")
    if unknown := set(setting.recipes) - set(variants()):
        raise SystemExit(f"no recipe {', '.join(sorted(unknown))}; there are {', '.join(variants())}")
    os.environ.update(OMP_NUM_THREADS="1")
    setting.out.mkdir(parents=True, exist_ok=True)
    for data in setting.data:
        prepared(setting, data)
    work = [(d, r, s) for s in setting.seeds for d in setting.data for r in setting.recipes]
    results: list[Result] = []
    with ProcessPoolExecutor(setting.jobs) as pool:
        for done in as_completed([pool.submit(one, setting, *w) for w in work]):
            results.append(done.describe_outcome())
            print(*results[-1], flush=True)
            (setting.out / "table.md").write_text(table(setting, results))


if __name__ == "__main__":
    main(tyro.cli(Setting, description=__doc__))
