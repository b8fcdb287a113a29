"""The plan of a fit: time real steps on this machine, then choose sizes and divide the budget.

What is chosen, and by which rule:

- the stem: the maps of the first cell have about 32 pixels a side or fewer;
- a search takes place if ``UPDATES`` steps of the architecture fit into ``SEARCH_SHARE`` of the time and the rest trains the
  found network on enough images; else the best known cell is trained all the time;
- the network: the largest of a list that still sees enough images in its time, `images_needed`;
- the side of the images: their own, halved while the smallest network sees too few of them in its time, down to 32;
- the batch: 64, or fewer for few images;
- how a training computes: the fastest of float32 by each engine and, where its gradients are right, bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from oche.core.errors import OcheError, plural
from oche.data import Dataset
from oche.devices.engine import Engine
from oche.fitting.forms import Form
from oche.fitting.kept_times import KeptTimes
from oche.fitting.priors import PRIOR, STANDING, is_staged, sizes_of, title_of
from oche.fitting.step_times import UPDATES, Network, Timings
from oche.networks.macro import Stem
from oche.runs.config import FitConfig
from oche.runs.warm_start import Pretrained

SEARCH_SHARE = 0.35  # of the time, at most
FEWEST_SEARCHED = 1000  # training images below which a search only learns them by heart
CLOSING = 12.0  # seconds for the assessment, the pages and the export
TRIED = 3  # networks that are timed, at most
TOLERANCE = 0.25  # a prediction holds if the time is within this share of it

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
    form: Form = Form()
    """how the training of the network computes"""

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
            values = {f.name: found[f.name] for f in fields(cls) if f.name != "form"}
            form = Form(**found.get("form", {}))  # plans of earlier versions have none
            image = found["image"][0], found["image"][1]
            return cls(**values | {"why": tuple(found["why"]), "image": image, "form": form})
        except (KeyError, TypeError, IndexError) as error:
            raise OcheError(f"{where} is no plan of a fit ({error}); restore it, or start anew") from None


def make_plan(
    config: FitConfig, data: Dataset, engine: Engine, spent: Callable[[], float], init: Pretrained | None = None
) -> FitPlan:
    """Plan the fit of ``config`` on ``data``. Steps are timed on ``engine``, which takes seconds.

    Times of earlier fits are used again if the network that they lead to is as fast as they say, within 25 %.
    ``spent()``: seconds of the budget that are gone. ``init``: weights to begin with, if any; their network is trained.
    """
    times = Timings(data, engine, KeptTimes(data, engine), config.precision)
    plan = _plan(config, data, times, spent, init)
    if times.kept.used:
        now = times.measured(plan.genotype, plan.channels, plan.cells, plan.stem, plan.batch)
        if not holds(plan.step_seconds, now.step_seconds):
            times = Timings(data, engine, KeptTimes(data, engine, read=False), config.precision)
        return _plan(config, data, times, spent, init)
    return plan


def holds(predicted: float, happened: float) -> bool:
    """Whether ``happened`` is within 25 % of ``predicted``."""
    return abs(happened - predicted) <= TOLERANCE * predicted


def _plan(
    config: FitConfig, data: Dataset, times: Timings, spent: Callable[[], float], init: Pretrained | None
) -> FitPlan:
    images = len(data.train)
    stem = config.stem or (init.stem if init is not None else _stem(data.image))
    batch = config.batch or _batch(images)
    why = [
        f"{images:,} training images of {len(data.classes)} classes, {_by(data.image)} pixels: stem {stem}, batches of {batch}"
    ]
    left = lambda: config.seconds - spent() - CLOSING  # noqa: E731
    decision, genotype = _choose_cells(config, times, stem, batch, left, init, why)
    time_left = left()
    search_seconds, search_steps = 0.0, 0
    if decision == "search":
        step = times.search(stem, batch)
        search_steps = max(1, round(min(SEARCH_SHARE * time_left, 2 * UPDATES * step) / step))
        search_seconds = search_steps * step
        why.append(f"search: {search_steps:,} steps of {1000 * step:.0f} ms")
    network = _largest(config, genotype, times, stem, batch, time_left - search_seconds, init, why)
    train_seconds = left() - search_seconds
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
    form = times.form(genotype, stem, batch)
    why.append(form.describe())
    if init is not None:
        why.append(f"begins with the weights of {init.name}")
    return FitPlan(
        decision, tuple(why), genotype, network.channels, network.cells, stem, batch, data.image, network.step_seconds,
        network.parameters, network.flops, search_seconds, search_steps, train_seconds, epochs, CLOSING, spent(),
        None if init is None else init.where, form,
    )  # fmt: skip


# --- search or not ------------------------------------------------------------------------------------------------------


def _choose_cells(
    config: FitConfig, times: Timings, stem: Stem, batch: int, left: Callable[[], float],
    init: Pretrained | None, why: list[str],
) -> tuple[Decision, str]:  # fmt: skip
    """Return the decision, and the cells to train or to time the training of found cells with; the reasons go to ``why``."""
    if config.genotype is not None:
        why.append(f"cells: {title_of(config.genotype)}, as asked")
        return "given", config.genotype
    planned = init is None and config.search == "auto"
    if config.search == "always" or (planned and _search_pays(times, stem, batch, left(), why)):
        return "search", STANDING
    if init is not None:
        why.append(f"cells: {title_of(init.genotype)}, those of the weights to begin with")
        return "prior", init.genotype
    why.append(
        f"cells: {title_of(PRIOR)}, whose plain convolutions a processor computes fastest of the cells that oche knows"
    )
    return "prior", PRIOR


def _search_pays(times: Timings, stem: Stem, batch: int, seconds: float, why: list[str]) -> bool:
    """Return whether ``seconds`` pay for a search that decides, and for the training of its cells; if not, say why."""
    images = len(times.data.train)
    if images < FEWEST_SEARCHED:
        why.append(
            f"no search: {images} training images are too few to tell cells apart ({FEWEST_SEARCHED:,} or more would do)"
        )
        return False
    needed = UPDATES * times.search(stem, batch)
    if needed > SEARCH_SHARE * seconds:
        why.append(
            f"no search: {UPDATES:,} steps, which a search needs to decide, would take {_time(needed)} of {_time(seconds)}; "
            f"from a budget of {_time(needed / SEARCH_SHARE)} on it pays"
        )
        return False
    seen = (seconds - needed) / times.network(STANDING, 16, 5, stem, batch).step_seconds * batch
    if seen < images_needed(images):
        why.append(
            f"no search: after it the found network would see {seen:,.0f} images, and {images_needed(images):,} are needed to "
            "train one of this space"
        )
        return False
    return True


# --- the network --------------------------------------------------------------------------------------------------------


def images_needed(images: int, warm: bool = False) -> int:
    """Return how many images, repetitions counted, a training set of ``images`` should be trained on at least.

    ``warm``: whether the network begins with the weights of another.
    """
    return max(12 * images, 5_000 if warm else 50_000)


def is_short(plan: FitPlan, data: Dataset) -> bool:
    """Whether the training of ``plan`` sees fewer images than `images_needed`."""
    return plan.epochs * len(data.train) < images_needed(len(data.train), plan.init is not None)


def _largest(
    config: FitConfig, genotype: str, times: Timings, stem: Stem, batch: int, seconds: float,
    init: Pretrained | None, why: list[str],
) -> Network:  # fmt: skip
    """Return the largest network of ``genotype`` that sees enough images in ``seconds``, or the one of ``init``."""
    fixed = (init.channels, init.cells) if init is not None and genotype == init.genotype else None
    listed = sizes_of(genotype) if fixed is None else (fixed,)
    sizes = list(dict.fromkeys((config.channels or channels, config.cells or cells) for channels, cells in listed))
    images, timed = len(times.data.train), dict[int, Network]()
    needed = images_needed(images, init is not None)

    def seen(network: Network) -> float:
        return seconds / network.step_seconds * batch

    i = min(2, len(sizes) - 1)
    for _ in range(TRIED):
        timed[i] = times.network(genotype, *sizes[i], stem, batch)
        allowed = _relative_cost(*sizes[i]) * seen(timed[i]) / needed
        i = max((k for k, size in enumerate(sizes) if _relative_cost(*size) <= allowed), default=0)
        if i in timed:
            break
    enough = [k for k, network in timed.items() if seen(network) >= needed]
    chosen = timed[max(enough) if enough else min(timed)]
    if not enough and fixed is None and len(sizes) > 1:
        why.append(
            f"the budget is short: the smallest network that was timed sees {seen(chosen):,.0f} images, repetitions counted, "
            f"and {needed:,} are wanted"
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
