"""Bad data: images, tables, archives, texts. Once the data are accepted, an impossible split ends the command lines."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import sound
from judge import Case
from mangle import WORDS, damaged, mangled
from PIL import Image
from sound import Sound

SEARCH = (
    "search",
    "--search.split",
    "0.999999999",
    "--quiet",
    "--engine",
    "plain",
    "--data",
)  # ends once data are accepted
TAKEN = "split=0.999999999"  # in the error it ends with
_made = cache(lambda name: getattr(sound, name)())
_FORMS = {"PNG": ".png", "JPEG": ".jpg", "BMP": ".bmp", "GIF": ".gif", "WEBP": ".webp", "TIFF": ".tif", "PPM": ".ppm"}
_image = cache(sound.image)


def images(rng: Random, sound: Sound, at: Path) -> Case:
    """Class folders, or a folder to predict, with a file that is damaged, no image, enormous or empty."""
    predict = rng.random() < 0.5
    for name in ("ants", "bees"):
        (at / "x" / name).mkdir(parents=True)
        (at / "x" / name / "good.png").write_bytes(_image("PNG"))
    _bad_image(rng, at / "x" / rng.choice(("ants", "bees")))
    if predict:
        return Case(("predict", str(sound.training), str(at / "x"), "--out", str(at / "x.csv"), "--quiet"))
    return Case((*SEARCH, str(at / "x")), taken=TAKEN)


def _bad_image(rng: Random, folder: Path) -> None:
    form = rng.choice([*_FORMS])
    file = folder / f"{rng.choice(('bad', 'bäd', 'b d', 'b' * 200))}{_FORMS[form]}"
    how = rng.randrange(10)
    if how < 6:
        file.write_bytes(damaged(rng, _image(form)))
    elif how == 6:
        side = rng.choice((0, 1, 70_000, 2**31 - 1, 2**32 - 1))
        file.write_bytes(png(side, rng.choice((0, 1, side))))
    elif how == 7:
        file.symlink_to(rng.choice((file.name, "nothing.png", "/dev/null", ".")))
    elif how == 8:
        file.mkdir()
    else:
        other = io.BytesIO()
        mode = rng.choice(("1", "L", "LA", "P", "RGBA", "CMYK", "I", "F", "I;16"))
        size = rng.choice(((1, 1), (1, 5000), (5000, 1), (12, 12)))
        Image.new(mode, size).save(other, "TIFF")
        file.with_suffix(".tif").write_bytes(other.getvalue())


def png(width: int, height: int) -> bytes:
    """A PNG that claims a size, and has only a few bytes of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\x00" * 100)) + chunk(b"IEND", b"")
    )


# --- tables -----------------------------------------------------------------------------------------------------------------


def tables(rng: Random, sound: Sound, at: Path) -> Case:
    """Damaged Parquet and npz files, or files with arrays of other shapes, types and names."""
    form = rng.choice(("npz", "parquet"))
    file = at / f"x.{form}"
    how = rng.random()
    if how < 0.6:
        file.write_bytes(damaged(rng, _made(form)))
    elif form == "npz":
        _odd_npz(rng, file)
    else:
        _odd_parquet(rng, file)
    return Case((*SEARCH, str(file)), (file,), taken=TAKEN)


_ARRAYS = (
    np.zeros((0, 8, 8)), np.zeros((3, 8, 8)), np.full((4, 8, 8), np.nan), np.full((4, 8, 8), 1e300),
    np.zeros((4, 8, 8, 3), np.uint8), np.zeros(4, np.int64),
    np.arange(4), np.arange(4) * 10**15, np.array(["a", "b", "a", "b"]), np.array([1.5] * 4), np.zeros((4, 1), bool),
    np.zeros((2, 2)), np.array(3),
    np.array([b"a"] * 4), np.array(["2020-01-01"] * 4, "datetime64[D]"), np.zeros((4, 1, 8, 2), np.complex64),
    np.zeros((4, 8, 8, 0)), np.zeros((4, 8, 8, 99), np.uint8),
    np.array([-1, 0, 1, 2]), np.zeros(4, [("a", int)]), np.array([""] * 4), np.array(["a\nb", "\x1b[31m", "c", "d"]),
    np.zeros((4, 8, 8), np.uint64) + 2**63,
)  # fmt: skip


