"""Images and text, named by one word or a path: digits, CIFAR, your own folder, the Penn Treebank.

`load` reads images; `batches` and `prepare` make training batches of them. `load_text` reads text; `oche.data.text.bptt`
makes training windows of it.

This package, `DATASETS` and `Augment` can be imported without torch. Everything else is imported at first use.
"""

from typing import TYPE_CHECKING, Any

from oche.data.registry import DATASETS, FORMS, TEXT_FORMS, TEXTS, Augment

if TYPE_CHECKING:
    from oche.data.augment.basic import prepare
    from oche.data.batching import batches, halves, steps_per_epoch
    from oche.data.dataset import Dataset, Resident, Split
    from oche.data.loading import load
    from oche.data.streaming import Streamed
    from oche.data.text.corpus import Corpus, load_text
    from oche.data.text.files import is_text

__all__ = [
    "DATASETS",
    "FORMS",
    "TEXTS",
    "TEXT_FORMS",
    "Augment",
    "Corpus",
    "Dataset",
    "Resident",
    "Split",
    "Streamed",
    "batches",
    "halves",
    "is_text",
    "load",
    "load_text",
    "prepare",
    "steps_per_epoch",
]

_HOME = {
    "prepare": "augment.basic",
    "Dataset": "dataset",
    "Resident": "dataset",
    "Split": "dataset",
    "Streamed": "streaming",
    "load": "loading",
    "batches": "batching",
    "halves": "batching",
    "steps_per_epoch": "batching",
    "Corpus": "text.corpus",
    "load_text": "text.corpus",
    "is_text": "text.files",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value
