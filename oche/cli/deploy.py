"""A trained network in use: `oche export` and `oche predict`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from oche.cli.common import Path_, part, simple
from oche.core.console import Log


@dataclass(frozen=True)
class ExportArgs:
    run: Path_
    """directory of a finished training"""
    to: Literal["onnx", "torch-export", "safetensors"] = "onnx"
    """onnx and torch-export: a graph that needs no oche; safetensors: weights that oche.load reads"""
    out: Path | None = None
    """file to write; by default export/model.onnx, .pt2 or .safetensors in the run's directory"""
    input: Literal["normalised", "uint8-nchw", "uint8-nhwc"] = "normalised"
    """normalised: floats in, logits out; uint8: images as they are in, in this layout, probabilities out"""
    size: int | None = None
    """side of the images that the graph takes; by default as trained"""
    fold: bool = True
    """whether BatchNorms become part of the convolutions before them"""
    int8: bool = False
    """quantise to 8 bits, ranges measured on training images (onnx)"""
    tolerance: float = 1e-4
    """largest difference to the trained network that is let through"""
    card: bool = True
    """whether a model card (README.md, or OUT.md beside --out) goes with it"""
    overwrite: bool = False
    """replace a file of that name, and a card that somebody has changed"""
    quiet: bool = False
    """say nothing but warnings"""


def export(args: list[str]) -> int:
    from oche.deploy.export import Export
    from oche.deploy.export import export as write

    given = simple(
        ExportArgs,
        args,
        "export",
        "Writes the network of a finished training to a file, without what only training needs, and checks on images of the run "
        "that the file gives the network's own numbers. Batches may be of any size.",
        "oche export runs/x/train                                   ONNX\n"
        "  oche export runs/x/train --input uint8-nhwc --int8         pixels in, probabilities out, 8 bits\n"
        "  oche export runs/x/train --to torch-export --out x.pt2\n"
        "  oche export runs/x/train --to safetensors",
    )
    write(
        given.run,
        part(given, Export),
        out=given.out,
        overwrite=given.overwrite,
        card=given.card,
        log=Log(quiet=given.quiet),
    )
    return 0


@dataclass(frozen=True)
class PredictArgs:
    run: Path_
    """directory of a finished training, or a file of oche export --to safetensors"""
    folder: Path_
    """folder of images; those in folders below it too"""
    out: Path = Path("predictions.csv")
    """file to write"""
    top: int = 3
    """classes an image, the likeliest first"""
    batch: int = 256
    """images at once"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps"""
    overwrite: bool = False
    """replace a file of that name"""
    quiet: bool = False
    """say nothing but warnings"""


def predict(args: list[str]) -> int:
    from oche.deploy.predict import predict as classify

    given = simple(
        PredictArgs,
        args,
        "predict",
        "Classifies the images of a folder and writes a CSV file: file, class, probability, and the next likeliest classes.",
        "oche predict runs/x/train my/images --out predictions.csv",
    )
    classify(
        given.run, given.folder, out=given.out, top=given.top, batch=given.batch, device=given.device,
        overwrite=given.overwrite, log=Log(quiet=given.quiet),
    )  # fmt: skip
    return 0
