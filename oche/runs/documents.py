"""The JSON files of a run directory, with the kinds of their values checked, so that damage is named where it is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from oche.core.annotation_words import expected, short
from oche.core.annotations import REFUSED, checker
from oche.core.atomic_files import read_json
from oche.core.errors import OcheError

_NUMBER, _COUNT = float | None, int | None
_KINDS: dict[str, dict[str, Any]] = {
    "status.json": {"kind": str | None, "state": str},
    "summary.json": {
        "genotype": str, "data": str, "note": str | None, "parameters": int, "flops": float, "steps": int, "seconds": _NUMBER,
        "step_ms": _NUMBER, "other_seconds": _NUMBER, "nodes": int, "decided_nodes": int, "true_acc": _NUMBER, "regret": _NUMBER,
    },
    "space.json": {
        "classes": Sequence[str], "image": tuple[int, int] | int, "in_channels": int, "mean": Sequence[float],
        "std": Sequence[float], "parameters": int, "flops": float, "vocabulary": int, "groups": dict[str, Any],
    },
    "assessment.json": {"images": _COUNT},
    "vocabulary.json": {"vocabulary": Sequence[str], "tokens": str},
}  # fmt: skip
_ENDINGS = {
    **dict.fromkeys(("_acc", "_loss", "_ppl", "_ece", "_majority", "_unknown"), _NUMBER),
    **dict.fromkeys(("_images", "_tokens"), _COUNT),
}  # of keys of summary.json: test_acc, val_ppl …


class Document(dict[str, Any]):
    """The mapping in a JSON file. A key that it lacks is an `OcheError` that names the file; ``get`` returns None as usual."""

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.path = path

    def __missing__(self, key: str) -> Any:
        state = "is missing" if not self and not self.path.exists() else f"lacks {key}"
        raise OcheError(f"{self.path} {state}; restore it, or start the run anew")


def read_document(path: Path) -> Document:
    """Return the mapping in the JSON file of a run at ``path``; it is empty if there is no file.

    Raises `OcheError` for a damaged file, and for a value of another kind than oche writes.
    """
    found = Document(path, read_json(path))
    for key, value in found.items():
        kind = _KINDS.get(path.name, {}).get(key, _of_ending(key) if path.name == "summary.json" else Any)
        if kind is not Any and checker(kind)(value) is REFUSED:
            raise OcheError(
                f"{path} is damaged: {key} is {short(value)}, not {expected(kind)}; restore it or start anew"
            )
    return found


def _of_ending(key: str) -> Any:
    return next((kind for ending, kind in _ENDINGS.items() if key.endswith(ending)), Any)
