"""Recipes for the final network of an image cell: its size and its training (1806.09055 §3.1.2 and appendix A; the
seed's §4.3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Any, ClassVar, Protocol

import torch

from oche.core.architecture import Genotype
from oche.core.arguments import checked
from oche.core.budget import Budget
from oche.core.errors import OcheError
from oche.core.genotypes import resolve
from oche.core.optimizers import Sgd
from oche.core.registry import component
from oche.core.schedules import Exponential, OneCycle
from oche.data import Augment, Dataset
from oche.data.augment.mixup_cutmix import Mixing
from oche.data.augment.policies import Policy
from oche.devices.engine import Engine
from oche.devices.mixed_precision import Precision, with_precision
from oche.networks.build import FinalNetwork, build, network_sizes
from oche.networks.macro import Stem, Widen
from oche.training.gradient_check import check_bf16_gradients
from oche.training.image_batches import check_split


class Seen(Protocol):
    """What a network must know about its input images. `oche.data.Dataset` provides it."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def channels(self) -> int: ...

    @property
    def image(self) -> tuple[int, int]: ...


@component
@dataclass(frozen=True)
class Recipe:
    """The size and the training of a final network. Defaults are DARTS' for CIFAR-10."""

    domain: ClassVar[str] = "images"  #: the kind of data that its networks take
    former: ClassVar[Mapping[str, Any]] = {"freeze": 0.0, "taken_lr": 1.0}  # new fields, which records of 0.1 lack

    channels: int = 36
    """width of a cell before the first reduction"""
    cells: int = 20
    """cells in the network; for NAS-Bench-201, in each of its three stages"""
    stem: Stem = "cifar"
    """cifar: one 3x3 convolution; imagenet: three of stride 2; none: the image enters the first cell"""
    reductions: tuple[int, ...] | None = None
    """cells that halve the map; by default the ⌊N/3⌋-th and the ⌊2N/3⌋-th"""
    widen: Widen = "at"
    """whether width doubles in the reduction cell, or in the cell after it"""
    head: tuple[int, ...] = ()
    """hidden widths of an MLP on the flattened map; empty: global pooling and one linear layer"""
    w: Sgd = Sgd()
    """optimiser"""
    ema: float = 0.0
    """decay per step of the exponential moving average of the weights, which is tested and kept; 0: no average"""
    batch: int = 96
    """images in a step, over all ranks where there are several"""
    accumulate: int = 1
    """parts that a batch is split into if it does not fit into memory; their gradients are added up, and BatchNorms normalise by
    each part"""
    lr_batch: int | None = None
    """batch size that the learning rate is for; other sizes scale it in proportion (1706.02677); None: no scaling"""
    split: float = 1.0
    """share of the training set to train on; below 1 the rest validates, and the test images stay unseen (0.5: as a search)"""
    epochs: int = 600
    """passes over the training set"""
    steps: int | None = None
    """length in steps instead of epochs"""
    budget: str | None = None
    """length in time instead of epochs: 90s, 10m, 1h30m"""
    drop_path: float = 0.2
    """probability of dropping an edge's output at the end of training; it rises linearly from 0"""
    auxiliary: float = 0.4
    """weight of the auxiliary tower's loss; 0: no tower"""
    label_smoothing: float = 0.0
    """share of the target spread evenly over all classes"""
    mixup: float = 0.0
    """alpha of mixup: images are weighted means of two (see oche.data.augment.mixup_cutmix); 0: off"""
    cutmix: float = 0.0
    """alpha of CutMix: a rectangle of each image comes from another; 0: off"""
    augment: Policy | None = None
    """TrivialAugment or RandAugment (see oche.data.augment.policies); None: crops, flips and cutout only"""
    cutout: int | None = None
    """side of the square erased from each training image; by default half the image for photographs, none for digits"""
    pad: int | None = None
    """random crops after padding by this many pixels; by default what suits the data"""
    crop: tuple[float, float] | None = None
    """instead of padding: least and largest area of a random crop, as shares of the image; crops are scaled back to the image's
    size; for photographs of varying scale (published for ImageNet: 0.08 1)"""
    flip: bool | None = None
    """random horizontal flips; by default what suits the data"""
    precision: Precision = "float32"
    """bf16: convolutions in bfloat16, with weights, sums and losses in float32; quicker on GPUs, and for dense convolutions on
    processors that compute in it (AVX512-BF16, AMX)"""
    evaluate: int = 1
    """test (or validate) after every so many epochs, and at the end"""
    freeze: float = 0.0
    """with --init: share of the training at its beginning in which the weights taken from the other network stay fixed"""
    taken_lr: float = 1.0
    """with --init: learning rate of the weights taken from the other network, as a share of that of new ones"""

    def __post_init__(self) -> None:
        for name, (fits, allowed) in self._ranges.items():
            if not fits:
                raise OcheError(f"{name}={getattr(self, name)!r} cannot train; use {allowed}")
        if self.auxiliary and self.batch < 2 * self.accumulate:
            found = f"batch={self.batch}" + (f" in {self.accumulate} parts" if self.accumulate > 1 else "")
            raise OcheError(
                f"{found} gives the auxiliary tower's BatchNorm nothing to normalise; use batch >= {2 * self.accumulate} "
                "or auxiliary=0"
            )
        if not 1 <= self.accumulate <= self.batch:
            raise OcheError(
                f"accumulate={self.accumulate} cannot cut a batch of {self.batch}; use 1 <= accumulate <= batch"
            )
        _ = self.length, Augment(crop=self.crop)  # raise for invalid values

    @property
    def _ranges(self) -> dict[str, tuple[bool, str]]:
        """Return, for each field, whether its value is valid and which values are."""
        return {
            "drop_path": (0 <= self.drop_path < 1, "0 <= drop_path < 1"),
            "label_smoothing": (0 <= self.label_smoothing < 1, "0 <= label_smoothing < 1"),
            "ema": (0 <= self.ema < 1, "0 <= ema < 1"),
            "mixup": (0 <= self.mixup < inf, "mixup >= 0"),
            "cutmix": (0 <= self.cutmix < inf, "cutmix >= 0"),
            "lr_batch": (self.lr_batch is None or self.lr_batch >= 1, "lr_batch >= 1 or None"),
            "precision": (self.precision in ("float32", "bf16"), "'float32' or 'bf16'"),
            "split": (0 < self.split <= 1, "0 < split <= 1"),
            "auxiliary": (0 <= self.auxiliary < inf, "auxiliary >= 0"),
            "batch": (self.batch >= 1, "batch >= 1"),
            "evaluate": (self.evaluate >= 1, "evaluate >= 1"),
            "freeze": (0 <= self.freeze <= 1, "0 <= freeze <= 1"),
            "taken_lr": (0 < self.taken_lr < inf, "taken_lr > 0"),
            "cutout": ((self.cutout or 0) >= 0, "cutout >= 0"),
            "pad": ((self.pad or 0) >= 0, "pad >= 0"),
        }

    @property
    def length(self) -> Budget:
        """The length of the training, in epochs, steps or time."""
        return Budget.of(self.epochs, self.steps, self.budget)

    @property
    def descent(self) -> Sgd:
        """The optimiser's settings, with the learning rate scaled to this ``batch``."""
        if self.lr_batch is None:
            return self.w
        share = self.batch / self.lr_batch
        return replace(self.w, lr=self.w.lr * share, lr_min=self.w.lr_min * share)

    @property
    def mixing(self) -> Mixing | None:
        """How the images of a batch are mixed, or None."""
        return Mixing(self.mixup, self.cutmix) if self.mixup or self.cutmix else None

    def network(self, genotype: Genotype, data: Seen) -> FinalNetwork:
        """Build the network of ``genotype`` for the images of ``data``. Drop path starts at 0."""
        sizes = {name: getattr(self, name) for name in network_sizes(genotype)}
        return build(
            genotype, classes=len(data.classes), auxiliary=self.auxiliary > 0, in_channels=data.channels, image=data.image,
            **sizes,
        )  # fmt: skip

    def check(self, genotype: str, data: Dataset, engine: Engine | None = None) -> None:
        """Raise `OcheError` if the network of ``genotype`` (text or published name) cannot be trained with this
        recipe on ``data``.

        ``engine``: the device to check bfloat16 gradients on; None skips that check.
        """
        if self.split < 1:
            check_split(self.split, len(data.train))
        self.augmentation(data)
        if engine is None or self.precision == "float32":
            with torch.device("meta"):  # no weights are made
                self.network(resolve(genotype), data)
        else:
            net = self.network(resolve(genotype), data)
            engine = with_precision(engine, self.precision)
            check_bf16_gradients(engine.place(net), (self.at_once(engine), data.channels, *data.image), engine)

    def at_once(self, engine: Engine) -> int:
        """Return the number of images in one forward pass on each process of ``engine``."""
        return max(1, self.batch // (engine.processes.world_size * self.accumulate))

    def augmentation(self, data: Dataset) -> Augment:
        """Return the data's own augmentation with this recipe's changes. Raises `OcheError` if a cutout can erase a
        whole image.
        """
        default, side = data.augment, min(data.image)
        flips = default.flip if self.flip is None else self.flip
        cutout = self.cutout if self.cutout is not None else (side // 2 if default.flip else 0)
        if cutout >= side:
            raise OcheError(
                f"cutout={cutout} can erase whole images of {data.image}; use cutout < {side}, often {side // 2}"
            )
        pad = default.pad if self.pad is None else self.pad
        return Augment(pad=pad, flip=flips, cutout=cutout, crop=self.crop, policy=self.augment)


@checked
def darts(**fields) -> Recipe:
    """The published setting: 20 cells, C = 36, 600 epochs, batch 96, cutout 16, drop path 0.2, auxiliary tower 0.4."""
    return replace(Recipe(), **fields)


@checked
def modern(**fields) -> Recipe:
    """The published network in a tenth of the epochs: a one-cycle rate, label smoothing and an average of the weights.

    60 epochs, Nesterov momentum, rate 0 → 0.3 → 0 for batches of 96 and in proportion for others, smoothing 0.1, no
    drop path, no auxiliary tower. docs/training.md says what was measured and what was left out.
    """
    w = Sgd(lr=0.3, schedule=OneCycle(), nesterov=True)
    short = dict(epochs=60, w=w, lr_batch=96, label_smoothing=0.1, ema=0.999, drop_path=0.0, auxiliary=0.0)
    return replace(Recipe(), **{**short, **fields})


@checked
def seed(**fields) -> Recipe:
    """The seed document's final network and training (its §4.3, Figure 9, Table 4): 14 cells, C = 16, no extras."""
    plain = dict(drop_path=0.0, auxiliary=0.0, cutout=0, w=Sgd(clip=0.0), batch=128)
    shape = dict(channels=16, cells=14, stem="none", widen="after", head=(4096, 1024, 256))
    return replace(Recipe(), **{**plain, **shape, **fields})


@checked
def small(**fields) -> Recipe:
    """For two CPU cores and small images: 5 cells, C = 16, 30 epochs, without tower and drop path."""
    size = dict(channels=16, cells=5, epochs=30, batch=64, drop_path=0.0, auxiliary=0.0, w=Sgd(lr=0.05))
    return replace(Recipe(), **{**size, **fields})


@checked
def nb201(**fields) -> Recipe:
    """The training of NAS-Bench-201 (2001.00326 Table 1): C = 16, 3 stages of 5 cells, 200 epochs, batch 256, rate 0.1 to 0,
    Nesterov momentum.
    """
    size = dict(channels=16, cells=5, epochs=200, batch=256, w=Sgd(lr=0.1, decay=5e-4, clip=0.0, nesterov=True))
    return replace(Recipe(), **{**size, **dict(drop_path=0.0, auxiliary=0.0, cutout=0), **fields})


@checked
def imagenet_mobile(**fields) -> Recipe:
    """The published setting for ImageNet at 224 x 224 (1806.09055 §A.3): 14 cells, C = 48, under 600 M multiply-adds,
    250 epochs.

    Deviation 3 from the published code: no colour jitter, which ``augment`` can add; the test uses the whole image,
    as it was read. Deviation 4: BatchNorm in the auxiliary tower (`oche.networks.cell_network.AuxiliaryHead`).
    """
    size = dict(
        channels=48, cells=14, stem="imagenet", epochs=250, batch=128, drop_path=0.0, cutout=0, crop=(0.08, 1.0)
    )
    w = Sgd(lr=0.1, lr_min=0.1 * 0.97**250, schedule=Exponential(), decay=3e-5)
    return replace(Recipe(), **{**size, **dict(w=w, label_smoothing=0.1), **fields})


@checked
def chain(**fields) -> Recipe:
    """For chains of blocks, whose genotype says their size: 300 epochs, batch 256, rate 0.05 to 0, Nesterov momentum, smoothing.

    Much as mobile networks are trained for ImageNet: decay 4e-5 and none on BatchNorms, no drop path, no cutout.
    """
    w = Sgd(lr=0.05, decay=4e-5, decay_norms=False, clip=0.0, nesterov=True)
    plain = dict(epochs=300, batch=256, lr_batch=256, drop_path=0.0, auxiliary=0.0, cutout=0, label_smoothing=0.1, w=w)
    return replace(Recipe(), **{**plain, **fields})


@checked
def chain_small(**fields) -> Recipe:
    """For chains of blocks and small images, on two CPU cores: 30 epochs, batch 64."""
    return chain(**{**dict(epochs=30, batch=64, lr_batch=64), **fields})


RECIPES: dict[str, Callable[..., Recipe]] = {
    "darts": darts, "modern": modern, "seed": seed, "small": small, "nb201": nb201, "imagenet-mobile": imagenet_mobile,
    "chain": chain, "chain-small": chain_small,
}  # fmt: skip
