"""A trained network ready for use, with the normalisation of its images; loaded from a run or from an exported file.

Shapes: B images, C channels, H × W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from oche.core.arguments import checked
from oche.core.config.serialize import from_dict
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.data import prepare
from oche.data.pixel_range import AS_BEFORE, PixelRange
from oche.deploy.description import ModelDescription
from oche.deploy.image_values import check_normalised, levels_for
from oche.devices.engine import Engine
from oche.networks.backbone import Backbone
from oche.networks.build import FinalNetwork
from oche.networks.fuse_batchnorm import fuse_batchnorm
from oche.runs.checkpoint import load_weights, weights_metadata
from oche.runs.run import Run
from oche.runs.run_data import load_data
from oche.runs.warm_start import METADATA_KEY
from oche.training.image_recipes import Recipe


class Classifier(nn.Module):
    """Maps normalised images (B, C, H, W) to logits (B, K); `probabilities` maps pixels to probabilities.

    A network that pools globally takes images of other sizes than ``image`` too, but its accuracy on them has not been measured;
    a network with an MLP head raises `OcheError` for them.
    """

    def __init__(self, net: nn.Module, about: ModelDescription) -> None:
        super().__init__()
        self.net, self.about = net, about
        self.classes, self.mean, self.std, self.image = about.classes, about.mean, about.std, about.image

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K) of normalised floats x (B, C, H, W), which are converted to the precision of the weights.

        Raises `OcheError` for all else than such a tensor, on the device of the network.
        """
        return self.net(self._check(x))

    def _check(self, x: Tensor) -> Tensor:
        """Return normalised images in the precision of the weights. Raises `OcheError` where they are no such images."""
        weight = next(self.parameters())
        if not isinstance(x, Tensor):
            raise OcheError(
                f"net(x) takes a torch tensor of normalised floats, found {_kind(x)}; for pixels write "
                "net.probabilities(images), or net(net.prepare(images))"
            )
        if not x.is_floating_point():
            raise OcheError(
                f"images are {x.dtype}, and the network takes normalised floats; write net(net.prepare(images))"
            )
        check_shape(self.about, x)
        if x.device != weight.device:
            raise OcheError(
                f"images are on {x.device} and the network on {weight.device}; write images.to({str(weight.device)!r}), or "
                f"net.to({str(x.device)!r})"
            )
        check_normalised(x, self.mean, self.std)
        return x.to(weight.dtype)

    def _pixels(self, images: Any) -> Tensor:
        """Return images (B, C, H, W) as a tensor; NumPy arrays are converted. Raises `OcheError` for anything else."""
        if isinstance(images, np.ndarray) and images.dtype.kind in "biuf":
            native = images.astype(images.dtype.newbyteorder("="))  # also where it is not contiguous, or read-only
            images = torch.from_numpy(native)
        if not isinstance(images, Tensor):
            batch = "; write torch.stack(images) for a list of tensors" if isinstance(images, list | tuple) else ""
            raise OcheError(
                f"net.prepare takes a tensor or an array (B, C, H, W) of pixels, found {_kind(images)}{batch}"
            )
        check_shape(self.about, images)
        if images.is_meta:
            raise OcheError("images are on the device meta, which holds no values; write images.to('cpu')")
        return images

    def prepare(self, images: Tensor) -> Tensor:
        """Normalise images (B, C, H, W) of the values that the network was trained on to float32, on their device.

        A network for 8-bit images takes uint8, or floats in [0, 1]; see `oche.deploy.image_values.levels_for`. Raises
        `OcheError` for images that it does not take.
        """
        return self.normalise(levels_for(self._pixels(images), self.pixels))

    @property
    def pixels(self) -> PixelRange:
        """The pixel values that the network was trained on."""
        return AS_BEFORE if self.about.pixels is None else self.about.pixels

    def normalise(self, levels: Tensor) -> Tensor:
        """Normalise grey levels, uint8 (B, C, H, W) as `oche.data` has them, to float32 of the same shape, on their device."""
        return prepare(levels, self.mean, self.std)

    def features(self, out_indices: Sequence[int] | None = None) -> Backbone:
        """Return a backbone of feature maps, as ``oche.build(…, features=True)`` does, that shares this network's parameters.

        It takes normalised images, as the network does.
        """
        assert isinstance(self.net, FinalNetwork)
        return Backbone(self.net, out_indices).train(self.training)

    def for_inference(self) -> Classifier:
        """Return a copy for predictions on a CPU: BatchNorms fused into the convolutions before them, weights in channels_last.

        Its outputs are those of this network up to rounding. Later changes of these weights do not reach it.
        """
        net: nn.Module = fuse_batchnorm(self.net)
        for weight in net.parameters():
            weight.requires_grad_(False)
        return Classifier(net.to(memory_format=torch.channels_last), self.about).eval()  # pyright: ignore[reportCallIssue]

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """Return class probabilities (B, K) of images (B, C, H, W) as `prepare` takes them. Raises `OcheError` as it does."""
        return self.probabilities_of(levels_for(self._pixels(images), self.pixels))

    @torch.no_grad()
    def probabilities_of(self, levels: Tensor) -> Tensor:
        """Return class probabilities (B, K) of grey levels, uint8 (B, C, H, W) as `oche.data` has them."""
        return self.net(self.normalise(levels).to(next(self.parameters()).dtype)).softmax(1)


