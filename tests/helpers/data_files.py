"""Small image sets in the layouts of the published files."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

FINE = tuple(f"fine_{k}" for k in range(100))
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Bytes:
    """Encoded images in memory."""

    def __init__(self, *images: bytes) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def read(self, i: int) -> bytes:
        return self.images[i]

    def name(self, i: int) -> str:
        return f"image {i}"


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def idx_bytes(array: np.ndarray) -> bytes:
    head = bytes((0, 0, 8, array.ndim)) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return head + array.astype(np.uint8).tobytes()


def write_mnist(folder: Path, packed: bool = True) -> dict[str, np.ndarray]:
    """Four IDX files: 20 training and 10 test images, 28x28."""
    made = {
        "train-images-idx3-ubyte": pixels(20, 28, 28),
        "train-labels-idx1-ubyte": np.arange(20) % 10,
        "t10k-images-idx3-ubyte": pixels(10, 28, 28, seed=1),
        "t10k-labels-idx1-ubyte": np.arange(10)[::-1],
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in made.items():
        data = idx_bytes(array)
        (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(data) if packed else data)
    return made


def cifar_bytes(images: np.ndarray, *labels: np.ndarray) -> bytes:
    """Records: a byte of each of ``labels`` (N,), then the image (3, 32, 32), channel after channel, row after row."""
    head = np.stack([np.asarray(v, dtype=np.uint8) for v in labels], 1)
    return np.concatenate([head, images.reshape(len(images), -1)], 1).astype(np.uint8).tobytes()


def cifar10_members() -> tuple[dict[str, bytes], np.ndarray, np.ndarray]:
    """Files of the archive, all training images and labels (4 a batch file)."""
    images, labels = pixels(20, 3, 32, 32), np.arange(20) % 10
    files = {
        f"data_batch_{k + 1}.bin": cifar_bytes(images[4 * k : 4 * k + 4], labels[4 * k : 4 * k + 4]) for k in range(5)
    }
    files["test_batch.bin"] = cifar_bytes(pixels(3, 3, 32, 32, seed=1), np.array([9, 0, 5]))
    files["batches.meta.txt"] = ("\n".join(CIFAR10) + "\n\n").encode()
    files["readme.html"] = b"<html></html>"
    return files, images, labels


def cifar100_members() -> tuple[dict[str, bytes], np.ndarray, np.ndarray]:
    images, fine = pixels(100, 3, 32, 32), np.arange(100)[::-1]
    files = {
        "train.bin": cifar_bytes(images, fine // 5, fine),
        "test.bin": cifar_bytes(pixels(2, 3, 32, 32, seed=1), [1, 0], [7, 2]),
        "fine_label_names.txt": ("\n".join(FINE) + "\n").encode(),
        "coarse_label_names.txt": "\n".join(f"coarse_{k}" for k in range(20)).encode(),
    }
    return files, images, fine


def write_tar(path: Path, folder: str, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        directory = tarfile.TarInfo(folder)
        directory.type = tarfile.DIRTYPE
        archive.addfile(directory)
        for name, data in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def write_svhn(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """``images`` (32, 32, 3, N) and ``labels`` (N,) from 1 to 10, compressed as published."""
    from scipy.io import savemat

    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"X": images, "y": labels.astype(np.uint8)[:, None]}, do_compression=True)


def encoded(array: np.ndarray, form: str = "PNG", **options) -> bytes:
    """An image file's bytes, from (H, W) or (H, W, C)."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, form, **options)
    return file.getvalue()


def png16(x: np.ndarray) -> bytes:
    """A PNG file's bytes with 16 bits a channel, from (H, W) or (H, W, C); C is 2 for grey and alpha, 4 for colour and alpha."""
    x = x if x.ndim == 3 else x[:, :, None]

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", x.shape[1], x.shape[0], 16, {1: 0, 2: 4, 3: 2, 4: 6}[x.shape[2]], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in x)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(x: np.ndarray, order: str = "<", extra: tuple[int, ...] = ()) -> bytes:
    """An uncompressed TIFF file's bytes from (H, W, C) of any type; ``extra``: what the bands after the colours are."""
    h, w, c = x.shape
    data = x.astype(x.dtype.newbyteorder(order)).tobytes()
    formats = {"u": 1, "i": 2, "f": 3}[x.dtype.kind]
    start = 8 + len(data)
    tags = {256: (w,), 257: (h,), 258: (8 * x.dtype.itemsize,) * c, 259: (1,), 262: (2 if c - len(extra) >= 3 else 1,), 273: (8,),
            277: (c,), 278: (h,), 279: (len(data),), 338: extra, 339: (formats,) * c}  # fmt: skip
    tags = {tag: values for tag, values in tags.items() if values}
    entries, more, after = b"", b"", start + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        kind, code = ("I", 4) if tag in (273, 279) else ("H", 3)
        packed = struct.pack(f"{order}{len(values)}{kind}", *values)
        if len(packed) > 4:
            packed, more = struct.pack(f"{order}I", after + len(more)), more + packed
        entries += struct.pack(f"{order}HHI", tag, code, len(values)) + packed.ljust(4, b"\0")
    magic = b"II*\0" if order == "<" else b"MM\0*"
    directory = struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    return magic + struct.pack(f"{order}I", start) + data + directory + more


def write_classes(root: Path, counts: dict[str, int], side: int = 10, seed: int = 0) -> dict[str, list[np.ndarray]]:
    """Class folders of PNG files named 0.png, 1.png …; gives their pixels (H, W, 3)."""
    made: dict[str, list[np.ndarray]] = {}
    for k, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        made[name] = list(pixels(count, side, side, 3, seed=seed + k))
        for i, array in enumerate(made[name]):
            (root / name / f"{i}.png").write_bytes(encoded(array))
    return made


def smooth_images(b, c, h, w, seed=5):
    """Images with structure (so that histograms and neighbours differ), some dark, some of few values."""
    g = torch.Generator().manual_seed(seed)
    x = torch.nn.functional.interpolate(torch.rand(b, c, 5, 5, generator=g), (h, w), mode="bicubic")
    x = x * torch.linspace(60, 300, b).view(-1, 1, 1, 1) - 20 + 6 * torch.randn(b, c, h, w, generator=g)
    return x.clamp(0, 255).to(torch.uint8)