def _odd_npz(rng: Random, file: Path) -> None:
    names = rng.choice(
        (("x", "y"), ("x_train", "y_train", "x_test", "y_test"), ("images", "labels", "classes"), ("a", "X", "Y"))
    )
    arrays = {name: rng.choice(_ARRAYS) for name in names}
    if rng.random() < 0.1:
        arrays["y"] = np.array([{}, None, "x", 3], dtype=object)  # pickled
    np.savez(file, **arrays)


_METADATA = (
    {}, {"class_names": "[1]"}, {"class_names": "x"}, {"class_names": "3"}, {"huggingface": "[]"}, {"huggingface": '{"info": 3}'},
    {b"\xff": b"\xff"}, {"note": "\x1b[31m\n"},
)  # fmt: skip


def _odd_parquet(rng: Random, file: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = (
        [_image("PNG")] * 6, [damaged(rng, _image("PNG"))] * 6, [None] * 6, [b""] * 6, ["text"] * 6,
        [{"bytes": _image("PNG")}] * 6, [{"bytes": None}] * 6,
        [{"path": "x"}] * 6, [1, 2, 1, 2, 1, 2], ["a", "b"] * 3, [None, "a"] * 3, [1.5, float("nan")] * 3,
        [[1], [2]] * 3, [True, False] * 3, ["train", "test"] * 3,
        ["train"] * 6, ["other"] * 6, [2**62, -1] * 3, ["a\nb", "\x1b[2J"] * 3,
    )  # fmt: skip
    names = [name for name in ("image", "label", "split", "other") if rng.random() < 0.8] or ["image"]
    table = pa.table(
        {name: rng.choice(columns[:8] if name == "image" and rng.random() < 0.7 else columns) for name in names}
    )
    meta = rng.choice(_METADATA)
    pq.write_table(table.replace_schema_metadata(meta) if meta else table, file)


# --- archives ---------------------------------------------------------------------------------------------------------------


def archives(rng: Random, sound: Sound, at: Path) -> Case:
    """Published archives: damaged, with members outside of the folder, links or wrong sizes, or with another layout."""
    (at / "d").mkdir()
    name = rng.choice(("mnist", "cifar10", "svhn", "wikitext2", "ptb"))
    _ARCHIVES[name](rng, at / "d")
    command = SEARCH if name in ("mnist", "cifar10", "svhn") else (*SEARCH[:1], "--space", "recurrent", *SEARCH[1:])
    outside = at / "outside.txt"
    outside.write_text("as it was")
    return Case(
        (*command, name, "--data-dir", str(at / "d")),
        (outside, at / "x", at.parent / "evil.bin", Path("/evil.bin")),
        taken=TAKEN,
    )


def _mnist(rng: Random, at: Path) -> None:
    for name, data in _made("mnist").items():
        spoilt = damaged(rng, data) if rng.random() < 0.4 else data
        if rng.random() < 0.5:
            packed = gzip.compress(spoilt, 1)
            (at / f"{name}.gz").write_bytes(damaged(rng, packed) if rng.random() < 0.3 else packed)
        else:
            (at / name).write_bytes(spoilt)


def _cifar10(rng: Random, at: Path) -> None:
    members = []
    for name, data in _made("cifar10").items():
        data = damaged(rng, data) if rng.random() < 0.1 else data
        members.append((tarfile.TarInfo(_elsewhere(rng, f"cifar-10-batches-bin/{name}")), data))
        if rng.random() < 0.1:
            members.append((_link(rng, name), b""))
    packed = sound.tar(members)
    (at / "cifar-10-binary.tar.gz").write_bytes(damaged(rng, packed) if rng.random() < 0.4 else packed)


def _elsewhere(rng: Random, name: str) -> str:
    return rng.choice(
        (
            name,
            name,
            name,
            f"../{name}",
            f"/{name}",
            "../evil.bin",
            "/evil.bin",
            "../" * 9 + "x",
            mangled(rng, name) or "x",
        )
    ).replace("\x00", "x")


def _link(rng: Random, name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
    info.type = rng.choice((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE))
    info.linkname = rng.choice(("/etc/passwd", "../outside.txt", name))
    return info


def _svhn(rng: Random, at: Path) -> None:
    for part in ("train", "test"):
        (at / f"{part}_32x32.mat").write_bytes(damaged(rng, _made("svhn")) if rng.random() < 0.7 else _made("svhn"))


def _wikitext2(rng: Random, at: Path) -> None:
    text = b" = Title = \n\n some words <unk> and more words \n" * 40
    members = {
        _elsewhere(rng, f"wikitext-2/wiki.{part}.tokens"): text if rng.random() < 0.7 else damaged(rng, text)
        for part in ("train", "valid", "test")
    }
    packed = sound.wikitext(members)
    (at / "wikitext-2-v1.zip").write_bytes(damaged(rng, packed) if rng.random() < 0.5 else packed)


def _ptb(rng: Random, at: Path) -> None:
    for part in ("train", "valid", "test"):
        text = b" no it was n't black monday \n but while the N <unk> \n" * 40
        spoilt = damaged(rng, text) if rng.random() < 0.5 else text
        if rng.random() < 0.5:
            (at / f"ptb.{part}.txt.gz").write_bytes(damaged(rng, gzip.compress(spoilt, 1)))
        elif rng.random() < 0.9:
            (at / f"ptb.{part}.txt").write_bytes(spoilt)


_ARCHIVES = {"mnist": _mnist, "cifar10": _cifar10, "svhn": _svhn, "wikitext2": _wikitext2, "ptb": _ptb}

# --- texts ------------------------------------------------------------------------------------------------------------------


def texts(rng: Random, sound: Sound, at: Path) -> Case:
    """Text files that are damaged, compressed, nearly empty or no text, to search on and to evaluate with."""
    text = damaged(rng, sound.text.read_bytes())
    text = rng.choice(
        (
            text,
            mangled(rng, "a b c\n" * 30).encode("utf-8", "surrogateescape"),
            rng.choice(WORDS).encode("utf-8", "surrogateescape"),
            b"\xff\xfe" + text,
        )
    )
    file = at / rng.choice(("x.txt", "x.txt.gz", "train.txt", "x.tokens"))
    file.write_bytes(damaged(rng, gzip.compress(text, 1)) if file.suffix == ".gz" else text)
    if rng.random() < 0.3:
        (at / "valid.txt").write_bytes(damaged(rng, sound.text.read_bytes()))
    if rng.random() < 0.2:
        return Case(("evaluate", str(sound.language), "--data", str(file), "--quiet"), (file,))
    more = ("--tokens", "characters") if rng.random() < 0.3 else ()
    return Case((*SEARCH[:1], "--space", "recurrent", *SEARCH[1:], str(file), *more), (file,), taken=TAKEN)


def zip_bomb(at: Path) -> Path:
    """An npz whose one array unpacks to 4 GB of zeros, in a few MB."""
    head = (
        b"\x93NUMPY\x01\x00"
        + struct.pack("<H", 118)
        + b"{'descr': '|u1', 'fortran_order': False, 'shape': (4000000, 1000), }".ljust(117)
        + b"\n"
    )
    with (
        zipfile.ZipFile(at, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("x.npy", "w", force_zip64=True) as file,
    ):
        file.write(head)
        for _ in range(4000):
            file.write(bytes(1_000_000))
    return at
