"""Use a trained network: `oche export` and `oche predict`."""

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
    """onnx, torch-export: a graph that runs without oche; safetensors: weights that oche.load reads"""
    out: Path | None = None
    """file to write; by default export/model.onnx, model.pt2 or model.safetensors in the run's directory"""
    input: Literal["normalised", "uint8-nchw", "uint8-nhwc"] = "normalised"
    """normalised: normalised floats in, logits out; uint8-nchw, uint8-nhwc: pixels of that layout in, probabilities out"""
    size: int | None = None
    """side of the images that the graph takes; by default that of the training"""
    fold: bool = True
    """fold each BatchNorm into the convolution before it"""
    int8: bool = False
    """quantise to 8 bits, with ranges measured on training images (onnx only)"""
    tolerance: float = 1e-4
    """largest accepted difference between the outputs of the file and of the trained network"""
    card: bool = True
    """write a model card too: README.md, or OUT.md beside --out"""
    overwrite: bool = False
    """replace an existing file, and a model card that somebody has edited"""
    quiet: bool = False
    """print warnings only"""


def export(args: list[str]) -> int:
    from oche.deploy.export import Export
    from oche.deploy.export import export as write

    given = simple(
        ExportArgs,
        args,
        "export",
        "Write the network of a finished training to a file, without the parts that only training needs, and check on images of "
        "the run that the file gives the outputs of the network. The batch size stays free.",
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
    """directory of a finished training, or a file written by oche export --to safetensors"""
    folder: Path_
    """folder of images; folders below it are searched too"""
    out: Path = Path("predictions.csv")
    """CSV file to write"""
    top: int = 3
    """number of classes listed for each image, the most likely first"""
    batch: int = 256
    """images in a batch"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps"""
    overwrite: bool = False
    """replace an existing file"""
    quiet: bool = False
    """print warnings only"""


def predict(args: list[str]) -> int:
    from oche.deploy.predict import predict as classify

    given = simple(
        PredictArgs,
        args,
        "predict",
        "Classify the images of a folder and write a CSV file: file, class, probability, and the next most likely classes.",
        "oche predict runs/x/train my/images --out predictions.csv",
    )
    classify(
        given.run, given.folder, out=given.out, top=given.top, batch=given.batch, device=given.device,
        overwrite=given.overwrite, log=Log(quiet=given.quiet),
    )  # fmt: skip
    return 0
