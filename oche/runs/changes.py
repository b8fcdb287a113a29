"""What was changed in the config.yaml of a stopped run: what may change, what may not, and why not.

A run keeps its configuration as it began in began.yaml. A checkpoint belongs to that network, those data and those
optimizers, so a resumed run may change only what does not touch them: where it computes, its length, its rates.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from oche.core.config.serialize import to_dict
from oche.core.config.yaml_files import load_yaml
from oche.core.console import Log
from oche.core.errors import OcheError, one_line
from oche.runs.config import SearchConfig, TrainConfig
from oche.runs.membership import MANIFEST, TEXT

BEGAN = "began.yaml"

_WHERE = ("device", "threads", "engine", "checkpoint", "data_dir", "table", "plugins", "sync_bn")
_LENGTH = ("epochs", "steps", "budget", "batch")
_IMAGES = ("pad", "flip", "crop", "augment", "cutout", "mixup", "cutmix", "precision")
_SEARCH = (*_LENGTH, *_IMAGES, "target", "strength", "latencies", "method.penalty", "method.warmup", "method.select",
           "method.finetune_share", "method.on_collapse", "method.hessian_every", "method.eigenvalue_stop")  # fmt: skip
_RATES = ("lr", "lr_min", "schedule", "decay", "clip")  # of an optimizer: no state of its own depends on them
_TRAIN = (
    *_LENGTH,
    *_IMAGES,
    "accumulate",
    "evaluate",
    "label_smoothing",
    "drop_path",
    "lr_batch",
    "bptt",
    "test_batch",
)
ALLOWED = (
    *_WHERE,
    *(f"search.{name}" for name in _SEARCH),
    *(f"search.method.{kind}.{name}" for kind in ("weight_optimizer", "arch_optimizer") for name in _RATES),
    *(f"train.{name}" for name in _TRAIN),
    *(f"train.w.{name}" for name in _RATES),
)

_WHY = {
    "seed": "all random numbers follow from it, the parts of the data too",
    "holdout": "the test part would hold images that were trained on",
    "limit": "other images would train and validate",
    "size": "the network was made for the other size",
    "layout": "images would be read along other axes",
    "damaged": "other images would train and validate",
    "tokens": "the vocabulary would be another",
    "parts": "other images would be tested",
    "data": "a run belongs to its data; train the same cell on others with: oche train RUN --data DATA",
    "search.split": "images would move between training and validation",
    "train.split": "images would move between training and validation",
    "space": "the supernet of the checkpoint has the other space",
    "method": "it only names where the search began; write oche search --method to start another",
    "search.method.arch_optimizer": "the checkpoint holds the state of the other optimizer",
    "search.method.weight_optimizer": "the checkpoint holds the state of the other optimizer",
    "search.method": "the checkpoint was searched by the other method",
    "train.w": "the checkpoint holds the state of the other optimizer",
    "train": "the network of the checkpoint was made by the other recipe",
    "recipe": "it only names where the recipe began",
    "genotype": "the network of the checkpoint has the other cells",
}


def check_changes(path: Path, config: SearchConfig | TrainConfig, log: Log) -> None:
    """Tell what changed in the configuration of the run at ``path`` since it began, and raise `OcheError` for what may not.

    Runs made before began.yaml was kept are not checked.
    """
    if not (path / BEGAN).exists():
        return
    recorded = (path / MANIFEST).exists() or (
        path / TEXT
    ).exists()  # then what they hold is compared when they are read
    found = [*_differences(to_dict(load_yaml(path / BEGAN, type(config)())), to_dict(config))]
    refused = [
        f"{key}: {was} -> {now} ({_reason(key)})"
        for key, was, now in found
        if not (_allowed(key) or (key == "data" and (recorded or _moved(was, now))))
    ]
    if refused:
        kind = "search" if isinstance(config, SearchConfig) else "train"
        raise OcheError(
            f"{path / 'config.yaml'} has changes that a stopped run cannot take: {'; '.join(refused)}. Write the old values "
            f"back (they are in {path / BEGAN}), or start anew: oche {kind} --config {path / 'config.yaml'} --out {path}-2"
        )
    for key, was, now in found:
        log.say(f"changed since the run began: {key}: {was} -> {now}")


def _allowed(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in ALLOWED)


def _moved(was: str, now: str) -> bool:
    """Whether data that were at the path ``was`` are at ``now`` instead; what they hold is compared elsewhere."""
    return os.sep in was and os.sep in now and not os.path.exists(was) and os.path.exists(now)


def _reason(key: str) -> str:
    parts = key.split(".")
    names = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((_WHY[name] for name in names if name in _WHY), "the checkpoint was made with the other value")


def _differences(was: Any, now: Any, at: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (dotted key, old value, new value) for every leaf in which two trees differ."""
    if isinstance(was, dict) and isinstance(now, dict) and was.get("type") == now.get("type"):
        for key in {**was, **now}:
            yield from _differences(was.get(key), now.get(key), f"{at}.{key}" if at else key)
    elif was != now:
        yield at, _show(was), _show(now)


def _show(value: Any) -> str:
    named = value.get("type", value) if isinstance(value, dict) else value
    return one_line(named)
