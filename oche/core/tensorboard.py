"""TensorBoard files of a run, if tensorboard is installed: its numbers, and the mixture weights of a search."""

from __future__ import annotations

import io
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from oche.core.atomic_files import read_json

_PIXELS_PER_WEIGHT = 16  # side of the square that shows one weight
_HISTOGRAM_BINS = 30
Weights = Sequence[Sequence[float]]  # (edges, candidates)


class Writer(Protocol):
    """Takes the records of metrics.jsonl one by one."""

    def add(self, record: Mapping[str, Any]) -> None:
        """Write one record."""


def tensorboard_writer(directory: str | Path) -> Writer | None:
    """Return a writer of an events file in ``directory``, or None if tensorboard is not installed."""
    try:
        from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError:
        return None
    return _Writer(Path(directory), Event, RecordWriter)


class _Writer:
    """Writes each record at once, in the calling thread. (The writer of torch loses its queue when the process is killed.)"""

    def __init__(self, directory: Path, event: Any, writer: Any) -> None:
        self._event, self._directory, self._make, self._file = event, directory, writer, None

    def add(self, record: Mapping[str, Any]) -> None:
        if self._file is None:  # a run that records nothing leaves no file
            now = time.time()
            file = f"events.out.tfevents.{int(now):010d}.{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(4)}"
            self._file = self._make((self._directory / file).open("xb"))
            self._write(wall_time=now, file_version="brain.Event:2")
        shown = [*scalar_summaries(record), *mixture_summaries(record, read_json(self._directory / "space.json"))]
        self._write(wall_time=time.time(), step=record["step"], summary={"value": shown})

    def _write(self, **fields: Any) -> None:
        assert self._file is not None
        self._file.write(self._event(**fields).SerializeToString())
        self._file.flush()


def scalar_summaries(record: Mapping[str, Any], before: str = "") -> Iterator[dict[str, Any]]:
    """Yield a summary for every number of ``record``. The numbers of an inner mapping are tagged like "timings/step_ms"."""
    for name, value in record.items():
        if isinstance(value, Mapping) and name != "arch":
            yield from scalar_summaries(value, f"{before}{name}/")
        elif isinstance(value, int | float) and name not in ("step", "epoch"):
            yield {"tag": before + name, "simple_value": float(value)}


def mixture_summaries(record: Mapping[str, Any], space: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the mean weight of each candidate, the histogram of all weights and an image of them, for each cell type.

    The images are those of the report in grey: edges along x, candidates along y, the largest weight white. TensorBoard shows
    nothing for a tag that two kinds of summary share, so tags differ.
    """
    for name, arch in (record.get("arch") or {}).items():
        weights: Weights = arch["weights"]
        candidates = space.get("groups", {}).get(name, {}).get("candidates") or range(len(weights[0]))
        for candidate, column in zip(candidates, zip(*weights, strict=True), strict=True):
            yield {"tag": f"mean_weight_{name}/{candidate}", "simple_value": sum(column) / len(column)}
        yield {"tag": f"weights/{name}", "histo": _histogram(weights)}
        yield {"tag": f"mixture/{name}", "image": _image(weights)}


def _histogram(weights: Weights) -> dict[str, Any]:
    import numpy as np

    values = np.array(weights, dtype=np.float64).ravel()
    counts, edges = np.histogram(values, _HISTOGRAM_BINS)
    return {
        "min": values.min(), "max": values.max(), "num": len(values), "sum": values.sum(), "sum_squares": (values**2).sum(),
        "bucket_limit": edges[1:].tolist(), "bucket": counts.tolist(),
    }  # fmt: skip


def _image(weights: Weights) -> dict[str, Any]:
    import numpy as np
    from PIL import Image

    values = np.array(weights, dtype=np.float64).T
    grey = np.uint8(np.round(255 * values / (values.max() or 1.0)))
    image, file = Image.fromarray(grey.repeat(_PIXELS_PER_WEIGHT, 0).repeat(_PIXELS_PER_WEIGHT, 1)), io.BytesIO()
    image.save(file, "PNG")
    return {"height": image.height, "width": image.width, "colorspace": 1, "encoded_image_string": file.getvalue()}
