"""The identity of an image: 64 bits of a hash of its content, as it is stored.

An encoded image (a file, a row of a parquet file, a row on the hub) is known by its bytes; its name, folder and position do
not count. An image of an array is known by its pixels. So the same image stored in another encoding is another image.

Every byte is hashed, except of JPEG and PNG files above 128 KiB: of these the length and four pieces of 32 KiB, from the
beginning to the end. Both are compressed streams, in which a change of the picture changes the length or nearly all that
follows (a PNG also ends with a checksum of all pixels). Among n images the chance that two different ones share 64 bits is
n² / 2⁶⁵: 4e-8 for the 1.3 million of ImageNet.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from oche.data.dataset import Split
from oche.data.readers.decode import Damaged, Encoded, EncodedImages
from oche.data.readers.records import RawDataset
from oche.data.streaming import Streamed, inspect_all

_WHOLE, _PIECE, _PIECES = 1 << 17, 1 << 15, 4  # bytes hashed wholly; of longer images bytes a piece, and pieces
_COMPRESSED = (b"\xff\xd8\xff", b"\x89PNG")  # JPEG, PNG
_AT_ONCE = 1024  # images gathered together


def identify(found: RawDataset, show: bool = False) -> RawDataset:
    """Give both parts of ``found`` the ids of their images, where they have none, and return ``found``."""
    for split in (found.train, found.test):
        if split is not None and split.ids is None:
            split.ids = split_ids(split, show)
    return found


def split_ids(split: Split, show: bool = False) -> Tensor:
    """Return the ids (N,) int64 of the images of ``split``."""
    if isinstance(split, Streamed):
        return encoded_ids(split.items, split.rows, show)
    pieces = [array_ids(images.cpu().numpy()) for images, _ in split.walk(torch.arange(len(split)), _AT_ONCE)]
    return torch.cat(pieces) if pieces else torch.empty(0, dtype=torch.int64)


def array_ids(images: np.ndarray) -> Tensor:
    """Return the ids (N,) int64 of the arrays ``images`` (N, …), which depend on type, shape and values."""
    head = f"{images.dtype.str}{images.shape[1:]}".encode()
    return torch.tensor([_number(head, np.ascontiguousarray(image).data) for image in images], dtype=torch.int64)


def encoded_ids(items: EncodedImages, rows: Tensor, show: bool = False) -> Tensor:
    """Return the ids (K,) int64 of the encoded images at ``rows`` (K,), read in threads. Raises `OcheError`."""
    at = rows.tolist()
    found, errors = inspect_all(len(at), lambda i: _encoded_id(items, at[i]), "identifying images", show)
    if errors:
        raise errors[0]
    return torch.tensor(found, dtype=torch.int64)


def _encoded_id(items: EncodedImages, i: int) -> int:
    encoded = items.read(i)
    try:
        return encoded_id(encoded)
    except OSError as error:
        raise Damaged(f"{items.name(i)} cannot be read ({error.strerror or error}); replace or remove it") from error


def encoded_id(encoded: Encoded) -> int:
    """Return the id of one encoded image, a file or its bytes. Both give the same id. Raises `OSError`."""
    if isinstance(encoded, bytes):
        return _number(*_sample(encoded)) if _is_sampled(encoded[:4], len(encoded)) else _number(encoded)
    with Path(encoded).open("rb", buffering=0) as file:
        size = file.seek(0, 2)
        file.seek(0)
        head = file.read(_WHOLE)
        if not _is_sampled(head[:4], size):
            return _number(head, file.readall())
        pieces = [head[:_PIECE]]
        for start in _starts(size)[1:]:
            file.seek(start)
            pieces.append(file.read(_PIECE))
    return _number(size.to_bytes(8, "little"), *pieces)


def _is_sampled(head: bytes, size: int) -> bool:
    return size > _WHOLE and head.startswith(_COMPRESSED)


def _sample(data: bytes) -> list[bytes]:
    return [len(data).to_bytes(8, "little"), *(data[k : k + _PIECE] for k in _starts(len(data)))]


def _starts(size: int) -> list[int]:
    """Return where the hashed pieces of an image of ``size`` bytes begin."""
    return [k * (size - _PIECE) // (_PIECES - 1) for k in range(_PIECES)]


def _number(*parts: bytes | memoryview) -> int:
    """Return the hash of ``parts`` as a signed 64-bit integer."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part)
    return int.from_bytes(digest.digest(), "little", signed=True)
