"""The plan of a fit: time real steps on this machine, then choose sizes and divide the budget.

What is chosen, and by which rule:

- the stem: the maps of the first cell have about 32 pixels a side or fewer;
- a search takes place if ``UPDATES`` steps of the architecture fit into ``SEARCH_SHARE`` of the time and the rest trains the
  found network on enough images; else the best known cell is trained all the time;
- the network: the largest of a list that still sees enough images in its time, `images_needed`;
- the batch: 64, or fewer for few images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from oche.core.errors import OcheError, plural
from oche.core.optimizers import Adam
from oche.data import Dataset
from oche.devices.engine import Engine
from oche.fitting.priors import PRIOR, is_staged, sizes_of, title_of
from oche.fitting.timing import time_search, time_training
from oche.methods.catalog import METHODS
from oche.methods.recipe import SearchRecipe
from oche.networks.macro import Stem
from oche.runs.config import FitConfig
from oche.spaces import darts
from oche.spaces.base import Space
from oche.training.image_recipes import Recipe, modern

UPDATES = 2000  # steps of the architecture that a search gets at least; a choice, not yet measured
SEARCH_SHARE = 0.35  # of the time, at most
FEWEST_SEARCHED = 1000  # training images below which a search only learns them by heart
LOGIT_RANGE = 6.0  # distance that a logit can move in a search: Adam moves it by its learning rate in a step
CLOSING = 12.0  # seconds for the assessment, the pages and the export
TRIED = 3  # networks that are timed, at most

Decision = Literal["search", "prior", "given"]


@dataclass(frozen=True)
class FitPlan:
    """What a fit will do, with predicted times in seconds. It is kept as plan.json."""

    decision: Decision
    why: tuple[str, ...]
    """the reasons of the choices, one line each"""
    genotype: str
    """cells to train; of a search, those with which its training was timed"""
    channels: int
    cells: int
    stem: Stem
    batch: int
    image: tuple[int, int]
    step_seconds: float
    """of a training step"""
    parameters: int
    flops: int
    search_seconds: float
    """0 without a search"""
    search_steps: int
    train_seconds: float
    epochs: float
    """of the training"""
    closing_seconds: float
    spent: float
    """seconds that reading the data and planning took"""
    init: str | None
    """weights to begin with"""

    @property
    def seconds(self) -> float:
        """Predicted time until the network is ready."""
        return self.spent + self.search_seconds + self.train_seconds + self.closing_seconds

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for plan.json; `from_dict` reads them."""
        return asdict(self) | {"seconds": self.seconds}

    @classmethod
    def from_dict(cls, found: dict[str, Any], where: str) -> FitPlan:
        """Read the values of `to_dict`. Raises `OcheError` that names ``where``."""
        try:
            values = {f.name: found[f.name] for f in fields(cls)}
            return cls(**values | {"why": tuple(found["why"]), "image": (found["image"][0], found["image"][1])})
        except (KeyError, TypeError, IndexError) as error:
            raise OcheError(f"{where} is no plan of a fit ({error}); restore it, or start anew") from None


def make_plan(
    config: FitConfig,
    data: Dataset,
    engine: Engine,
    spent: Callable[[], float],
    init: str | None = None,
    init_size: tuple[str, int, int] | None = None,
) -> FitPlan:
    """Plan the fit of ``config`` on ``data``. Steps are timed on ``engine``, which takes seconds.

    ``spent()``: seconds of the budget that are gone. ``init``: weights to begin with, if any; ``init_size``: the genotype,
    channels and cells of their network, which is then trained.
    """
    why: list[str] = []
    images, classes = len(data.train), len(data.classes)
    stem = config.stem or _stem(data.image)
    batch = config.batch or _batch(images)
    why.append(
        f"{images:,} training images of {classes} classes, {_by(data.image)} pixels: stem {stem}, batches of {batch}"
    )
    recipe = modern(channels=16, cells=5, stem=stem, batch=batch)
    if config.genotype is not None:
        decision: Decision = "given"
        genotype = config.genotype
        why.append(f"cells: {title_of(genotype)}, as asked")
    elif config.search == "never" or (init_size is not None and config.search == "auto"):
        decision, genotype = "prior", PRIOR
    else:
        decision, genotype = _whether_to_search(config, data, engine, recipe, spent, why)
    if init_size is not None and decision != "search":
        genotype = init_size[0] if config.genotype is None else genotype
    time_left = config.seconds - spent() - CLOSING
    search_seconds, search_steps = 0.0, 0
    if decision == "search":
        space, method = search_setting(stem, data, batch)
        step = time_search(space, method, data, engine)
        search_steps = max(1, round(min(SEARCH_SHARE * time_left, 2 * UPDATES * step) / step))
        search_seconds = search_steps * step
        why.append(f"search: {search_steps:,} steps of {1000 * step:.0f} ms")
    elif decision == "prior" and init_size is None:
        why.append(
            f"cells: {title_of(genotype)}, whose plain convolutions a processor computes fastest of the cells that oche knows"
        )
    fixed = (init_size[1], init_size[2]) if init_size is not None and genotype == init_size[0] else None
    network = _network(config, genotype, recipe, data, engine, time_left - search_seconds, fixed, why)
    train_seconds = config.seconds - spent() - CLOSING - search_seconds
    if train_seconds < 10:
        raise OcheError(
            f"budget={config.budget!r}: reading the data and planning took {spent():.0f} s, and {train_seconds:.0f} s would be "
            "left to train; give a longer budget, a smaller --size, or a --limit"
        )
    epochs = train_seconds / network.step_seconds * batch / images
    why.append(
        f"network: {network.channels} channels, {plural(network.cells, 'cell')}"
        f"{' a stage' * is_staged(genotype)}, {network.parameters:,} weights; "
        f"{1000 * network.step_seconds:.0f} ms a step, about {epochs:.0f} epochs"
    )
    if init is not None:
        why.append(f"begins with the weights of {init}")
    return FitPlan(
        decision, tuple(why), genotype, network.channels, network.cells, stem, batch, data.image, network.step_seconds,
        network.parameters, network.flops, search_seconds, search_steps, train_seconds, epochs, CLOSING, spent(), init,
    )  # fmt: skip


