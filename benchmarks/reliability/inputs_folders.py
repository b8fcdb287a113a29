"""Odd folders and labels: layouts of class folders with all that may lie beside them, and labels that are no class.

These inputs know what must come of them: the number of images that are read and the words of the note, or that they are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import sound
from inputs_data import SEARCH, TAKEN
from judge import Case
from sound import Sound

from oche.core.errors import OcheError
from oche.data import load

_image = cache(sound.image)
_CLASSES = ("ants", "bees", "train", "test", "val", "valid", "Zug", "größe", "7", "a b", "CAPS")
_PARTS = (("train", "test"), ("train", "val"), ("Training", "Validation"), ("training_set", "test_set"), ("train", ""))
_SYSTEM = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found", ".ipynb_checkpoints", ".git")
_TYPES = (".heic", ".svg", ".psd", ".dng", ".cr2", ".nef", ".tga", ".ico", ".dcm", ".npy", ".jp2", ".exr")
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar")


def layouts(rng: Random, sound: Sound, at: Path) -> Case:
    """Class folders in one of the usual layouts, with what may lie around, beside and in them."""
    root = at / "x"
    base = root / "/".join(rng.choice(("archive", "dataset", "my images")) for _ in range(rng.choice((0, 0, 0, 1, 2))))
    parts = rng.choice(_PARTS) if rng.random() < 0.5 else ("",)
    plain = [name for name in _CLASSES if base == root or name not in ("train", "test", "val", "valid")]
    names = rng.sample(plain if parts == ("",) else _CLASSES, rng.randrange(2, 5))
    if parts == ("",) and not {*names} - {"train", "test", "val", "valid"}:
        names[0] = "ants"
    count, words = 0, []
    for part in filter(None, parts) if parts != ("",) else ("",):
        for name in names:
            (base / part / name).mkdir(parents=True)
            for k in range(rng.randrange(2, 4)):
                count += 1
                suffix = rng.choice((".png", ".PNG", ".jpg", ".jfif", ".jpe", ""))
                (base / part / name / f"{k} {count}{suffix}").write_bytes(_image("PNG") + bytes([count]))
    within = base / parts[0] / names[0]
    for add in rng.sample(_ADDED, rng.randrange(0, 4)):
        words += add(rng, base, base / parts[0], within)

    def check() -> str:
        data = load(root, holdout=0.5)
        found = len(data.train) + len(data.test or ())
        missing = [word for word in words if word not in data.note]
        return (
            f"{found} images of {count}, and the note {data.note!r} lacks {missing}"
            if found != count or missing
            else ""
        )

    return Case((*SEARCH, str(root)), check=check, taken=TAKEN)


def _type(rng: Random, base: Path, part: Path, within: Path) -> list[str]:
    suffix = rng.choice(_TYPES)
    (within / f"u{suffix}").write_bytes(b"?")
    return ["pillow-heif" if suffix == ".heic" else "of types that oche does not read"]


def _archive(rng: Random, base: Path, part: Path, within: Path) -> list[str]:
    (rng.choice((base, part, within)) / f"more{rng.choice(_ARCHIVES)}").write_bytes(b"PK")
    return ["archives are not unpacked"]


def _suffix(rng: Random, base: Path, part: Path, within: Path) -> list[str]:
    (within / f"u{rng.choice(('.bak', '.jpg~', '.1', '.png_large'))}").write_bytes(_image("PNG"))
    return ["because the suffix is none of an image"]


def _hidden(rng: Random, base: Path, part: Path, within: Path) -> list[str]:
    (within / ".u.png").write_bytes(_image("PNG"))
    return ["hidden image"]


def _loose(rng: Random, base: Path, part: Path, within: Path) -> list[str]:
    (part / "u.png").write_bytes(_image("PNG"))
    return ["beside the class folders"]


def _system(rng: Random, base: Path, part: Path, within: Path) -> list[str]:
    folder = rng.choice((base, part, within)) / rng.choice(_SYSTEM)
    folder.mkdir()
    (folder / "._0.png").write_bytes(b"\0\5\x16\7")
    (part / "Thumbs.db").write_bytes(b"\xd0\xcf")
    return []


def _empty(rng: Random, base: Path, part: Path, within: Path) -> list[str]:
    (part / "zz nothing").mkdir()
    return ["1 folder has no images"]


def _linked(rng: Random, base: Path, part: Path, within: Path) -> list[str]:
    (within / "zz").symlink_to(rng.choice((".", "..", str(base))))
    return ["linked folder"]


_ADDED: tuple[Callable[[Random, Path, Path, Path], list[str]], ...] = (
    _type, _archive, _suffix, _hidden, _loose, _system, _empty, _linked,
)  # fmt: skip


def label_tables(rng: Random, sound: Sound, at: Path) -> Case:
    """Images in one folder with a table of labels, which may be damaged in its rows, names or bytes."""
    root, names = at / "x", [f"{rng.randrange(16**6):06x}" for _ in range(rng.randrange(6, 10))]
    folder = root / rng.choice(("train", "images", ""))
    folder.mkdir(parents=True)
    for name in names:
        (folder / f"{name}.png").write_bytes(_image("PNG"))
    rows = [[name + rng.choice(("", ".png")), rng.choice(_CLASSES[:3])] for name in names]
    rows[0][1], rows[1][1] = _CLASSES[:2]
    spoilt = rng.choice((None, None, "row", "twice", "label", "bytes", "cells"))
    if spoilt == "row":
        rows.append(["no such image", "ants"])
    elif spoilt == "twice":
        rows.append([names[0], "bees"])
    elif spoilt == "label":
        rows[-1][1] = rng.choice(("", "nan", "-1", "0.5"))
    elif spoilt == "cells":
        rows[-1].append("more")
    between = rng.choice(",;\t")
    text = "\n".join(between.join(row) for row in [["id", "label"], *rows]).encode()
    (root / "labels.csv").write_bytes(b"\xff\xfe" + text if spoilt == "bytes" else text)

    def check() -> str:
        if spoilt:
            return f"a table spoilt in its {spoilt} is taken"
        data = load(root, holdout=0)
        found = [data.classes[k] for k in data.train.labels]
        return "" if found == [row[1] for row in rows] else f"labels {found} of the rows {rows}"

    return Case((*SEARCH, str(root)), check=check, taken=TAKEN)


# --- labels -----------------------------------------------------------------------------------------------------------------

_BAD: tuple[Any, ...] = (None, float("nan"), "", " ", "nan", -1, -7, 1.5, 0.25, float("inf"))
_GOOD = (
    (0, 1, 2), (1, 2, 3), ("a", "b", "c"), ("0", "1", "2"), (0.0, 1.0, 2.0), (True, False), (-1, 1), (7, 10**12), ("ä", "\u4e2d"),
)  # fmt: skip


def labels(rng: Random, sound: Sound, at: Path) -> Case:
    """A parquet file whose labels are classes, or a few of which are missing, negative, fractional or of another type."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    good = list(rng.choice(_GOOD)) * 4
    bad = rng.choice(_BAD) if rng.random() < 0.7 else None
    spoilt = rng.random() < 0.7
    values = list(good)
    for i in rng.sample(range(len(values)), rng.choice((1, 2, 5))) if spoilt else ():
        values[i] = bad
    file = at / "x.parquet"
    table: dict[str, Any] = {"image": [_image("PNG")] * len(values), "label": _column(pa, values)}
    pq.write_table(pa.table(table), file)

    def check() -> str:
        try:
            data = load(file, holdout=0)
        except OcheError as error:
            return f"taken and then refused: {error}"
        if spoilt and str(bad) not in [str(v) for v in good]:
            return f"{bad!r} became one of the classes {data.classes}"
        return (
            ""
            if np.bincount(data.train.labels.numpy()).tolist() == [4] * len(data.classes) or spoilt
            else "wrong labels"
        )

    return Case((*SEARCH, str(file)), (file,), check=check, taken=TAKEN)


def _column(pa: Any, values: list) -> Any:
    """Return a column of ``values``, of text if they have different types."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if v is None else str(v) for v in values])
