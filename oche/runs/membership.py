"""The record of a run's data: which images, or what text, train, validate and test.

It is written as a run begins (manifest.safetensors for images, manifest.json for text). Everything that uses the data of the
run later takes the parts from it: resuming, measuring, exporting, and the training of a found cell.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oche.core.atomic_files import read_json
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.data import Corpus, Dataset
from oche.data.batching import first_half
from oche.data.manifest import Manifest
from oche.devices.process_group import ProcessGroup
from oche.runs.checkpoint import from_bytes, latest_step, load_weights, to_bytes, weights_metadata
from oche.runs.claim import is_run
from oche.runs.config import SearchConfig, TrainConfig
from oche.runs.directory import RunDir
from oche.training.image_recipes import Recipe

MANIFEST, TEXT = "manifest.safetensors", "manifest.json"
ENVIRONMENT, MARK = "environment.json", "manifest"  # a key of that file says that a manifest was written


@dataclass(frozen=True)
class Earlier:
    """What a run recorded of its data. Runs of earlier versions recorded nothing."""

    path: Path
    manifest: Manifest | None = None
    text: dict[str, Any] | None = None
    begun: bool = True
    """whether the run has done anything; if not, its parts may still be drawn"""

    @classmethod
    def read(cls, path: Path, log: Log) -> Earlier:
        """Read the record of the run at ``path``. Warns if it is lost. Raises `OcheError` if it is damaged."""
        file, text = path / MANIFEST, read_json(path / TEXT) or None
        manifest = None
        if file.is_file():
            manifest = Manifest.from_tensors(load_weights(file), weights_metadata(file), str(file))
        elif text is None and read_json(path / ENVIRONMENT).get(MARK):
            log.warn(
                f"the {MANIFEST} of {path} is lost; the parts of its data are drawn by position, as for runs without one"
            )
        return cls(path, manifest, text, latest_step(path / "checkpoints") is not None)

    @classmethod
    def shared(cls, path: Path, log: Log, processes: ProcessGroup) -> Earlier:
        """Return on every rank what rank 0 reads; the directory need not exist elsewhere."""
        if not processes.is_distributed:
            return cls.read(path, log)
        with processes.raise_together():
            mine = cls.read(path, log) if processes.is_main else cls(path)
        tensors, metadata = ({}, {}) if mine.manifest is None else mine.manifest.to_tensors()
        state = {"tensors": tensors, "metadata": metadata, "text": mine.text, "begun": mine.begun}
        found = from_bytes(processes.broadcast(to_bytes(state) if processes.is_main else b""))
        manifest = Manifest.from_tensors(found["tensors"], found["metadata"], str(path)) if found["tensors"] else None
        return cls(path, manifest, found["text"], found["begun"])

    @classmethod
    def named_by(cls, config: SearchConfig | TrainConfig, log: Log, processes: ProcessGroup) -> Earlier | None:
        """Return the record of the run ``config.parts`` on every rank; None if it names none. Raises `OcheError`."""
        if config.parts is None:
            return None
        with processes.raise_together():
            if processes.is_main:
                check_parts(config.parts)
        return cls.shared(config.parts, log, processes)


def check_parts(path: Path) -> None:
    """Raise `OcheError` unless ``path``, named by ``parts`` in a configuration, is a run."""
    if not is_run(path):
        raise OcheError(
            f"parts: {path} is not a run directory, so its test images are not known; give a run on the same data, or write "
            "--parts None to draw new ones"
        )


def record(run: RunDir, config: SearchConfig | TrainConfig, data: Any) -> dict[str, bool]:
    """Write the record of ``data`` into ``run``, and return the mark for its environment.json."""
    if isinstance(data, Corpus):
        run.write_json(TEXT, describe_text(data, config))
        return {}
    if not isinstance(data, Dataset) or data.manifest is None:
        return {}
    manifest, split = data.manifest, _split(config)
    if split is not None:
        manifest = manifest.divided(first_half(data, split, config.seed), split, config.seed)
    run.write_weights(MANIFEST, *manifest.to_tensors())
    return {MARK: True}


def _split(config: SearchConfig | TrainConfig) -> float | None:
    """Return the share of the first half of the training images, if a run divides them."""
    if isinstance(config, SearchConfig):
        return None if config.search.method.hypergrad.one_level else config.search.split
    return config.train.split if isinstance(config.train, Recipe) and config.train.split < 1 else None


# --- text ---------------------------------------------------------------------------------------------------------------


def describe_text(corpus: Corpus, config: SearchConfig | TrainConfig) -> dict[str, Any]:
    """Return the settings that cut a text, and the length and hash of each part."""
    words = hashlib.sha256("\0".join(corpus.vocabulary).encode()).hexdigest()[:16]
    parts = {
        name: {"tokens": len(part), "sha256": hashlib.sha256(words.encode() + part.numpy().tobytes()).hexdigest()[:16]}
        for name, part in (("train", corpus.train), ("valid", corpus.valid), ("test", corpus.test))
        if part is not None
    }
    return {"cut": corpus.tokens, "holdout": config.holdout, "limit": config.limit, "parts": parts}


def text_changes(text: dict[str, Any], corpus: Corpus, config: SearchConfig | TrainConfig) -> list[str]:
    """Return the parts of ``corpus`` that differ from those in the record ``text``, such as "test: 90 -> 80 tokens"."""
    now = describe_text(corpus, config)
    if text.get("cut") != now["cut"]:  # other tokens cannot be compared
        return []
    told = []
    for name in ("train", "valid", "test"):
        was, found = (tree.get("parts", {}).get(name) for tree in (text, now))
        if was == found or (name == "train" and text.get("limit") != now["limit"]):
            continue
        counts = ["none" if part is None else f"{part['tokens']:,}" for part in (was, found)]
        told.append(f"{name}: {counts[0]} -> {counts[1]} tokens" if counts[0] != counts[1] else f"{name}: other tokens")
    return told


def check_text(
    earlier: Earlier, corpus: Corpus, config: SearchConfig | TrainConfig, log: Log, *, all_parts: bool
) -> None:
    """Raise `OcheError` if ``corpus`` is divided into other parts than those that the run recorded.

    ``all_parts``: whether the training part counts too; if not, a change of it is told.
    """
    if earlier.text is None or not (told := text_changes(earlier.text, corpus, config)):
        return
    held, was = config.holdout, earlier.text.get("holdout")
    why = f"holdout={held:g} instead of {was:g}" if was != held else "its text has changed"
    if all_parts or [change for change in told if not change.startswith("train")]:
        raise OcheError(
            f"the parts of {corpus.name} are not those that {earlier.path} was begun with ({why}; {', '.join(told)}): its test "
            "part may hold text that was trained on; restore the original text and settings, or start anew"
        )
    log.warn(f"the text {corpus.name} has changed since {earlier.path} began: {', '.join(told)}")