# --- search or not ------------------------------------------------------------------------------------------------------


def search_setting(stem: Stem, data: Dataset, batch: int, steps: int = UPDATES) -> tuple[Space, SearchRecipe]:
    """Return the space and the recipe of a fit's search of ``steps`` steps: a small supernet, and logits that can decide."""
    space = darts(
        channels=8, cells=5, stem=stem, classes=len(data.classes), in_channels=data.channels, image=data.image
    )
    recipe = space.adapt_search(METHODS[space.method].make(batch=batch, steps=steps))
    optimizer = recipe.method.arch_optimizer
    if isinstance(optimizer, Adam):
        optimizer = replace(optimizer, lr=max(optimizer.lr, LOGIT_RANGE / steps))
    return space, replace(recipe, method=replace(recipe.method, arch_optimizer=optimizer))


def _whether_to_search(
    config: FitConfig, data: Dataset, engine: Engine, recipe: Recipe, spent: Callable[[], float], why: list[str]
) -> tuple[Decision, str]:
    """Return the decision and the genotype to time the training with; the reason goes to ``why``."""
    standing = "DARTS_V2"  # stands for the cell that will be found
    if config.search == "always":
        return "search", standing
    images = len(data.train)
    if images < FEWEST_SEARCHED:
        why.append(
            f"no search: {images} training images are too few to tell cells apart ({FEWEST_SEARCHED:,} or more would do)"
        )
        return "prior", PRIOR
    time_left = config.seconds - spent() - CLOSING
    space, method = search_setting(recipe.stem, data, recipe.batch)
    step = time_search(space, method, data, engine)
    needed = UPDATES * step
    if needed > SEARCH_SHARE * time_left:
        why.append(
            f"no search: {UPDATES:,} steps, which a search needs to decide, would take {_time(needed)} of {_time(time_left)}; "
            f"from a budget of {_time(needed / SEARCH_SHARE)} on it pays"
        )
        return "prior", PRIOR
    small = replace(recipe, channels=16, cells=5)
    train_step, _, _ = time_training(standing, small, data, engine)
    seen = (time_left - needed) / train_step * recipe.batch
    if seen < images_needed(images):
        why.append(
            f"no search: after it the found network would see {seen:,.0f} images, and {images_needed(images):,} are needed to "
            "train one of this space"
        )
        return "prior", PRIOR
    return "search", standing


# --- the network --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Network:
    channels: int
    cells: int
    step_seconds: float
    parameters: int
    flops: int


def images_needed(images: int) -> int:
    """Return how many images, repetitions counted, a training set of ``images`` should be trained on at least."""
    return max(12 * images, 50_000)


def _network(
    config: FitConfig, genotype: str, recipe: Recipe, data: Dataset, engine: Engine, seconds: float,
    fixed: tuple[int, int] | None, why: list[str],
) -> _Network:  # fmt: skip
    """Return the largest network of ``genotype`` that sees enough images in ``seconds``, or the one that is fixed."""
    stem = recipe.stem if not is_staged(genotype) or recipe.stem != "imagenet" else "stride4"
    sizes = [
        (config.channels or channels, config.cells or cells)
        for channels, cells in ([fixed] if fixed is not None else sizes_of(genotype))
    ]
    sizes = list(dict.fromkeys(sizes))
    needed, timed = images_needed(len(data.train)), {}

    def measured(i: int) -> _Network:
        if i not in timed:
            channels, cells = sizes[i]
            made = replace(recipe, channels=channels, cells=cells, stem=stem)
            timed[i] = _Network(channels, cells, *time_training(genotype, made, data, engine))
        return timed[i]

    def seen(network: _Network) -> float:
        return seconds / network.step_seconds * recipe.batch

    i = min(2, len(sizes) - 1)
    for _ in range(TRIED):
        allowed = _relative_cost(*sizes[i]) * seen(measured(i)) / needed
        i = max((k for k, size in enumerate(sizes) if _relative_cost(*size) <= allowed), default=0)
        if i in timed:
            break
    enough = [k for k, network in timed.items() if seen(network) >= needed]
    chosen = timed[max(enough) if enough else min(timed)]
    if not enough and fixed is None and len(sizes) > 1:
        why.append(
            f"the budget is short for {len(data.train):,} images: the smallest network that was timed sees {seen(chosen):,.0f}"
        )
    return chosen


def _relative_cost(channels: int, cells: int) -> float:
    """Return a rough relative time of a step: wide convolutions use a processor better, so not the square of the channels."""
    return channels**1.6 * (cells + 1)


def _stem(image: tuple[int, int]) -> Stem:
    """Return the stem for images of (H, W): the maps behind it have about 32 pixels a side or fewer."""
    side = min(image)
    return "cifar" if side <= 40 else "stride2" if side <= 80 else "stride4"


def _batch(images: int) -> int:
    """Return the batch for a training set of ``images``: 64, or an eighth of few images, at least 16."""
    return max(16, min(64, 16 * (images // 128)))


def _by(image: tuple[int, int]) -> str:
    return f"{image[0]}×{image[1]}"


def _time(seconds: float) -> str:
    """Return a duration for a sentence: "40 s", "12 min", "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
