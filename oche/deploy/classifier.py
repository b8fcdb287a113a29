"""A trained network ready for use, with the normalisation of its images; loaded from a run or from an exported file.

Shapes: B images, C channels, H × W pixels, K classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from oche.core.architecture import Genotype
from oche.core.config.serialize import from_dict, to_dict
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.data import prepare
from oche.devices.engine import Engine
from oche.networks.backbone import Backbone
from oche.networks.build import FinalNetwork
from oche.networks.fuse_batchnorm import fuse_batchnorm
from oche.runs.checkpoint import load_weights, weights_metadata
from oche.runs.plan import METADATA_KEY, load_data
from oche.runs.run import Run
from oche.training.image_recipes import Recipe


@dataclass(frozen=True)
class ModelDescription:
    """How a trained network is built, and the form of the images that it was trained on."""

    genotype: str
    recipe: Recipe
    classes: tuple[str, ...]
    channels: int
    image: tuple[int, int]
    """(H, W)"""
    mean: tuple[float, ...]
    """of each channel, in units of [0, 1]"""
    std: tuple[float, ...]
    fold: bool = False
    """whether BatchNorms are fused into the convolutions before them"""

    def __post_init__(self) -> None:
        if not len(self.mean) == len(self.std) == self.channels or not all(0 < s < inf for s in self.std):
            raise OcheError(
                f"mean={self.mean}, std={self.std} do not normalise images of {self.channels} channels; give one number each "
                "per channel, deviations above 0"
            )

    def network(self) -> FinalNetwork:
        """Build the network with new weights, in evaluation mode, without the auxiliary tower, which only training needs."""
        net = replace(self.recipe, auxiliary=0.0).network(Genotype.parse(self.genotype), self).eval()
        return fuse_batchnorm(net) if self.fold else net

    def to_json(self) -> str:
        """Write a text that `from_json` reads without loss."""
        return json.dumps(to_dict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, where: str) -> ModelDescription:
        """Read the text of `to_json`. Raises an `OcheError` that names ``where``."""
        try:
            return from_dict(cls, json.loads(text), where)
        except json.JSONDecodeError as error:
            raise OcheError(
                f"{where} has no description of its model that can be read ({error}); export it again"
            ) from None


class Classifier(nn.Module):
    """Maps normalised images (B, C, H, W) to logits (B, K); `probabilities` maps uint8 images to probabilities.

    A network that pools globally takes images of other sizes than ``image`` too, but its accuracy on them has not been measured;
    a network with an MLP head raises `OcheError` for them.
    """

    def __init__(self, net: nn.Module, about: ModelDescription) -> None:
        super().__init__()
        self.net, self.about = net, about
        self.classes, self.mean, self.std, self.image = about.classes, about.mean, about.std, about.image

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        return self.net(x)

    def _check(self, x: Tensor) -> None:
        about = self.about
        if not x.is_floating_point():
            raise OcheError(
                f"images are {x.dtype}, and the network takes normalised floats; write net(net.prepare(images))"
            )
        if x.dim() != 4 or x.shape[1] != about.channels:
            raise OcheError(f"images are {tuple(x.shape)}; the network takes (B, {about.channels}, {_by(self.image)})")
        check_size(about, (x.shape[2], x.shape[3]))

    def prepare(self, images: Tensor) -> Tensor:
        """Normalise uint8 images (B, C, H, W) to float32 of the same shape, on their device."""
        return prepare(images, self.mean, self.std)

    def features(self, out_indices: Sequence[int] | None = None) -> Backbone:
        """Return a backbone of feature maps, as ``oche.build(…, features=True)`` does, that shares this network's parameters."""
        assert isinstance(self.net, FinalNetwork)
        return Backbone(self.net, out_indices).train(self.training)

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """Return class probabilities (B, K) of uint8 images (B, C, H, W), as `oche.data` has them."""
        return self(self.prepare(images)).softmax(1)


def check_size(about: ModelDescription, size: tuple[int, int]) -> None:
    """Raise `OcheError` where the network cannot take images of ``size`` (H, W)."""
    if about.recipe.head and size != about.image:
        raise OcheError(
            f"images are {_by(size)}, and the MLP head of this network takes {_by(about.image)} only; "
            "scale them, or train with head=() for a network that pools"
        )
    if min(size) < 8:
        raise OcheError(f"images are {_by(size)}; the network needs 8 pixels a side: scale them to {_by(about.image)}")


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


