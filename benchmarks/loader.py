"""Images per second of the loader alone: class folders of JPEG files, decoded by several numbers of threads.

    python benchmarks/loader.py --out benchmarks/results/DATE_loader_cpu.md

It writes JPEG files (random crops of scikit-learn's two photographs, quality 90) to a temporary folder, and reads epochs of
shuffled batches from them, as a training does whose data do not fit into memory. Every number is the median over epochs in turns:
all ways of loading once, then all again. CPU time is that of the whole process with its children.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
import tyro
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader, Dataset

from oche.core.atomic_files import write_bytes
from oche.core.environment import describe_environment
from oche.core.memory import process_memory
from oche.data import Streamed, batches
from oche.data import streaming as stream
from oche.data.readers.decode import ImageFiles, decode
from oche.data.readers.image_folder import images_below

CLASSES = 10


@dataclass(frozen=True)
class Bench:
    out: Path | None = None
    """Markdown file to write"""
    sides: tuple[tuple[int, int], ...] = ((64, 64), (256, 224), (500, 224))
    """pairs: side of the files, side of the images made from them"""
    images: tuple[int, ...] = (10_000, 2_000, 1_000)
    """number of files for each pair"""
    threads: tuple[int, ...] = (1, 2, 4)
    processes: tuple[int, ...] = (2,)
    """worker processes of a torch DataLoader that decodes with the same function, for comparison"""
    batch: int = 128
    epochs: int = 3


def make(root: Path, count: int, side: int) -> None:
    """Write ``count`` files of ``side`` × ``side`` pixels to `CLASSES` folders."""
    photographs = [Image.fromarray(a) for a in load_sample_images().images]
    g = np.random.default_rng(0)
    for k in range(CLASSES):
        (root / f"class{k}").mkdir(parents=True)
    for i in range(count):
        photograph = photographs[i % 2]
        edge = int(g.integers(100, min(photograph.size)))
        x, y = (int(g.integers(n - edge + 1)) for n in photograph.size)
        crop = photograph.resize((side, side), Image.Resampling.BILINEAR, (x, y, x + edge, y + edge))
        crop.save(root / f"class{i % CLASSES}" / f"{i}.jpg", quality=90)


class Decoded(Dataset):
    """The same images as a torch Dataset, decoded in the worker processes of a DataLoader."""

    def __init__(self, files: ImageFiles, side: int) -> None:
        self.files, self.side = files, side

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(decode(self.files, i, (self.side, self.side), 3)))


def by_threads(files: ImageFiles, side: int, batch: int, count: int) -> Callable[[int], Iterator[object]]:
    split = Streamed(files, torch.zeros(len(files), dtype=torch.int64), (3, side, side))

    def epoch(number: int) -> Iterator[object]:
        stream.WORKERS = count
        stream._executors.clear()
        return batches(split, batch, seed=0, epoch=number)

    return epoch


def by_processes(files: ImageFiles, side: int, batch: int, count: int) -> Callable[[int], Iterator[object]]:
    loader = DataLoader(Decoded(files, side), batch, shuffle=True, num_workers=count, drop_last=True)
    return lambda number: iter(loader)


@dataclass(frozen=True)
class Epoch:
    wall: float
    cpu: float
    grown: int
    """peak memory in bytes, above that held before"""


def held() -> int:
    found = process_memory(os.getpid())
    return found[1] if found else 0


def measure(epoch: Iterator[object]) -> Epoch:
    cpu, memory, most, began = sum(os.times()[:4]), held(), 0, time.perf_counter()
    for _ in epoch:
        most = max(most, held())
    return Epoch(time.perf_counter() - began, sum(os.times()[:4]) - cpu, most - memory)


def rows(bench: Bench, folder: Path) -> Iterator[str]:
    """The rows of the table: one per way of loading, for each kind of file."""
    for (side, to), count in zip(bench.sides, bench.images, strict=True):
        root = folder / str(side)
        make(root, count, side)
        files = ImageFiles(images_below(root))
        size = np.mean([Path(file).stat().st_size for file in files.paths]) / 1000
        ways = {f"threads, {n}": by_threads(files, to, bench.batch, n) for n in bench.threads}
        ways |= {f"processes, {n}": by_processes(files, to, bench.batch, n) for n in bench.processes}
        found: dict[str, list[Epoch]] = {name: [] for name in ways}
        for number in range(bench.epochs):
            for name, way in ways.items():
                found[name].append(measure(way(number)))
        read = count // bench.batch * bench.batch
        for name, epochs in found.items():
            rates = sorted(read / e.wall for e in epochs)
            cpu, grown = median(1000 * e.cpu / read for e in epochs), max(e.grown for e in epochs)
            whole = 3 * to * to * count
            cells = (
                f"{count:,} of {side} × {side}, {size:.1f} kB", f"{to} × {to}", name,
                f"{median(rates):,.0f} ({rates[0]:,.0f}–{rates[-1]:,.0f})", f"{cpu:.2f}",
                f"{grown / 1e6:.0f} of {whole / 1e6:.0f}",
            )  # fmt: skip
            yield f"| {' | '.join(cells)} |"
            print(*cells, sep="   ", flush=True)


HEADS = (
    "| files | decoded to | loaded by | images a second | CPU ms an image | memory, MB, of all decoded |\n"
    + "|---" * 6
    + "|"
)


def main(bench: Bench) -> None:
    e = describe_environment()
    load = os.getloadavg()[0]
    torch.set_num_threads(1)
    with TemporaryDirectory(prefix="oche-loader-") as folder:
        table = "\n".join(rows(bench, Path(folder)))
    text = f"""# Images a second of the loader

{e["cpu"]}, {e["cores"]} cores, Pillow {Image.__version__}, torch {e["torch"]}, commit {e["commit"]}, {e["time"]}; processes
that ran or waited on the machine: {load:.1f} at the start, {os.getloadavg()[0]:.1f} at the end

JPEG files made of photographs (quality 90), shuffled batches of {bench.batch}, no training beside it; n = {bench.epochs}
epochs in turns, median (least–most). "Memory" is how far the loader's process grew while an epoch was read, beside the size of
all images decoded. The files were in the system's cache. "processes" are those of a torch DataLoader around the same decoder;
their memory is not counted.

{HEADS}
{table}
"""
    if bench.out is not None:
        write_bytes(bench.out, text.encode())


if __name__ == "__main__":
    main(tyro.cli(Bench, description=__doc__))
