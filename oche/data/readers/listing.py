"""List the image files below a folder. Count what else is there and is not read, by reason."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from oche.core.errors import OcheError, one_line
from oche.data.readers.decode import HEIF, SUFFIXES, use_heif

_READ = frozenset(SUFFIXES)
_IMAGES = frozenset((  # pictures and films, by the suffix, of types that are not read
    ".jp2", ".j2k", ".jpf", ".jpx", ".jxl", ".jxr", ".svg", ".svgz", ".psd", ".psb", ".xcf", ".raw", ".dng", ".cr2",
    ".cr3", ".nef", ".nrw", ".arw", ".orf", ".raf", ".rw2", ".pef", ".tga", ".ico", ".icns", ".dds", ".exr", ".hdr",
    ".pcx", ".sgi", ".rgb", ".xbm", ".xpm", ".emf", ".wmf", ".eps", ".ai", ".dcm", ".dicom", ".nii", ".fits",
    ".fit", ".npy", ".qoi", ".mp4", ".mov", ".avi", ".mkv", ".webm",
))  # fmt: skip
_DATA = frozenset((
    ".npz", ".parquet", ".h5", ".hdf5", ".mat", ".pkl", ".pickle", ".pt", ".tfrecord", ".tfrecords", ".lmdb",
    ".mdb", ".arrow", ".feather",
))  # fmt: skip
_ARCHIVES = frozenset((".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".tbz", ".txz", ".7z", ".rar", ".zst"))
_TEXTS = frozenset((  # not opened to look for an image inside
    ".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".html", ".htm", ".yaml", ".yml", ".md", ".rst", ".py",
    ".ipynb", ".log", ".ini", ".cfg", ".db", ".pdf", ".doc", ".docx",
))  # fmt: skip
_LEFTOVERS = {  # folders, in lower case, that systems and archives leave behind
    "__macosx", "@eadir", "@recycle", "#recycle", "#snapshot", "lost+found", "$recycle.bin", "recycler",
    "system volume information", "__pycache__",
}  # fmt: skip
_SIGNATURES = re.compile(
    rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|GIF8[79]a|RIFF....WEBP|BM....\0\0\0\0|II\*\0|MM\0\*|P[1-6]\s+[#\d]", re.DOTALL
)
_OTHER_SIGNATURES = re.compile(
    rb"....ftyp(?:heic|heix|hevc|mif1|msf1|avif)|\0\0\0\x0cjP  |8BPS|.{128}DICM|\xff\x0a|<svg|\0\0\0\x0cJXL ", re.DOTALL
)

# Reasons: what was not read, and why. The counts of each become one line.
PACKAGE = ("image", ", for want of the package pillow-heif (pip install pillow-heif)")
TYPE = ("file", ", of types that oche does not read")
SUFFIX = ("image", ", because the suffix is none of an image")
ARCHIVE = ("archive", ", since archives are not unpacked")
HIDDEN = ("hidden image", "")
LOOSE = ("image", ", beside the class folders and so without a class")
LINKED = ("linked folder", ", inside a class")
SPECIAL = ("pipe or device", "")


@dataclass
class Unread:
    """Counts of the files below ``root`` that are not read, by reason, with the name of the first."""

    root: Path
    counts: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    links: list[str] = field(default_factory=list)
    """the links to files among the images that are read"""

    def add(self, reason: tuple[str, str], path: str) -> None:
        """Count the file at ``path``."""
        count, first = self.counts.get(reason, (0, ""))
        self.counts[reason] = (count + 1, first or self.name(path))

    def name(self, path: str) -> str:
        """Return ``path`` from the root on, printable."""
        return one_line(os.path.relpath(path, self.root))

    def lines(self) -> list[str]:
        """Return one line for each reason."""
        return [
            f"{count:,} {what}{'s' if count > 1 else ''} {'were' if count > 1 else 'was'} not read{why}: "
            f"{first}{f' and {count - 1:,} more' if count > 1 else ''}"
            for (what, why), (count, first) in self.counts.items()
        ]


def is_leftover(name: str) -> bool:
    """Tell whether a folder ``name`` is hidden, or left behind by a system or an archive."""
    return name.startswith(".") or name.lower() in _LEFTOVERS


def list_images(folder: Path, unread: Unread) -> list[str]:
    """Return the image files below ``folder``, at any depth, in the order of their names. Count the others in ``unread``.

    Read are files with a suffix of `SUFFIXES`, HEIC where pillow-heif is there, and files without a suffix that begin as an
    image does. Hidden files and what systems leave behind are not read. Links to files are followed, links to folders are
    not. Raises `OcheError` for a folder that cannot be opened.
    """
    found: list[str] = []
    waiting = [str(folder)]
    while waiting:
        here = waiting.pop()
        below = []
        for entry in _entries(here):
            if _is(entry.is_dir):
                if is_leftover(entry.name):
                    _count_hidden(entry.path, unread)
                elif entry.is_symlink():
                    unread.add(LINKED, entry.path)
                else:
                    below.append(entry.path)
            elif _reads(entry, unread):
                found.append(entry.path)
        waiting += reversed(below)
    return found


def count_loose(folder: Path, unread: Unread) -> None:
    """Count the files directly in ``folder`` that would be read in a class folder, and what is never read."""
    for entry in _entries(str(folder)):
        if _is(entry.is_dir):
            if is_leftover(entry.name):
                _count_hidden(entry.path, unread)
        elif _reads(entry, unread):
            unread.add(LOOSE, entry.path)
    unread.links = [link for link in unread.links if Path(link).parent != folder]


def folders_in(folder: Path) -> list[Path]:
    """Return the folders in ``folder``, linked ones too, in the order of their names, without hidden ones and leftovers.

    Raises `OcheError` for a link whose folder is not there: a class would be missing.
    """
    found = []
    for entry in _entries(str(folder)):
        if is_leftover(entry.name):
            continue
        if _is(entry.is_dir):
            found.append(Path(entry.path))
        elif entry.is_symlink() and not os.path.exists(entry.path) and not os.path.splitext(entry.name)[1]:
            raise OcheError(
                f"{entry.path} is a link to {os.readlink(entry.path)}, which is not there; restore that folder, or remove "
                "the link"
            )
    return found


def tables_in(folder: Path) -> list[Path]:
    """Return the tables in ``folder`` that may hold labels, in the order of their names."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in (".csv", ".tsv") and p.is_file())


