"""The forms that a network can be exported to. Each writes a file and reads it back as whoever gets it would."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oche.core.errors import OcheError
from oche.deploy.classifier import MODEL, About, load
from oche.deploy.onnx_graph import Graph, Opened
from oche.runs.checkpoint import save_weights

OPSET = 18
"""of ONNX; onnxruntime reads it since 1.14"""


@dataclass(frozen=True)
class Target:
    """``write(graph, about, example, path)``: ``example`` is an input of two images, ``about`` describes what is written."""

    suffix: str
    reader: str
    """what runs it"""
    packages: tuple[str, ...]
    write: Callable[[Graph, About, Tensor, Path], None]
    open: Callable[[Path], Opened]

    def check(self, name: str) -> None:
        """Raises `OcheError` where a package is missing."""
        missing = [package for package in self.packages if not _there(package)]
        if missing:
            raise OcheError(f"exporting to {name} needs {' and '.join(missing)}; pip install 'oche[export]'")


def _there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # a module that something put in its place, or blocked
        return False


# --- ONNX ---------------------------------------------------------------------------------------------------------------


def _write_onnx(graph: Graph, about: About, example: Tensor, path: Path) -> None:
    with _quiet():
        program = torch.onnx.export(
            graph.module, (example,), dynamo=True, verbose=False, opset_version=OPSET,
            input_names=["images"], output_names=[graph.output], dynamic_shapes=({0: torch.export.Dim("batch")},),
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    strip(model)
    entry = model.metadata_props.add()
    entry.key, entry.value = MODEL, about.to_json()
    path.write_bytes(model.SerializeToString())


def strip(model: Any) -> None:
    """Removes where in the source each node comes from: paths of this machine, and more bytes than a small network's weights."""
    for things in (model.graph.node, model.graph.input, model.graph.output, model.graph.value_info):
        for thing in things:
            thing.doc_string = ""
            del thing.metadata_props[:]
    for initializer in model.graph.initializer:
        del initializer.metadata_props[:]


def open_onnx(path: Path) -> Opened:
    """Runs on the CPU, with as many threads as torch uses."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (name,) = (i.name for i in session.get_inputs())
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences what the exporter says of packages that it does not need, and of its own future."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(before)


# --- torch.export -------------------------------------------------------------------------------------------------------


def _write_program(graph: Graph, about: About, example: Tensor, path: Path) -> None:
    with _quiet():
        program = torch.export.export(graph.module, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        torch.export.save(program, path, extra_files={MODEL: about.to_json()})


def _open_program(path: Path) -> Opened:
    with _quiet():
        return torch.export.load(path).module()


# --- safetensors --------------------------------------------------------------------------------------------------------


def _write_weights(graph: Graph, about: About, example: Tensor, path: Path) -> None:
    del example
    save_weights(path, graph.module.state_dict(), {MODEL: about.to_json()})


def _open_weights(path: Path) -> Opened:
    return load(path)


TARGETS: dict[str, Target] = {
    "onnx": Target(".onnx", "onnxruntime", ("onnx", "onnxscript", "onnxruntime"), _write_onnx, open_onnx),
    "torch-export": Target(".pt2", "torch", (), _write_program, _open_program),
    "safetensors": Target(".safetensors", "oche", (), _write_weights, _open_weights),
}


@dataclass(frozen=True)
class Exported:
    """What was written, and what was measured of it."""

    path: Path
    bytes: int
    difference: float
    """largest to the trained network's output, before any quantisation"""
    images: int
    """on which that was measured"""
    latency: dict[int, float]
    """batch size → milliseconds"""
    accuracy: tuple[float, float] | None
    """with int8: before and after"""
    card: Path | None = None
    """the model card beside it"""

    @property
    def size(self) -> str:
        """ "119.3 kB"."""
        return f"{self.bytes / 1000:,.1f} kB"
