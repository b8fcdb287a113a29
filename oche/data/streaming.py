"""A split whose images stay encoded. Threads decode them on demand, and the next batches ahead of time.

Pillow releases the interpreter lock while it decodes, so threads share the work without copying images between processes.
"""

from __future__ import annotations

import copy
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from oche.core.arguments import checked
from oche.core.console import progress_bar
from oche.core.errors import OcheError
from oche.data.dataset import Batch, Resident, Split
from oche.data.pixel_range import AS_BEFORE, Extent, PixelRange
from oche.data.readers.decode import EncodedImages, Header, decode, measure, read_header


def _cores() -> int:
    """Return the number of cores for decoding: those of this process, divided by torchrun's processes on this machine."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, mine // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))  # torchrun sets it


WORKERS = min(16, _cores())
AHEAD = 2  # batches being decoded while the caller works on one
_PIECE = 256  # images of one task, when all images are read
_KINDS = ("", "integers", "floats")  # see `Header.kind`
T = TypeVar("T")
_executors: list[ThreadPoolExecutor] = []


def _threads() -> ThreadPoolExecutor:
    """Return the one pool of decoding threads, which starts at first use."""
    if not _executors:
        _executors.append(ThreadPoolExecutor(WORKERS, thread_name_prefix="oche-decode"))
    return _executors[0]


def inspect_all(
    count: int, look: Callable[[int], T], title: str, show: bool = False
) -> tuple[list[T | None], list[OcheError]]:
    """Call ``look(i)`` for each of ``count`` images, in threads. Return the results and the errors, both in order.

    The result of an image is None if ``look`` raised `OcheError` for it.
    """

    def piece(start: int) -> tuple[list[T | None], list[OcheError]]:
        found: list[T | None] = []
        bad: list[OcheError] = []
        for i in range(start, min(start + _PIECE, count)):
            try:
                found.append(look(i))
            except OcheError as error:
                found.append(None)
                bad.append(error)
        return found, bad

    all_found: list[T | None] = []
    errors: list[OcheError] = []
    with progress_bar(title, count, show) as advance, warnings.catch_warnings(action="ignore"):
        # Pillow warns about large images, which `read_header` refuses, and about damaged EXIF, which does not matter.
        for found, bad in _threads().map(piece, range(0, count, _PIECE)):
            all_found += found
            errors += bad
            advance(len(found))
    return all_found, errors


def read_headers(items: EncodedImages, show: bool = False) -> list[Header]:
    """Return the header of every image. Raises `OcheError` that names the first bad image and counts the others."""
    found, errors = inspect_all(len(items), lambda i: read_header(items, i), "checking images", show)
    _raise_first(errors)
    return [header for header in found if header is not None]


def _raise_first(errors: list[OcheError]) -> None:
    if errors:
        more = f" (and {len(errors) - 1} more like it)" if len(errors) > 1 else ""
        raise type(errors[0])(f"{errors[0]}{more}")


@checked
class Streamed(Split):
    """Encoded images that are decoded on demand to ``shape`` (C, H, W). Only references and labels are kept in memory."""

    def __init__(
        self,
        items: EncodedImages,
        labels: Tensor,
        shape: tuple[int, int, int],
        *,
        rows: Tensor | None = None,
        device: torch.device | str = "cpu",
        kinds: Sequence[str] | None = None,
    ) -> None:
        """``rows`` (N,) int64: the items that belong to this split (None: all). ``labels`` (N,): their labels.

        ``kinds``: of each item, what its header says (`Header.kind`); None: all have 8 bits.
        """
        self.labels = labels.cpu()
        self.shape = shape
        self.device = torch.device(device)
        self.items = items
        self.rows = torch.arange(len(items)) if rows is None else rows.cpu()
        self._kinds = None  # of each item the number of its kind in _KINDS
        if kinds is not None and any(kinds):
            self._kinds = torch.tensor([_KINDS.index(kind) for kind in kinds], dtype=torch.uint8)
        self._pixels = AS_BEFORE

    def gather(self, index: Tensor) -> Batch:
        return self._finish(self._begin(index))

    def subset(self, index: Tensor) -> Streamed:
        index = index.cpu()
        other = copy.copy(self)
        other.labels, other.rows = self.labels[index], self.rows[index]
        return other._with_ids(None if self.ids is None else self.ids[index])

    def to(self, device: torch.device | str) -> Streamed:
        other = copy.copy(self)
        other.device = torch.device(device)
        return other

    def extent(self, pixels: PixelRange | None = None, show: bool = False) -> Extent | None:
        """Decode all images with more than 8 bits a channel, and return what values they have; None if there are none.

        Raises `OcheError` that names an image of each kind where some images have 8 bits, and `Damaged` for values that
        are not finite.
        """
        kinds = self.kinds
        if kinds == [""]:
            return None
        if len(kinds) > 1:
            raise OcheError(self._mixture(kinds))
        rows = self.rows.tolist()
        found, errors = inspect_all(
            len(rows), lambda i: measure(self.items, rows[i], pixels), "measuring pixel values", show
        )
        _raise_first(errors)
        return reduce(or_, (extent for extent in found if extent is not None))

    @property
    def kinds(self) -> list[str]:
        """The kinds of values that the images have: "" for 8 bits, integers, floats."""
        return [""] if self._kinds is None else [_KINDS[k] for k in self._kinds[self.rows].unique().tolist()]

    def _mixture(self, kinds: list[str]) -> str:
        assert self._kinds is not None
        own, told = self._kinds[self.rows], []
        for kind in kinds:
            rows = (own == _KINDS.index(kind)).nonzero().flatten()
            what = f"{kind} of more than 8 bits" if kind else "8 bits"
            told.append(f"{len(rows):,} with {what} a channel ({self.items.name(int(self.rows[rows[0]]))})")
        return f"there are images {' and '.join(told)}, whose values cannot be compared; save all in one depth"

    def in_colour(self) -> Streamed:
        """Return the images with three channels; grey ones have the same values in each."""
        other = copy.copy(self)
        other.shape = (3, *self.shape[1:])
        return other

    def mapped(self, pixels: PixelRange) -> Streamed:
        other = copy.copy(self)
        other._pixels = pixels
        return other

    def walk(self, order: Tensor, batch: int) -> Iterator[Batch]:
        coming: deque[_Pending] = deque()
        try:
            for piece in order.split(batch):
                coming.append(self._begin(piece))
                if len(coming) > AHEAD:
                    yield self._finish(coming.popleft())
            while coming:
                yield self._finish(coming.popleft())
        finally:  # the caller may have stopped early
            for pending in coming:
                pending.cancel()

    def resident(self, show: bool = False) -> Resident:
        """Decode all images once and return them as a `Resident` split."""
        with progress_bar("decoding images", len(self), show) as advance:
            pending = self._begin(torch.arange(len(self)), _PIECE)
            pending.wait(advance)
        return Resident(pending.images, self.labels)._with_ids(self.ids).to(self.device)

    def _begin(self, index: Tensor, share: int | None = None) -> _Pending:
        """Start decoding the images at ``index``, ``share`` of them in each task (by default one task for each thread)."""
        index = index.cpu()
        rows = self.rows[index].tolist()
        share = share or max(1, -(-len(rows) // WORKERS))
        # Pinned pages are copied to a GPU without blocking the caller.
        images = torch.empty((len(rows), *self.shape), dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        out = images.numpy()
        spans = [slice(k, k + share) for k in range(0, len(rows), share)]
        jobs = [_threads().submit(self._fill, out[span], rows[span]) for span in spans]
        return _Pending(images, index, jobs)

    def _fill(self, out: np.ndarray, rows: list[int]) -> int:
        for k, row in enumerate(rows):
            out[k] = decode(self.items, row, self.shape[1:], self.shape[0], self._pixels)
        return len(rows)

    def _finish(self, pending: _Pending) -> Batch:
        pending.wait()
        return pending.images.to(self.device, non_blocking=True), self.labels[pending.index].to(self.device)


@dataclass(frozen=True)
class _Pending:
    """Images that are being decoded, and the tasks that decode them."""

    images: Tensor
    index: Tensor
    jobs: list[Future[int]]

    def wait(self, advance: Callable[[int], None] = lambda n: None) -> None:
        """Wait until all are decoded. The first error cancels the rest and is raised."""
        try:
            for job in self.jobs:
                advance(job.result())
        except BaseException:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Cancel the tasks that have not started."""
        for job in self.jobs:
            job.cancel()
