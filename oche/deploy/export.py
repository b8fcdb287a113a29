"""Export of a trained network to ONNX, a torch.export program, or a file of weights.

An exported file is read back and compared with the trained network on images of the run's data before it is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch
from torch import Tensor

from oche.core.arguments import checked
from oche.core.atomic_files import write_bytes
from oche.core.console import Log
from oche.core.errors import OcheError, did_you_mean, plural
from oche.core.seeds import generator
from oche.data import Augment, Dataset, Resident, Split, batches
from oche.data.batching import training_halves
from oche.deploy.classifier import Classifier, check_size, load
from oche.deploy.export_graph import (
    BATCH,
    ExportGraph,
    Input,
    check_input,
    largest_difference,
    measure_accuracy,
    measure_latency,
)
from oche.deploy.model_card import ModelCard
from oche.deploy.quantize import quantise
from oche.deploy.targets import TARGETS, Exported, Target
from oche.runs.documents import read_document
from oche.runs.membership import Earlier
from oche.runs.resolve import with_place
from oche.runs.run import Run
from oche.runs.run_data import load_recorded

__all__ = ["TARGETS", "Disagreement", "Export", "Exported", "export"]

CHECKED, CALIBRATION = 256, 512  # images on which the export is checked, and on which quantisation measures ranges


class Disagreement(OcheError):
    """The outputs of the exported model differ from those of the trained network."""

    exit_code = 1


@checked
@dataclass(frozen=True)
class Export:
    """Options of an export."""

    to: str = "onnx"
    """onnx, torch-export or safetensors"""
    input: Input = "normalised"
    """normalised floats in and logits out; or uint8 images, or floats with the pixel values of the training, in and
    probabilities out"""
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


@checked
def export(
    what: Run | str | Path,
    how: Export = Export(),
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    card: bool = True,
    data: str | Path | None = None,
    data_dir: str | Path | None = None,
    damaged: Literal["refuse", "skip"] | None = None,
    log: Log | None = None,
) -> Exported:
    """Export the network of the finished training ``what`` to ``out``, by default export/model.SUFFIX in its directory.

    ``card``: whether to write a model card beside it, with drawings of the cells: README.md in export/, elsewhere OUT.md.
    ``data``, ``data_dir``: the place of the run's data, if they have moved; a file of weights alone needs none. ``damaged``:
    what to do about images that cannot be decoded; None: as the run did.

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
    check_input(classifier, how.input)
    place = data, data_dir, damaged
    images = _noise(classifier) if how.to == "safetensors" else _data(run, how, place, log)
    _say_size(classifier, size, log)
    graph = ExportGraph.of(classifier, how.input, size, how.fold)
    with TemporaryDirectory(prefix="oche-export-") as folder:
        train, held = (images.train, images.train) if how.to == "safetensors" else _parts(images, run)
        done = _export(graph, how, target, images, (train, held), Path(folder) / f"model{target.suffix}", log)
        write_bytes(path, done.path.read_bytes())
    done = replace(done, path=path, card=None if about is None else about.path)
    if about is not None:
        about.write(done, graph, target, _held_images(run) if how.to == "safetensors" else len(held))
    _say(done, graph, target.reader, log)
    return done


@checked
def check_out(path: Path, overwrite: bool) -> None:
    """Raise `OcheError` where no file can be written to ``path``."""
    if path.is_dir():
        raise OcheError(f"{path} is a folder; give the name of a file with --out")
    if path.exists() and not overwrite:
        raise OcheError(f"{path} exists already; write --overwrite to replace it, or choose another --out")


# --- the run's images ---------------------------------------------------------------------------------------------------


def _data(run: Run, how: Export, place: tuple[str | Path | None, str | Path | None, str | None], log: Log) -> Dataset:
    """Return the images that ``run`` was trained on, at the size of the export.

    ``place``: the path of the data, the folder of archives, and what to do about damaged images, each None as in the run.
    """
    config, (data, data_dir, damaged) = run.config, place
    config = with_place(config, data, data_dir)
    if damaged is not None:
        config = replace(config, damaged=damaged)
    return load_recorded(config, log, Earlier.read(run.path, log), "export", how.size)


def _noise(classifier: Classifier) -> Dataset:
    """Return random images of the network's form, to check a file of weights on without the run's data."""
    shape = (CHECKED, classifier.about.channels, *classifier.image)
    images = torch.randint(0, 256, shape, generator=generator(0, "noise"), dtype=torch.uint8)
    split = Resident(images, torch.zeros(CHECKED, dtype=torch.int64))
    return Dataset("noise", split, split, classifier.classes, classifier.mean, classifier.std, Augment())


