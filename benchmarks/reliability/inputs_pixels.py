"""Pixel values of every type and range, axes of arrays, and images of another range than a network takes.

These inputs know what must come of them: the grey levels of all images, the channels of an array, or a refusal.
"""

from __future__ import annotations

import io
import struct
import zlib
from math import isfinite
from pathlib import Path
from random import Random

import numpy as np
import torch
from inputs_data import SEARCH, TAKEN
from judge import Case
from PIL import Image
from sound import Sound

from oche.core.errors import OcheError
from oche.data import load
from oche.deploy.classifier import load as load_network

_TYPES = ("uint8", "uint16", "int16", "int32", "uint32", "int64", "float32", "float64", "bool")
_IN_FILES = {"uint8": "png", "uint16": "png", "int32": "tif", "float32": "tif"}
_SPANS = (1, 3, 255, 256, 1023, 4095, 30000, 65535, 10**6)


def pixels(rng: Random, sound: Sound, at: Path) -> Case:
    """A data set of one type and range, with a value that is not finite, a constant picture or an odd image in some."""
    in_files = rng.random() < 0.5
    kind = rng.choice([*_IN_FILES] if in_files else _TYPES)
    images, spoilt = _images(rng, kind, 8), rng.random()
    if spoilt < 0.1:
        images[:] = images.flat[0]
    elif spoilt < 0.2 and images.dtype.kind == "f":
        images[rng.randrange(8), 3, 3] = rng.choice((np.nan, np.inf, -np.inf))
    mixed = in_files and spoilt > 0.9
    data = _folder(at / "x", images, mixed) if in_files else _npz(at / "x.npz", images)
    expected = None if mixed else _levels(images)

    def check() -> str:
        if expected is None:
            return "images that cannot be compared were taken"
        found = load(data, holdout=0).train
        levels = found.gather(torch.arange(len(found)))[0].numpy()[:, 0]
        return "" if np.abs(levels.astype(int) - expected).max() == 0 else f"{kind}: other grey levels than expected"

    return Case((*SEARCH, str(data), "--holdout", "0"), taken=TAKEN, check=check)


def _images(rng: Random, kind: str, count: int) -> np.ndarray:
    """Images (N, 8, 8) of the type ``kind``, in a random range that it can hold."""
    noise = np.random.default_rng(rng.randrange(2**32)).random((count, 8, 8))
    if kind == "bool":
        return noise > 0.5
    if kind.startswith("float") and rng.random() < 0.3:
        return noise.astype(kind)
    low, span = rng.choice((0, 0, 7, -1000)), rng.choice(_SPANS)
    if kind.startswith("float"):
        return (low + noise * span).astype(kind)
    info = np.iinfo(kind)
    low = max(low, int(info.min))
    return np.rint(low + noise * min(span, int(info.max) - low)).astype(kind)


def _levels(images: np.ndarray) -> np.ndarray | None:
    """The grey levels of a data set, worked out one value at a time; None if it must be refused."""
    values = [float(v) for v in images.ravel().tolist()]
    if not all(map(isfinite, values)):
        return None
    low, high, whole = min(values), max(values), all(v == int(v) for v in values)
    if images.dtype == bool or (images.dtype.kind == "f" and low >= 0 and high <= 1):
        levels = [255 * v for v in values]
    elif images.dtype == np.uint8 or (whole and low >= 0 and high <= 255):
        levels = values
    elif low == high:
        return None
    else:
        levels = [(v - low) * (255 / (high - low)) for v in values]
    return np.array([round(v) for v in levels]).reshape(images.shape)


def _npz(path: Path, images: np.ndarray) -> Path:
    np.savez(path, x=images, y=np.arange(len(images)) % 2)
    return path


