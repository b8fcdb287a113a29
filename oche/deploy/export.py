"""Export of a trained network to ONNX, a torch.export program, or a file of weights.

An exported file is read back and compared with the trained network on images of the run's data before it is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from oche.core.atomic_files import write_bytes
from oche.core.console import Log
from oche.core.errors import OcheError, did_you_mean
from oche.core.seeds import derive_seed as fold_seed
from oche.data import Dataset, Split, batches, halves
from oche.deploy.classifier import Classifier, check_size, load
from oche.deploy.export_graph import BATCH, ExportGraph, Input, largest_difference, measure_accuracy, measure_latency
from oche.deploy.model_card import ModelCard
from oche.deploy.quantize import quantise
from oche.deploy.targets import TARGETS, Exported, Target
from oche.runs.plan import load_data
from oche.runs.run import Run

__all__ = ["TARGETS", "Disagreement", "Export", "Exported", "export"]

CHECKED, CALIBRATION = 256, 512  # images on which the export is checked, and on which quantisation measures ranges


class Disagreement(OcheError):
    """The outputs of the exported model differ from those of the trained network."""

    exit_code = 1


@dataclass(frozen=True)
class Export:
    """Options of an export."""

    to: str = "onnx"
    """onnx, torch-export or safetensors"""
    input: Input = "normalised"
    """normalised floats in and logits out, or uint8 images in and probabilities out"""
    size: int | None = None
    """side of the images that it takes; by default as trained"""
    fold: bool = True
    """whether BatchNorms are fused into the convolutions before them"""
    int8: bool = False
    """quantise weights and activations to 8 bits (onnx)"""
    tolerance: float = 1e-4
    """largest allowed difference to the trained network's output, before any quantisation"""

    def check(self) -> Target:
        """Return the target. Raises `OcheError` for options that do not fit together, or a package that is missing."""
        if self.to not in TARGETS:
            raise OcheError(
                f"no export to {self.to!r}{did_you_mean(self.to, [*TARGETS])}; write --to {', '.join(TARGETS)}"
            )
        if self.int8 and self.to != "onnx":
            raise OcheError(f"--int8 goes through onnxruntime, and the target is {self.to}; write --to onnx")
        if self.to == "safetensors" and (self.input != "normalised" or self.size is not None):
            raise OcheError(
                "a safetensors file holds weights and no graph that --input or --size could change; "
                "leave them out, or write --to onnx"
            )
        if not self.tolerance >= 0:
            raise OcheError(f"tolerance={self.tolerance} allows no difference; use 0 or more, usually 1e-4")
        target = TARGETS[self.to]
        target.check(self.to)
        return target


def export(
    what: Run | str | Path,
    how: Export = Export(),
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    card: bool = True,
    log: Log | None = None,
) -> Exported:
    """Export the network of the finished training ``what`` to ``out``, by default export/model.SUFFIX in its directory.

    ``card``: whether to write a model card beside it, with drawings of the cells: README.md in export/, elsewhere OUT.md.

    Raises `OcheError` before any work where the options do not fit, or the file exists and ``overwrite`` is not set, and
    `Disagreement` where the file read back differs from the trained network by more than the tolerance; then no file is
    written or replaced.
    """
    log = log or Log(quiet=True)
    target = how.check()
    run = (what if isinstance(what, Run) else Run.open(what)).trained()
    path = Path(out) if out else run.path / "export" / f"model{'.int8' if how.int8 else ''}{target.suffix}"
    check_out(path, overwrite)
    about = ModelCard(run, path, own_folder=out is None) if card else None
    if about is not None:
        about.check(overwrite)
    classifier = load(run)
    size = classifier.image if how.size is None else (how.size, how.size)
    check_size(classifier.about, size)
    data = _data(run, how, log)
    _say_size(classifier, size, log)
    graph = ExportGraph.of(classifier, how.input, size, how.fold)
    with TemporaryDirectory(prefix="oche-export-") as folder:
        train, held = _parts(data, run)
        done = _export(graph, how, target, data, (train, held), Path(folder) / f"model{target.suffix}", log)
        write_bytes(path, done.path.read_bytes())
    done = replace(done, path=path, card=None if about is None else about.path)
    if about is not None:
        about.write(done, graph, target, len(held))
    _say(done, graph, target.reader, log)
    return done


def check_out(path: Path, overwrite: bool) -> None:
    """Raise `OcheError` where no file can be written to ``path``."""
    if path.is_dir():
        raise OcheError(f"{path} is a folder; give the name of a file with --out")
    if path.exists() and not overwrite:
        raise OcheError(f"{path} exists already; write --overwrite to replace it, or choose another --out")


