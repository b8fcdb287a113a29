"""What TensorBoard shows of a run, where it is installed: its numbers, and of a search the weights of its candidates."""

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

_SQUARE = 16  # pixels of one weight in an image
_BINS = 30
Weights = Sequence[Sequence[float]]  # (edges, candidates)


class Writer(Protocol):
    """Takes the records of metrics.jsonl, one after another, as they come."""

    def add(self, record: Mapping[str, Any]) -> None: ...


def tensorboard_writer(directory: str | Path) -> Writer | None:
    """A writer of an events file in ``directory``; None where tensorboard is not installed."""
    try:
        from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError:
        return None
    return _Writer(Path(directory), Event, RecordWriter)


class _Writer:
    """Writes each record at once, in the calling thread: torch's own writer loses its queue when the process is killed."""

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
    """Every number of ``record``, those of an inner mapping under its name: "val_acc", "entropy/normal", "timings/step_ms"."""
    for name, value in record.items():
        if isinstance(value, Mapping) and name != "arch":
            yield from scalar_summaries(value, f"{before}{name}/")
        elif isinstance(value, int | float) and name not in ("step", "epoch"):
            yield {"tag": before + name, "simple_value": float(value)}


def mixture_summaries(record: Mapping[str, Any], space: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Of each cell type the mean weight of each candidate, how all weights are spread, and a picture of them.

    Pictures are those of the report in grey: edges along x, candidates along y, the heaviest white. TensorBoard shows nothing
    of a tag that two kinds share.
    """
    for name, arch in (record.get("arch") or {}).items():
        weights: Weights = arch["weights"]
        candidates = space.get("groups", {}).get(name, {}).get("candidates") or range(len(weights[0]))
        for candidate, column in zip(candidates, zip(*weights, strict=True), strict=True):
            yield {"tag": f"mean_weight_{name}/{candidate}", "simple_value": sum(column) / len(column)}
        yield {"tag": f"weights/{name}", "histo": _spread(weights)}
        yield {"tag": f"mixture/{name}", "image": _picture(weights)}


def _spread(weights: Weights) -> dict[str, Any]:
    import numpy as np

    values = np.array(weights, dtype=np.float64).ravel()
    counts, edges = np.histogram(values, _BINS)
    return {
        "min": values.min(), "max": values.max(), "num": len(values), "sum": values.sum(), "sum_squares": (values**2).sum(),
        "bucket_limit": edges[1:].tolist(), "bucket": counts.tolist(),
    }  # fmt: skip


def _picture(weights: Weights) -> dict[str, Any]:
    import numpy as np
    from PIL import Image

    values = np.array(weights, dtype=np.float64).T
    grey = np.uint8(np.round(255 * values / (values.max() or 1.0)))
    image, file = Image.fromarray(grey.repeat(_SQUARE, 0).repeat(_SQUARE, 1)), io.BytesIO()
    image.save(file, "PNG")
    return {"height": image.height, "width": image.width, "colorspace": 1, "encoded_image_string": file.getvalue()}
