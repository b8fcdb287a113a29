"""Predictions for a folder of images, as a CSV file.

Shapes: B images, K classes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from oche.core.arguments import checked
from oche.core.atomic_files import write_bytes
from oche.core.console import Log
from oche.core.errors import OcheError, plural
from oche.data.eight_bits import to_eight_bits
from oche.data.readers.decode import SUFFIXES, ImageFiles
from oche.data.readers.listing import Unread, list_images
from oche.data.readers.records import RawDataset, oddities
from oche.data.streaming import Streamed, read_headers
from oche.deploy.classifier import Classifier, load
from oche.deploy.export import check_out
from oche.runs.run import Run


@checked
def predict(
    what: Run | str | Path,
    folder: str | Path,
    *,
    out: str | Path = "predictions.csv",
    top: int = 3,
    batch: int = 256,
    device: str = "auto",
    overwrite: bool = False,
    log: Log | None = None,
) -> Path:
    """Predict the classes of all images below ``folder`` and write them to ``out``, one row per image, ordered by name.

    Columns: file (relative to ``folder``), class, probability, and for the next of the ``top`` likeliest classes class_2,
    probability_2 … . ``what``: as in `oche.load`. Images of another size than trained are scaled to cover it and cut to
    their centre, as those of a data set. Raises `OcheError` before anything is written where files cannot be read.
    """
    log, path, root = log or Log(quiet=True), Path(out), Path(folder)
    if top < 1 or batch < 1:
        raise OcheError(f"top={top}, batch={batch} must be 1 or more")
    check_out(path, overwrite)
    files = _files(root, log)
    net = load(what, device)
    images = _images(net, files, root, log)
    rows = _rows(net, images, files, batch, min(top, len(net.classes)))
    write_bytes(
        path, _csv([file.relative_to(root).as_posix() for file in files], rows).encode("utf-8", "surrogateescape")
    )
    log.say(f"{path}: {plural(len(files), 'image')}")
    return path


def _files(root: Path, log: Log) -> list[Path]:
    """Return the images below ``root``, and say what is not read. Raises `OcheError` if there are none."""
    if not root.is_dir():
        raise OcheError(f"{root} is no folder; give one with images in it")
    unread = Unread(root)
    found = list_images(root, unread)
    if not found:
        reason = "; ".join(unread.lines()) or ", ".join(SUFFIXES)
        raise OcheError(f"{root} has no images that are read ({reason}); give a folder that has some")
    for line in unread.lines():
        log.say(line)
    return list(map(Path, found))


def _images(net: Classifier, files: list[Path], root: Path, log: Log) -> Streamed:
    """Return the images in the form that the network takes; every header is checked, and deep pixel values are measured."""
    channels = net.about.channels
    if channels not in (1, 3):
        raise OcheError(
            f"the network takes images of {channels} channels, which image files do not have; use net(x) in Python"
        )
    found = read_headers(ImageFiles(files))
    for line in oddities(ImageFiles(files), found):
        log.say(line)
    others = sum(h.size != net.image for h in found)
    if others:
        h, w = net.image
        log.say(f"{others} of {len(files)} images are not {h}x{w}, as trained: scaled and cut to their centre")
    kinds = [h.kind for h in found]
    images = Streamed(
        ImageFiles(files), torch.zeros(len(files), dtype=torch.int64), (channels, *net.image), kinds=kinds
    )
    raw, _ = to_eight_bits(RawDataset(str(root), images, None, net.classes), net.pixels, str(root), not log.quiet)
    for line in filter(None, raw.note.split("; ")):
        log.say(line)
    assert isinstance(raw.train, Streamed)
    return raw.train


def _rows(net: Classifier, images: Streamed, files: list[Path], batch: int, top: int) -> Iterator[list[str]]:
    """Yield the header of the table, then for each image its most probable classes and their probabilities."""
    more = [f"{what}_{k}" for k in range(2, top + 1) for what in ("class", "probability")]
    yield ["class", "probability", *more]
    device, done = next(net.parameters()).device, 0
    for pixels, _ in images.to(device).walk(torch.arange(len(images)), batch):
        yield from map(_row, *_top(net, pixels, files[done : done + batch], top), [net.classes] * len(pixels))
        done += len(pixels)


def _top(net: Classifier, pixels: Tensor, files: list[Path], top: int) -> tuple[list[list[float]], list[list[int]]]:
    """Return the largest probabilities and their classes. Raises `OcheError` where they are not finite."""
    found = net.probabilities_of(pixels)
    if broken := (~found.isfinite()).any(1).nonzero().flatten().tolist():
        raise OcheError(
            f"{files[broken[0]]}: the outputs of the network are not finite for it"
            f"{f' and {len(broken) - 1} more' if len(broken) > 1 else ''}, so no class can be named; train the network again, "
            "with a smaller learning rate or gradient clipping"
        )
    values, index = found.topk(top, dim=1)
    return values.tolist(), index.tolist()


def _row(values: list[float], index: list[int], classes: tuple[str, ...]) -> list[str]:
    return [text for p, k in zip(values, index, strict=True) for text in (classes[k], f"{p:.6f}")]


def _csv(names: list[str], rows: Iterator[list[str]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(
        [name, *row] for name, row in zip(["file", *names], rows, strict=True)
    )
    return out.getvalue()