def check_shape(about: ModelDescription, images: Tensor) -> None:
    """Raise `OcheError` unless ``images`` are (B, C, H, W) of a size that the network takes."""
    c, shape = about.channels, tuple(images.shape)
    takes = f"images are {shape}; the network takes (B, {c}, {_by(about.image)})"
    if len(shape) == 4 and shape[1] == c:
        return check_size(about, (shape[2], shape[3]))
    if len(shape) == 4 and shape[3] == c:
        raise OcheError(f"{takes}: the channels are last, write images.permute(0, 3, 1, 2)")
    if len(shape) == 3 and shape[0] == c:
        raise OcheError(f"{takes}: write images[None] for a batch of one image")
    if len(shape) == 3 and shape[2] == c:
        raise OcheError(f"{takes}: one image with its channels last, write images.permute(2, 0, 1)[None]")
    if len(shape) == 3 and c == 1:
        raise OcheError(f"{takes}: grey images without an axis for channels, write images[:, None]")
    if len(shape) == 2 and c == 1:
        raise OcheError(f"{takes}: one grey image, write images[None, None]")
    if len(shape) == 4 and (shape[1] in (1, 3, 4) or shape[3] in (1, 3, 4)):
        found = shape[1] if shape[1] in (1, 3, 4) else shape[3]
        raise OcheError(f"{takes}: they have {found} channels, and it was trained on {c}; convert them first")
    raise OcheError(takes)


def _kind(value: object) -> str:
    """Describe what is no tensor: "a numpy array of float64", "a list", "a PIL image"."""
    if isinstance(value, np.ndarray):
        return f"a numpy array of {value.dtype}"
    if type(value).__module__.startswith("PIL."):
        return "a PIL image"
    return "None" if value is None else f"{'an' if type(value).__name__[0] in 'aeiou' else 'a'} {type(value).__name__}"


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


@checked
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
        genotype, config.train, tuple(facts["classes"]), facts["in_channels"], _side(facts["image"]),
        *_moments(config, facts), pixels=_pixel_range(run, facts),
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


def _side(image: Any) -> tuple[int, int]:
    return (image, image) if isinstance(image, int) else (image[0], image[1])


def _pixel_range(run: Run, facts: Mapping[str, Any]) -> PixelRange | None:
    """Return the pixel values that the network takes, as recorded; None for runs that recorded none."""
    recorded = facts.get("pixels")
    return None if recorded is None else from_dict(PixelRange, recorded, f"{run.path / 'space.json'}: pixels")


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
