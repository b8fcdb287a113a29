"""The file formats of an export. Each writes a file, and reads it back in the way that its users will."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oche.core.extras import need
from oche.deploy.classifier import load
from oche.deploy.description import ModelDescription
from oche.deploy.export_graph import ExportGraph, LoadedModel
from oche.runs.checkpoint import save_weights
from oche.runs.warm_start import METADATA_KEY

OPSET = 18
"""of ONNX; onnxruntime reads it since 1.14"""


@dataclass(frozen=True)
class Target:
    """A file format. ``write(graph, about, example, path)``: ``example`` is an input of two images, ``about`` the description."""

    suffix: str
    reader: str
    """package that runs it"""
    packages: tuple[str, ...]
    write: Callable[[ExportGraph, ModelDescription, Tensor, Path], None]
    open: Callable[[Path], LoadedModel]

    def check(self, name: str) -> None:
        """Raise `OcheError` where a package is missing."""
        if self.packages:
            need(f"exporting to {name}", *self.packages)


# --- ONNX ---------------------------------------------------------------------------------------------------------------


def _write_onnx(graph: ExportGraph, about: ModelDescription, example: Tensor, path: Path) -> None:
    with _quiet():
        program = torch.onnx.export(
            graph.module, (example,), dynamo=True, verbose=False, opset_version=OPSET,
            input_names=["images"], output_names=[graph.output], dynamic_shapes=({0: torch.export.Dim("batch")},),
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    strip(model)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, about.to_json()
    path.write_bytes(model.SerializeToString())


def strip(model: Any) -> None:
    """Remove the source positions of all nodes: paths of this machine, larger than the weights of a small network."""
    for things in (model.graph.node, model.graph.input, model.graph.output, model.graph.value_info):
        for thing in things:
            thing.doc_string = ""
            del thing.metadata_props[:]
    for initializer in model.graph.initializer:
        del initializer.metadata_props[:]


def open_onnx(path: Path) -> LoadedModel:
    """Load an ONNX model to run on the CPU, with as many threads as torch uses."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (name,) = (i.name for i in session.get_inputs())
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's warnings about packages that it does not need, and about its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(before)


# --- torch.export -------------------------------------------------------------------------------------------------------


def _write_program(graph: ExportGraph, about: ModelDescription, example: Tensor, path: Path) -> None:
    with _quiet():
        program = torch.export.export(graph.module, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        torch.export.save(program, path, extra_files={METADATA_KEY: about.to_json()})


def _open_program(path: Path) -> LoadedModel:
    with _quiet():
        return torch.export.load(path).module()


# --- safetensors --------------------------------------------------------------------------------------------------------


def _write_weights(graph: ExportGraph, about: ModelDescription, example: Tensor, path: Path) -> None:
    del example
    save_weights(path, graph.module.state_dict(), {METADATA_KEY: about.to_json()})


def _open_weights(path: Path) -> LoadedModel:
    return load(path)


TARGETS: dict[str, Target] = {
    "onnx": Target(".onnx", "onnxruntime", ("onnx", "onnxscript", "onnxruntime"), _write_onnx, open_onnx),
    "torch-export": Target(".pt2", "torch", (), _write_program, _open_program),
    "safetensors": Target(".safetensors", "oche", (), _write_weights, _open_weights),
}


@dataclass(frozen=True)
class Exported:
    """An exported file and its measurements."""

    path: Path
    bytes: int
    difference: float
    """largest difference to the trained network's output, before any quantisation"""
    images: int
    """number of images on which the difference was measured"""
    latency: dict[int, float]
    """batch size → milliseconds"""
    accuracy: tuple[float, float] | None
    """with int8: accuracy before and after quantisation"""
    card: Path | None = None
    """the model card beside it"""

    @property
    def size(self) -> str:
        """Size of the file: "119.3 kB"."""
        return f"{self.bytes / 1000:,.1f} kB"
