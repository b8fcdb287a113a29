"""The data of runs: of a new one, of one that goes on or is measured, and of one that must keep the parts of another."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from oche.core.atomic_files import read_json
from oche.core.config.serialize import from_dict
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.data import DATASETS, TEXTS, load
from oche.data.drawing import draw
from oche.data.loading import load_ids, load_parts
from oche.data.manifest import is_same_data
from oche.data.parts import adopt, recorded
from oche.data.pixel_range import AS_BEFORE, PixelRange
from oche.data.text.corpus import Corpus, load_text
from oche.data.text.files import is_text
from oche.runs.config import Common, SearchConfig, TrainConfig
from oche.runs.membership import Earlier, check_text, text_changes
from oche.runs.run import DATA, Run


def load_data(config: Common, log: Log) -> Any:
    """Return the data that ``config`` names, divided as for a new run: a `Dataset`, or a `Corpus` for text."""
    if is_text(config.data):
        return _load_text(config, log)
    return load(
        config.data, data_dir=config.data_dir, holdout=config.holdout, limit=config.limit, size=config.size,
        damaged=config.damaged, layout=config.layout, seed=config.seed, progress=not log.quiet,
    )  # fmt: skip


def load_recorded(
    config: SearchConfig | TrainConfig, log: Log, earlier: Earlier, command: str, size: int | None = None
) -> Any:
    """Return the data of a run, divided as the run recorded in ``earlier``. Tells what is new, gone or changed.

    ``command``: that of the command line which needs the data, for messages. ``size``: a side other than that of the run.
    Raises `OcheError` if the data are gone, or others.
    """
    check_there(config, earlier.path, command)
    if is_text(config.data):
        corpus = _load_text(config, log)
        check_text(earlier, corpus, config, log, all_parts=command == "resume")
        return corpus
    manifest, side = earlier.manifest, config.size if size is None else size
    square = None if side is None else (side, side)
    if manifest is None:
        choose = partial(draw, holdout=config.holdout, limit=config.limit, seed=config.seed)
    else:
        choose = partial(recorded, manifest=manifest, where=str(earlier.path))
        height, width = manifest.facts["image"]
        square = square if size is not None else (height, width)
    data = load_parts(
        config.data, choose, data_dir=config.data_dir, size=square, skip=config.damaged == "skip", show=not log.quiet,
        identified=manifest is not None or (command == "resume" and not earlier.begun), layout=config.layout,
        pixels=None if manifest is not None or not earlier.begun else recorded_pixels(earlier.path),
        **({"advice": ""} if command == "resume" else {}),
    )  # fmt: skip
    if data.changes and (command != "resume" or log.quiet):  # a run that goes on tells all notes about its data
        log.warn(data.changes)
    return data


def load_adopted(config: SearchConfig | TrainConfig, log: Log, earlier: Earlier) -> Any:
    """Return the data of a new run whose test images must be those of ``earlier``, see `oche.data.parts.adopt`."""
    check_there(config, earlier.path, "train")
    if is_text(config.data):
        corpus = _load_text(config, log)
        check_text(earlier, corpus, config, log, all_parts=False)
        return corpus
    drawn = {"holdout": config.holdout, "limit": config.limit, "seed": config.seed}
    if earlier.manifest is None:  # of an earlier version: by position, as it drew its own
        choose = partial(draw, **drawn)
    else:
        choose = partial(adopt, manifest=earlier.manifest, where=str(earlier.path), **drawn)
    data = load_parts(
        config.data, choose, data_dir=config.data_dir, size=None if config.size is None else (config.size, config.size),
        skip=config.damaged == "skip", show=not log.quiet, identified=earlier.manifest is not None, layout=config.layout,
    )  # fmt: skip
    if data.changes and log.quiet:  # a run tells all notes about its data
        log.warn(data.changes)
    return data


def is_data_of(
    run: Run, earlier: Earlier, place: str, data_dir: Path | None, log: Log, damaged: str | None = None
) -> bool:
    """Tell whether the data at ``place`` are those of ``run``, somewhere else: the same images, or the same text.

    Data that cannot be read are not; the caller's own reading says why. ``damaged``: as in a configuration; None: as the run.
    """
    config = run.config
    try:
        if is_text(place):
            moved = replace(config, data=place, data_dir=data_dir)
            return earlier.text is not None and not text_changes(
                earlier.text, _load_text(moved, Log(quiet=True)), moved
            )
        if earlier.manifest is None or (place in DATASETS and place != config.data):
            return False
        ids = load_ids(place, data_dir, (damaged or config.damaged) == "skip", not log.quiet, config.layout)
        return is_same_data(earlier.manifest, ids)
    except OcheError:
        return False


def recorded_pixels(path: Path) -> PixelRange:
    """Return the pixel values that the run at ``path`` recorded in space.json; for earlier versions `AS_BEFORE`."""
    found = read_json(path / "space.json").get("pixels")
    return AS_BEFORE if found is None else from_dict(PixelRange, found, f"{path / 'space.json'}: pixels")


def check_there(config: Common, path: Path | None, command: str) -> None:
    """Raise `OcheError` if the data of a run are no longer where they were. ``path``: the run, for the message."""
    data = config.data
    if data in (*DATASETS, *TEXTS) or data.startswith("hf:") or os.path.exists(os.path.expanduser(data)):
        return
    if path is None or not os.path.isabs(data):
        return
    takes = command in ("resume", "evaluate", "export", "train")
    way = f"name their new place: oche {command} {path} --data PLACE" if takes else "put them back there"
    if Path(data).parent.name == DATA:
        way += f"; or hand them over again in Python: oche.resume({str(path)!r}, data=...)"
    raise OcheError(f"the data of {path} are gone from {data}; {way}")


def _load_text(config: Common, log: Log) -> Corpus:
    return load_text(
        config.data, tokens=config.tokens, data_dir=config.data_dir, holdout=config.holdout, limit=config.limit,
        progress=not log.quiet,
    )  # fmt: skip