# --- loading ------------------------------------------------------------------------------------------------------------


def load(what: Run | str | Path, device: str = "cpu") -> Classifier:
    """Load the network of a finished training, or of a file from ``oche export --to safetensors``, in evaluation mode.

    ``device``: as in a configuration. Raises `OcheError` where there is no network, or its files do not belong together.
    """
    engine = Engine(device)
    _ = engine.device  # raises for a wrong device before anything is read
    if isinstance(what, Run) or Path(what).is_dir():
        about, file = describe_run((what if isinstance(what, Run) else Run.open(what)).trained())
    else:
        about, file = _about_file(Path(what))
    try:
        net = about.network()
    except OcheError as error:
        raise OcheError(f"the network of {file} cannot be built: {error}") from None
    load_state(net, load_weights(file), file, about.classes)
    return Classifier(engine.place(net), about).eval()


def describe_run(run: Run) -> tuple[ModelDescription, Path]:
    """Return the description of the network of ``run`` and the file of its weights.

    Raises `OcheError` unless ``run`` is a finished training of a classifier.
    """
    check_finished(run)
    if not isinstance(run.config.train, Recipe):
        raise OcheError(
            f"{run.path} trained a language model, not a classifier; measure it with: oche evaluate {run.path}"
        )
    config, facts = run.config, run._json("space.json")
    file, genotype = run.path / "weights.safetensors", str(run.genotype)
    written = weights_metadata(file).get("genotype", genotype)
    if written != genotype:  # shapes alone do not tell operations without weights apart, such as pools
        raise OcheError(f"{file} belongs to another genotype than {run.path / 'genotype.txt'} has; restore one of them")
    missing = {"classes", "in_channels", "image"} - facts.keys()
    if missing:
        raise OcheError(f"{run.path / 'space.json'} lacks {', '.join(sorted(missing))}; restore it or train again")
    about = ModelDescription(
        genotype, config.train, tuple(facts["classes"]), facts["in_channels"], (facts["image"][0], facts["image"][1]),
        *_moments(config, facts),
    )  # fmt: skip
    return about, file


def check_finished(run: Run) -> None:
    """Raise `OcheError` unless ``run`` is a complete training."""
    if run.kind != "train":
        below = sorted(p.parent for p in run.path.glob("train*/status.json"))
        instead = f"give the training in it, {below[0]}" if below else f"train first: oche train {run.path}"
        raise OcheError(f"{run.path} is a {run.kind} run, which leaves no final network; {instead}")
    if run.state != "complete":
        raise OcheError(f"{run.path} is not complete ({run.state}); go on with: oche resume {run.path}")


def _moments(config: Any, facts: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of the training images; runs of old versions did not keep them: measure again."""
    if "mean" in facts and "std" in facts:
        return tuple(facts["mean"]), tuple(facts["std"])

    data = load_data(config, Log(quiet=True))
    return data.mean, data.std


def _about_file(path: Path) -> tuple[ModelDescription, Path]:
    text = weights_metadata(path).get(METADATA_KEY)
    if text is None:
        raise OcheError(
            f"{path} holds weights without their network; give the directory of the run, "
            "or a file of oche export --to safetensors"
        )
    return ModelDescription.from_json(text, str(path)), path


def load_state(net: nn.Module, tensors: Mapping[str, Tensor], file: Path, classes: tuple[str, ...]) -> None:
    """Load ``tensors``, without those of an auxiliary tower, into ``net``. Raises `OcheError` where they do not fit."""
    own = net.state_dict()
    given = {name: t for name, t in tensors.items() if not name.startswith("auxiliary.")}
    last = [*own][-1]  # the classifier's bias (K,)
    if last in given and len(given[last]) != len(classes):
        raise OcheError(
            f"{file} classifies {len(given[last])} classes, and its run names {len(classes)}; "
            "restore the weights that belong to it, or train again"
        )
    for name in sorted(own.keys() | given.keys()):
        found, wanted = (tuple(t[name].shape) if name in t else "nothing" for t in (given, own))
        if found != wanted:
            raise OcheError(
                f"{file} does not fit the network of its configuration: {name} is {found} in the file, {wanted} in the "
                "network; restore the weights, genotype.txt and config.yaml of one run"
            )
    net.load_state_dict(given)
