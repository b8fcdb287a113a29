"""Which weights a fit begins with: the user's, those that ship with oche, or none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from oche.core.errors import OcheError
from oche.data import Dataset
from oche.runs.config import FitConfig
from oche.runs.resolve import absolute
from oche.runs.warm_start import Pretrained, describe_weights

SHIPPED = Path(__file__).parent / "pretrained" / "residual-cifar10.safetensors"
TITLE = "the residual network that ships with oche, trained on CIFAR-10 (--init none: without them)"
MOST_IMAGES = 10_000  # training images up to which shipped weights would be used by default; a choice, not yet measured


def shipped_weights(config: FitConfig, data: Dataset) -> Pretrained | None:
    """Return the network whose weights a fit begins with; None if it begins anew.

    Raises `OcheError` for weights that cannot be found or do not say which network they belong to.
    """
    if config.init == "none":
        return None
    if config.init != "auto":
        return _described(absolute(config.init))
    fixed = config.genotype, config.channels, config.cells
    if not SHIPPED.exists() or any(value is not None for value in fixed) or config.search == "always":
        return None
    if len(data.train) > MOST_IMAGES:
        return None
    return replace(_described(SHIPPED), title=TITLE)


def _described(where: Path) -> Pretrained:
    about = describe_weights(where)
    if about is None:
        raise OcheError(
            f"--init {where} does not say which network it belongs to; give a training, or a file of oche export --to safetensors"
        )
    return about