def _held_images(run: Run) -> int | None:
    """Return the number of images that the accuracy of ``run`` was measured on; None if it is not recorded."""
    images = read_document(run.path / "assessment.json").get("images")
    return images if isinstance(images, int) else None


def _parts(data: Dataset, run: Run) -> tuple[Split, Split]:
    """Return (training images, held-out images); held out are the training's own part, or the test images.

    Data without either have their training images in both places.
    """
    recipe = run.config.train
    if recipe.split < 1:
        return training_halves(data, recipe.split, run.config.seed)
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
    largest = _check_outputs(graph, images)
    target.write(graph, replace(graph.classifier.about, fold=how.fold), example, path)
    opened = target.open(path)
    difference = largest_difference(graph, opened, images)
    if not difference <= how.tolerance:  # also for nan
        raise Disagreement(_disagreement(difference, largest, len(images), how))
    log.say(
        f"checked on {plural(len(images), 'image')}: largest difference {difference:.2g} (allowed: {how.tolerance:g})"
    )
    done = Exported(path, path.stat().st_size, difference, len(images), measure_latency(opened, graph, images), None)
    return _quantised(graph, target, done, train, held, images, log) if how.int8 else done


def _check_outputs(graph: ExportGraph, images: Tensor) -> float:
    """Return the largest output of the trained network on ``images``. Raises `OcheError` if outputs are not finite."""
    expected = torch.cat([graph.expected(piece) for piece in images.split(BATCH)])
    if broken := int((~expected.isfinite()).any(1).sum()):
        raise OcheError(
            f"the outputs of the trained network itself are not finite for {broken} of {len(images)} images of its data, so "
            "nothing was written; train again, with a smaller learning rate or gradient clipping"
        )
    return expected.abs().max().item()


ROUNDING = 1e-2, 1e-4  # largest difference that rounding can explain: absolute, and as a share of the largest output


def _disagreement(difference: float, largest: float, images: int, how: Export) -> str:
    """Return what is wrong with a model that differs by ``difference``; ``largest``: the largest output of the network."""
    what = f"the exported model differs from the trained network by {difference:.3g} on {images} images"
    what = f"{what}, and {how.tolerance:g} is allowed; nothing was written"
    advice = ["--no-fold"] if how.fold else []
    if not isfinite(difference):
        why = "its outputs are not finite, and those of the trained network are"
    elif difference <= max(ROUNDING[0], ROUNDING[1] * largest):
        why = f"outputs reach {largest:.3g}, so rounding may explain it"
        advice.append("a larger --tolerance")
    else:
        why = f"outputs reach {largest:.3g}, so rounding does not explain it: the file computes something else"
    return f"{what}; {why}; try {', or '.join([*advice, 'another --to'])}"


def _quantised(
    graph: ExportGraph, target: Target, floats: Exported, train: Split, held: Split, images: Tensor, log: Log
) -> Exported:
    """Quantise the model of ``floats`` to 8 bits, write it beside that one and measure both."""
    path = floats.path.with_suffix(".int8.onnx")
    calibration = next(batches(train, CALIBRATION, seed=0, epoch=0))[0].split(BATCH)
    quantise(floats.path, path, map(graph.feed, calibration))
    opened = target.open(path)
    if not all(opened(graph.feed(piece)).isfinite().all() for piece in images.split(BATCH)):
        raise Disagreement(
            "the outputs of the model in 8 bits are not finite, and those in floats are; nothing was written; leave --int8 out"
        )
    before, after = (measure_accuracy(graph, o, held) for o in (target.open(floats.path), opened))
    log.say(
        f"in floats: accuracy {100 * before:.2f} %, {floats.size}, {_times(floats.latency)}\n"
        f"in 8 bits: accuracy {100 * after:.2f} % ({plural(len(held), 'image')}; ranges from "
        f"{plural(sum(map(len, calibration)), 'training image')})"
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
        f"time in {reader}, {plural(torch.get_num_threads(), 'thread')} of this CPU: {_times(done.latency)}"
    )
    if done.card is not None:
        log.say(f"model card: {done.card}")


def _times(latency: dict[int, float]) -> str:
    return ", ".join(f"{ms:.3g} ms for {plural(n, 'image')}" for n, ms in latency.items())
