"""Read the original files of data sets: IDX (MNIST), CIFAR's binary records, SVHN's MATLAB files. Nothing is unpickled.

Readers return images uint8 (N, C, H, W) and labels (N,). The size that a file claims is checked before memory is taken
for it. An `OcheError` names the file.
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
    """Return the uint8 array with ``axes`` axes of an IDX file, gzipped or not, of at most ``memory`` bytes."""
    try:
        with path.open("rb") as plain:
            zipped = plain.read(2) == b"\x1f\x8b"
        with gzip.open(path) if zipped else path.open("rb") as file:
            magic = file.read(4)
            if magic != bytes((0, 0, 8, axes)):
                raise OcheError(
                    f"{path} is not an IDX file of bytes with {axes} axes (it starts with {magic.hex(' ') or 'nothing'}); "
                    "download it again"
                )
            head = file.read(4 * axes)
            shape = tuple(int.from_bytes(head[k : k + 4], "big") for k in range(0, 4 * axes, 4))
            size = math.prod(shape)
            if not size:  # the header was cut short
                raise OcheError(f"{path} is an IDX file of {shape} bytes, which is empty; download it again")
            check_fits(path, size, memory)
            data = file.read(size + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise _damaged(path, error) from error
    if len(data) != size:
        found = "more" if len(data) > size else f"{len(data):,}"
        raise OcheError(f"{path} claims {size:,} bytes {shape} and has {found}; download it again")
    return np.frombuffer(data, np.uint8).reshape(shape)


def read_members(path: Path, wanted: Iterable[str], memory: int) -> dict[str, bytes]:
    """Return the contents of the ``wanted`` files, by file name, of a tar archive or of the folder that it unpacks to."""
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
    """Read CIFAR's binary records: ``label_bytes`` labels, the last of them the finest, then 3 × 32 × 32 bytes."""
    record = label_bytes + _PIXELS
    if not data or len(data) % record:
        raise OcheError(
            f"{where} has {len(data):,} bytes, which is not a multiple of {record} (one image); download it again"
        )
    rows = np.frombuffer(data, np.uint8).reshape(-1, record)
    return rows[:, label_bytes:].reshape(-1, 3, 32, 32), rows[:, label_bytes - 1]


def read_svhn(path: Path, memory: int) -> tuple[np.ndarray, np.ndarray]:
    """Read X (32, 32, 3, N) and y (N, 1) of a MATLAB file, in which label 10 stands for the digit 0."""
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
    """Raise `OcheError` if reading ``path`` takes more than ``memory`` bytes."""
    if need > memory:
        raise OcheError(
            f"{path} takes {need / 1e9:.1f} GB of memory and {memory / 1e9:.1f} GB may be used; unpack it to a folder of "
            "class folders, which streams, or free memory"
        )


def _damaged(path: Path, error: Exception) -> OcheError:
    reason = "it is empty" if path.is_file() and not path.stat().st_size else str(error).split("\n")[0]
    return OcheError(f"{path} cannot be read ({reason}); download it again")
