"""A trained network ready for use, with what it must be told of its images: from a run, or from an exported file.

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
from oche.core.config.yaml_files import from_dict, to_dict
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.data import prepare
from oche.devices.engine import Engine
from oche.networks.backbone import Backbone
from oche.networks.build import FinalNetwork
from oche.networks.fuse_batchnorm import folded
from oche.runs.checkpoint import load_weights, weights_metadata
from oche.runs.execute import load_data
from oche.runs.run import Run
from oche.training.image_recipes import Recipe

MODEL = "oche.model"  # key of an exported file's metadata


@dataclass(frozen=True)
class About:
    """How a trained network is built, and on what images it was trained."""

    genotype: str
    recipe: Recipe
    classes: tuple[str, ...]
    channels: int
    image: tuple[int, int]
    """(H, W)"""
    mean: tuple[float, ...]
    """per channel, in [0, 1] units"""
    std: tuple[float, ...]
    fold: bool = False
    """whether BatchNorms are part of the convolutions before them"""

    def __post_init__(self) -> None:
        if not len(self.mean) == len(self.std) == self.channels or not all(0 < s < inf for s in self.std):
            raise OcheError(
                f"mean={self.mean}, std={self.std} do not normalise images of {self.channels} channels; give one number each "
                "per channel, deviations above 0"
            )

    def network(self) -> FinalNetwork:
        """The network with fresh weights, in evaluation mode; without the auxiliary tower, which only training needs."""
        net = replace(self.recipe, auxiliary=0.0).network(Genotype.parse(self.genotype), self).eval()
        return folded(net) if self.fold else net

    def to_json(self) -> str:
        """Text that `from_json` reads; exact."""
        return json.dumps(to_dict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, where: str) -> About:
        """Raises `OcheError` that names ``where``."""
        try:
            return from_dict(cls, json.loads(text), where)
        except json.JSONDecodeError as error:
            raise OcheError(
                f"{where} has no description of its model that can be read ({error}); export it anew"
            ) from None


class Classifier(nn.Module):
    """Maps normalised images (B, C, H, W) to logits (B, K); `prepare` normalises, `probabilities` does both.

    Images of another size than ``image`` pass where the network pools globally, with an accuracy that nobody has measured;
    one with an MLP head refuses them.
    """

    def __init__(self, net: nn.Module, about: About) -> None:
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
        """Normalised float32 (B, C, H, W) of uint8 images (B, C, H, W), on their device."""
        return prepare(images, self.mean, self.std)

    def features(self, out_indices: Sequence[int] | None = None) -> Backbone:
        """Its feature maps, as ``oche.build(…, features=True)`` gives them; the parameters are this network's."""
        assert isinstance(self.net, FinalNetwork)
        return Backbone(self.net, out_indices).train(self.training)

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """(B, K) of uint8 images (B, C, H, W), as `oche.data` gives them."""
        return self(self.prepare(images)).softmax(1)


def check_size(about: About, size: tuple[int, int]) -> None:
    """Raises `OcheError` where the network cannot take images of ``size`` (H, W)."""
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
    """The network of a finished training, or of a file that ``oche export --to safetensors`` wrote, in evaluation mode.

    ``device``: as in a configuration. Raises `OcheError` where there is none, or its parts do not belong together.
    """
    engine = Engine(device)
    _ = engine.device  # refused before anything is read
    if isinstance(what, Run) or Path(what).is_dir():
        about, file = about_run(what if isinstance(what, Run) else Run.open(what))
    else:
        about, file = _about_file(Path(what))
    try:
        net = about.network()
    except OcheError as error:
        raise OcheError(f"the network of {file} cannot be built: {error}") from None
    fill(net, load_weights(file), file, about.classes)
    return Classifier(engine.place(net), about).eval()


def about_run(run: Run) -> tuple[About, Path]:
    """What ``run`` trained, and the file of its weights. Raises `OcheError` unless it is a finished training."""
    check_finished(run)
    if not isinstance(run.config.train, Recipe):
        raise OcheError(
            f"{run.path} trained a language model, which classifies nothing; measure it with: oche evaluate {run.path}"
        )
    config, facts = run.config, run._json("space.json")
    file, genotype = run.path / "weights.safetensors", str(run.genotype)
    written = weights_metadata(file).get("genotype", genotype)
    if written != genotype:  # operations without weights, such as pools, would pass for each other
        raise OcheError(f"{file} belongs to another genotype than {run.path / 'genotype.txt'} has; restore one of them")
    missing = {"classes", "in_channels", "image"} - facts.keys()
    if missing:
        raise OcheError(f"{run.path / 'space.json'} lacks {', '.join(sorted(missing))}; restore it or train anew")
    about = About(
        genotype, config.train, tuple(facts["classes"]), facts["in_channels"], (facts["image"][0], facts["image"][1]),
        *_moments(config, facts),
    )  # fmt: skip
    return about, file


def check_finished(run: Run) -> None:
    """Raises `OcheError` unless ``run`` is a training that came to its end."""
    if run.kind != "train":
        below = sorted(p.parent for p in run.path.glob("train*/status.json"))
        instead = f"give the training in it, {below[0]}" if below else f"train first: oche train {run.path}"
        raise OcheError(f"{run.path} is a {run.kind} run, which leaves no final network; {instead}")
    if run.state != "complete":
        raise OcheError(f"{run.path} is not complete ({run.state}); go on with: oche resume {run.path}")


def _moments(config: Any, facts: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the training images; measured anew for a run from before they were kept."""
    if "mean" in facts and "std" in facts:
        return tuple(facts["mean"]), tuple(facts["std"])

    data = load_data(config, Log(quiet=True))
    return data.mean, data.std


def _about_file(path: Path) -> tuple[About, Path]:
    text = weights_metadata(path).get(MODEL)
    if text is None:
        raise OcheError(
            f"{path} holds weights without their network; give the directory of the run, "
            "or a file of oche export --to safetensors"
        )
    return About.from_json(text, str(path)), path


def fill(net: nn.Module, tensors: Mapping[str, Tensor], file: Path, classes: tuple[str, ...]) -> None:
    """Loads ``tensors`` into ``net``, those of an auxiliary tower left out. Raises `OcheError` where they do not fit."""
    own = net.state_dict()
    given = {name: t for name, t in tensors.items() if not name.startswith("auxiliary.")}
    last = [*own][-1]  # the classifier's bias (K,)
    if last in given and len(given[last]) != len(classes):
        raise OcheError(
            f"{file} classifies {len(given[last])} classes, and its run names {len(classes)}; "
            "restore the weights that belong to it, or train anew"
        )
    for name in sorted(own.keys() | given.keys()):
        found, wanted = (tuple(t[name].shape) if name in t else "nothing" for t in (given, own))
        if found != wanted:
            raise OcheError(
                f"{file} does not fit the network of its configuration: {name} is {found} in the file, {wanted} in the "
                "network; restore the weights, genotype.txt and config.yaml of one run"
            )
    net.load_state_dict(given)
