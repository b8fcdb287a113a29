"""Images and text by one word or path: digits, CIFAR, your own folder, the Penn Treebank.

`load` reads images, `batches` and `prepare` feed them; `load_text` reads text, `oche.data.windows` feeds it.

Importing this package, `DATASETS` and `Augment` needs no torch; the rest is imported when first used.
"""

from typing import TYPE_CHECKING, Any

from .catalog import DATASETS, FORMS, TEXT_FORMS, TEXTS, Augment

if TYPE_CHECKING:
    from .augment import prepare
    from .core import Dataset, Resident, Split
    from .loader import batches, halves, steps_per_epoch
    from .reading import load
    from .stream import Streamed
    from .text import Corpus, load_text
    from .text_files import is_text

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
    "prepare": "augment",
    "Dataset": "core",
    "Resident": "core",
    "Split": "core",
    "Streamed": "stream",
    "load": "reading",
    "batches": "loader",
    "halves": "loader",
    "steps_per_epoch": "loader",
    "Corpus": "text",
    "load_text": "text",
    "is_text": "text_files",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value