def has_images(folder: Path, deep: bool = True) -> bool:
    """Tell whether there are images, read or not, or archives below ``folder``; without ``deep``: images directly in it."""
    below = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if _is(entry.is_dir):
                    if not is_leftover(entry.name) and not entry.is_symlink():
                        below.append(Path(entry.path))
                elif not entry.name.startswith("."):
                    kind = _kind(entry.name, entry.path)
                    if kind in ((), PACKAGE, SUFFIX) or (deep and kind is not None):
                        return True
    except OSError as error:
        raise _closed(str(folder), error) from error
    return deep and any(map(has_images, below))


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """Return the entries of ``folder`` in the order of their names. Raises `OcheError` if it cannot be opened."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise _closed(folder, error) from error


def _closed(folder: str, error: OSError) -> OcheError:
    return OcheError(f"{folder} cannot be opened ({error.strerror}); allow that, or move it away")


def _is(test: Callable[[], bool]) -> bool:
    """Return ``test()``, the method of an entry; False for a link that leads in a circle."""
    try:
        return test()
    except OSError:
        return False


def _reads(entry: os.DirEntry[str], unread: Unread) -> bool:
    """Tell whether the file ``entry`` is read as an image. If it might be one and is not read, count it."""
    name, path = entry.name, entry.path
    if name.startswith("."):
        # macOS keeps facts about x.png in ._x.png, which is no image.
        if os.path.splitext(name)[1].lower() in _READ and (not name.startswith("._") or _looks_like_image(path)):
            unread.add(HIDDEN, path)
        return False
    kind = _kind(name, path)
    if kind is None:
        return False
    if not _is(entry.is_file) and os.path.exists(path):
        unread.add(SPECIAL, path)
        return False
    if kind:
        unread.add(kind, path)
        return False
    if entry.is_symlink():
        unread.links.append(path)
    return True


def _kind(name: str, path: str) -> tuple[str, str] | tuple[()] | None:
    """Return () for an image that is read, a reason for one that is not, None for another file."""
    suffix = os.path.splitext(name)[1].lower()
    if suffix in _READ:
        return ()
    if suffix in HEIF:
        return () if use_heif() else PACKAGE
    if suffix in _IMAGES or suffix in _DATA:
        return TYPE
    if suffix in _ARCHIVES:
        return ARCHIVE
    if suffix in _TEXTS or not os.path.isfile(path):
        return None
    head = _head(path)
    if _SIGNATURES.match(head):
        return SUFFIX if suffix else ()
    return TYPE if _OTHER_SIGNATURES.match(head) else None


def _looks_like_image(path: str) -> bool:
    return _SIGNATURES.match(_head(path)) is not None


def _head(path: str) -> bytes:
    """Return the first bytes of a file, none if it cannot be opened."""
    try:
        with open(path, "rb") as file:
            return file.read(132)
    except OSError:
        return b""


def _count_hidden(folder: str, unread: Unread) -> None:
    """Count the images in the hidden ``folder``, by their suffixes."""
    for path in _hidden(folder):
        unread.add(HIDDEN, path)


def _hidden(folder: str) -> Iterator[str]:
    for base, _, names in os.walk(folder):
        for name in sorted(names):
            if os.path.splitext(name)[1].lower() in _READ and not name.startswith("."):
                yield os.path.join(base, name)
