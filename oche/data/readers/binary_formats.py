"""The files that data sets were published in: IDX (MNIST), CIFAR's binary records, SVHN's MATLAB files. Nothing is unpickled.

Readers give images uint8 (N, C, H, W) and labels (N,). A file's claims about its size are checked before memory is taken
for them; `OcheError` names the file.
"""

from __future__ import annotations

import gzip
import math
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from oche.core.errors import OcheError

_PIXELS = 3 * 32 * 32


def read_idx(path: Path, axes: int, memory: int) -> np.ndarray:
    """The uint8 array with ``axes`` axes of an IDX file, gzipped or not, of at most ``memory`` bytes."""
    try:
        with path.open("rb") as plain:
            zipped = plain.read(2) == b"\x1f\x8b"
        with gzip.open(path) if zipped else path.open("rb") as file:
            magic = file.read(4)
            if magic != bytes((0, 0, 8, axes)):
                raise OcheError(
                    f"{path} is no IDX file of bytes with {axes} axes (it starts with {magic.hex(' ') or 'nothing'}); get it anew"
                )
            head = file.read(4 * axes)
            shape = tuple(int.from_bytes(head[k : k + 4], "big") for k in range(0, 4 * axes, 4))
            size = math.prod(shape)
            if not size:  # a header cut short ends in zeros
                raise OcheError(f"{path} is an IDX file of {shape} bytes: nothing; get it anew")
            check_fits(path, size, memory)
            data = file.read(size + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise _damaged(path, error) from error
    if len(data) != size:
        held = "more" if len(data) > size else f"{len(data):,}"
        raise OcheError(f"{path} says it holds {size:,} bytes {shape} and holds {held}; get it anew")
    return np.frombuffer(data, np.uint8).reshape(shape)


def read_members(path: Path, wanted: Iterable[str], memory: int) -> dict[str, bytes]:
    """The contents of the ``wanted`` files (by their last name) of a tar archive, or of a folder that it was unpacked to."""
    wanted = set(wanted)
    found: dict[str, bytes] = {}
    try:
        if path.is_dir():
            found = {name: (path / name).read_bytes() for name in wanted if (path / name).is_file()}
        else:
            with tarfile.open(path) as archive:
                for member in archive:
                    name = member.name.rpartition("/")[2]
                    if member.isfile() and name in wanted:
                        check_fits(path, member.size, memory)
                        file = archive.extractfile(member)
                        found[name] = file.read() if file else b""
    except (EOFError, OSError, tarfile.TarError, zlib.error) as error:
        raise _damaged(path, error) from error
    if missing := sorted(wanted - set(found)):
        raise OcheError(f"{path} has no {', '.join(missing)}; use the archive's binary version, as published")
    return found


def read_cifar(where: str, data: bytes, label_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """Records of CIFAR's binary form: ``label_bytes`` labels, the last of them the finest, then 3 × 32 × 32 bytes."""
    record = label_bytes + _PIXELS
    if not data or len(data) % record:
        raise OcheError(f"{where} has {len(data):,} bytes, which is no multiple of {record} (one image); get it anew")
    rows = np.frombuffer(data, np.uint8).reshape(-1, record)
    return rows[:, label_bytes:].reshape(-1, 3, 32, 32), rows[:, label_bytes - 1]


def read_svhn(path: Path, memory: int) -> tuple[np.ndarray, np.ndarray]:
    """X (32, 32, 3, N) and y (N, 1) of a MATLAB file, in which label 10 is the digit 0."""
    from scipy.io import loadmat, whosmat

    try:
        shapes = {name: shape for name, shape, _ in whosmat(path)}
        x, y = shapes.get("X", ()), shapes.get("y", ())
        if len(x) != 4 or x[:3] != (32, 32, 3) or y != (x[3], 1):
            raise OcheError(f"{path} has X {x} and y {y}; SVHN's cropped digits have X (32, 32, 3, N) and y (N, 1)")
        check_fits(path, math.prod(x), memory)
        found = loadmat(path, variable_names=("X", "y"))
    except OcheError:
        raise
    except Exception as error:  # SciPy raises whatever damaged bytes lead it to
        raise _damaged(path, error) from error
    images, labels = found["X"], found["y"][:, 0]
    if images.dtype != np.uint8:
        raise OcheError(f"{path}: X is {images.dtype}; SVHN's cropped digits are uint8")
    return images.transpose(3, 2, 0, 1), np.where(labels == 10, 0, labels)


def check_fits(path: Path, need: int, memory: int) -> None:
    """`OcheError` unless ``need`` bytes, which reading ``path`` takes, are at most ``memory``."""
    if need > memory:
        raise OcheError(
            f"{path} takes {need / 1e9:.1f} GB of memory and {memory / 1e9:.1f} GB may be used; unpack it to a folder of "
            "class folders, which streams, or make room"
        )


def _damaged(path: Path, error: Exception) -> OcheError:
    reason = "it is empty" if path.is_file() and not path.stat().st_size else str(error).split("\n")[0]
    return OcheError(f"{path} cannot be read ({reason}); get it anew")