def _folder(root: Path, images: np.ndarray, mixed: bool) -> Path:
    half = len(images) // 2
    for name, part in (("a", images[:half]), ("b", images[half:])):
        (root / name).mkdir(parents=True)
        for i, image in enumerate(part):
            _write(root / name / f"{i}", image)
    if mixed:
        _write(root / "b" / "odd", np.zeros((8, 8), np.uint16 if images.dtype == np.uint8 else np.uint8))
    return root


def _write(path: Path, image: np.ndarray) -> None:
    suffix = _IN_FILES[image.dtype.name]
    if image.dtype == np.uint16:
        path.with_suffix(".png").write_bytes(png16(image))
    else:
        file = io.BytesIO()
        Image.fromarray(image).save(file, {"png": "PNG", "tif": "TIFF"}[suffix])
        path.with_suffix(f".{suffix}").write_bytes(file.getvalue())


def png16(image: np.ndarray) -> bytes:
    """A grey PNG of 16 bits."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    h, w = image.shape
    rows = b"".join(b"\x00" + row.astype(">u2").tobytes() for row in image)
    head = struct.pack(">IIBBBBB", w, h, 16, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


# --- axes -------------------------------------------------------------------------------------------------------------


def axes(rng: Random, sound: Sound, at: Path) -> Case:
    """An array with four axes, told or not: its channels are known, or it is refused."""
    second, last = (rng.choice((1, 2, 3, 4, 5, 8, 12, 16)) for _ in range(2))
    middle = rng.choice((8, 9, 16))
    told = rng.choice((None, None, "NHWC", "NCHW"))
    np.savez(at / "x.npz", x=np.zeros((4, second, middle, last), np.uint8), y=np.arange(4) % 2)
    small = second <= 4, last <= 4
    known = told or ({(True, False): "NCHW", (False, True): "NHWC"}.get(small))
    sides = () if known is None else (middle, last) if known == "NCHW" else (second, middle)

    def check() -> str:
        if known is None or min(sides) < 8:
            return f"{(second, middle, last)} was taken"
        data = load(at / "x.npz", holdout=0, layout=told)
        channels = second if known == "NCHW" else last
        return "" if (data.channels, *data.image) == (channels, *sides) else f"{data.channels} channels of {data.image}"

    option = () if told is None else ("--layout", told)
    return Case((*SEARCH, str(at / "x.npz"), "--holdout", "0", *option), taken=TAKEN, check=check)


# --- a trained network ------------------------------------------------------------------------------------------------


def ranges(rng: Random, sound: Sound, at: Path) -> Case:
    """Images for a network of 8 bits: files to predict, and the same values as a tensor, must agree or both be refused."""
    kind = rng.choice([*_IN_FILES])
    images = _images(rng, kind, 4)
    folder = at / "x"
    folder.mkdir()
    for i, image in enumerate(images):
        _write(folder / str(i), image)
    out = at / "x.csv"
    expected = _levels(images)
    low, high = float(images.min()), float(images.max())
    usual = kind == "uint8" or (low >= 0 and high <= (1 if kind == "float32" else 255))
    whole = (
        kind == "float32"
        and expected is not None
        and bool((images == np.rint(images)).all())
        and low >= 0
        and high <= 255
    )

    def check() -> str:
        if not (usual or whole) or expected is None:
            return f"{kind} of {low}..{high} was predicted by a network of 8 bits"
        net = load_network(sound.exported)
        levels = torch.from_numpy(expected.astype(np.uint8))[:, None]
        best = [net.classes[k] for k in net.probabilities(levels).argmax(1)]
        rows = [row.split(",")[1] for row in out.read_text().splitlines()[1:]]
        try:
            given = [net.classes[k] for k in net.probabilities(images[:, None]).argmax(1)] if not whole else best
        except OcheError as error:
            return f"files were taken, and the same values in an array refused: {error}"
        return "" if rows == best == given else f"{rows}, {given} instead of {best}"

    return Case(("predict", str(sound.exported), str(folder), "--out", str(out), "--quiet"), check=check)
