"""Use a trained network: `oche export` and `oche predict`."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from oche.cli.common import Path_, part, say_next, simple
from oche.core.console import Log


@dataclass(frozen=True)
class ExportArgs:
    run: Path_
    """directory of a finished training"""
    to: Literal["onnx", "torch-export", "safetensors"] = "onnx"
    """onnx, torch-export: a graph that runs without oche; safetensors: weights that oche.load reads"""
    out: Path | None = None
    """file to write; by default export/model.onnx, model.pt2 or model.safetensors in the run's directory"""
    input: Literal["normalised", "uint8-nchw", "uint8-nhwc", "values-nchw", "values-nhwc"] = "normalised"
    """normalised: normalised floats in, logits out; uint8-nchw, uint8-nhwc: pixels of that layout in, probabilities out;
    values-nchw, values-nhwc: the same for pixel values as floats, for networks trained on 16-bit images, say"""
    size: int | None = None
    """side of the images that the graph takes; by default that of the training"""
    fold: bool = True
    """fold each BatchNorm into the convolution before it"""
    int8: bool = False
    """quantise to 8 bits, with ranges measured on training images (onnx only)"""
    tolerance: float = 1e-4
    """largest accepted difference between the outputs of the file and of the trained network"""
    data: str | None = None
    """place of the run's data, if they have moved; --to safetensors needs none"""
    data_dir: Path | None = None
    """folder with archives downloaded by hand, used instead of downloads"""
    damaged: Literal["refuse", "skip"] | None = None
    """what to do about images that cannot be decoded; by default as the run did"""
    card: bool = True
    """write a model card too: README.md, or OUT.md beside --out"""
    overwrite: bool = False
    """replace an existing file, and a model card that somebody has edited"""
    quiet: bool = False
    """print warnings only"""


def export(args: list[str]) -> int:
    from oche.deploy.export import TARGETS, Export
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
    log = Log(quiet=given.quiet)
    done = write(
        given.run, part(given, Export), out=given.out, overwrite=given.overwrite, card=given.card, data=given.data,
        data_dir=given.data_dir, damaged=given.damaged, log=log,
    )  # fmt: skip
    if given.to == "safetensors":
        say_next(
            log, (f"oche predict {shlex.quote(str(done.path))} YOUR/IMAGES", "a CSV of classes for a folder of images")
        )
    else:
        card = f"; {done.card} has the lines that load it" if done.card else ""
        log.say(f"next: run {done.path} in {TARGETS[given.to].reader}{card}")
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