# --- the run's images ---------------------------------------------------------------------------------------------------


def _data(run: Run, how: Export, log: Log) -> Dataset:
    """Return the images that ``run`` was trained on, at the size of the export."""
    config = run.config if how.size is None else replace(run.config, size=how.size)
    return load_data(config, log)


def _parts(data: Dataset, run: Run) -> tuple[Split, Split]:
    """Return (training images, held-out images); held out are the training's own part, or the test images.

    Data without either have their training images in both places.
    """
    recipe = run.config.train
    if recipe.split < 1:
        return halves(data.train, recipe.split, fold_seed(run.config.seed, "halves"))
    return data.train, data.train if data.test is None else data.test


def _say_size(classifier: Classifier, size: tuple[int, int], log: Log) -> None:
    if size != classifier.image:
        trained, asked = (f"{h}x{w}" for h, w in (classifier.image, size))
        log.say(
            f"trained on {trained}, exported for {asked}: the network pools, so it works; its accuracy at that size is not known"
        )


# --- writing, reading back, measuring -----------------------------------------------------------------------------------


def _export(
    graph: ExportGraph, how: Export, target: Target, data: Dataset, parts: tuple[Split, Split], path: Path, log: Log
) -> Exported:
    """Write the file to ``path``, or beside it with int8, read it back and measure it; the result names the file."""
    train, held = parts
    _check_channels(graph, data)
    images, _ = next(batches(held, CHECKED, seed=0, epoch=0))  # shuffled, because folders list one class after another
    example = graph.feed(
        images[:1].repeat(2, 1, 1, 1)
    )  # with one image the exporter would take the batch size for a constant
    target.write(graph, replace(graph.classifier.about, fold=how.fold), example, path)
    opened = target.open(path)
    difference = largest_difference(graph, opened, images)
    if not difference <= how.tolerance:  # also for nan
        raise Disagreement(
            f"the exported model differs from the trained network by {difference:.3g} on {len(images)} images, and "
            f"{how.tolerance:g} is allowed; nothing was written; try --no-fold, or a larger --tolerance"
        )
    log.say(f"checked on {len(images)} images: largest difference {difference:.2g} (allowed: {how.tolerance:g})")
    done = Exported(path, path.stat().st_size, difference, len(images), measure_latency(opened, graph, images), None)
    return _quantised(graph, target, done, train, held, images, log) if how.int8 else done


def _quantised(
    graph: ExportGraph, target: Target, floats: Exported, train: Split, held: Split, images: Tensor, log: Log
) -> Exported:
    """Quantise the model of ``floats`` to 8 bits, write it beside that one and measure both."""
    path = floats.path.with_suffix(".int8.onnx")
    calibration = next(batches(train, CALIBRATION, seed=0, epoch=0))[0].split(BATCH)
    quantise(floats.path, path, map(graph.feed, calibration))
    opened = target.open(path)
    before, after = (measure_accuracy(graph, o, held) for o in (target.open(floats.path), opened))
    log.say(
        f"in floats: accuracy {100 * before:.2f} %, {floats.size}, {_times(floats.latency)}\n"
        f"in 8 bits: accuracy {100 * after:.2f} % ({len(held)} images; ranges from {sum(map(len, calibration))} "
        "training images)"
    )
    times = measure_latency(opened, graph, images)
    return replace(floats, path=path, bytes=path.stat().st_size, latency=times, accuracy=(before, after))


def _check_channels(graph: ExportGraph, data: Dataset) -> None:
    if data.channels != graph.classifier.about.channels:
        raise OcheError(
            f"{data.name} has images of {data.channels} channels now, and the network takes {graph.classifier.about.channels}; "
            "give the run the data that it was trained on"
        )


def _say(done: Exported, graph: ExportGraph, reader: str, log: Log) -> None:
    kind, shape = graph.layout
    log.say(
        f"{done.path}: {done.size}; images {kind} (batch, {', '.join(map(str, shape))}) to {graph.output} "
        f"(batch, {len(graph.classifier.classes)})\n"
        f"time in {reader}, {torch.get_num_threads()} thread(s) of this CPU: {_times(done.latency)}"
    )
    if done.card is not None:
        log.say(f"model card: {done.card}")


def _times(latency: dict[int, float]) -> str:
    return ", ".join(f"{ms:.3g} ms for {n} image{'s' * (n > 1)}" for n, ms in latency.items())
