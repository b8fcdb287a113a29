"""The times of steps on which a plan stands, each measured once and kept between fits."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cache

from oche.core.optimizers import Adam
from oche.data import Dataset
from oche.devices.engine import Engine
from oche.fitting.forms import AskedPrecision, Form, fastest_form
from oche.fitting.kept_times import KeptTimes
from oche.fitting.priors import stem_of, typical_size
from oche.fitting.timing import time_search, time_training
from oche.methods.catalog import METHODS
from oche.methods.recipe import SearchRecipe
from oche.networks.macro import Stem
from oche.spaces import darts
from oche.spaces.base import Space
from oche.training.image_recipes import Recipe, modern

UPDATES = 2000  # steps of the architecture that a search gets at least; a choice, not yet measured
LOGIT_RANGE = 6.0  # distance that a logit can move in a search: Adam moves it by its learning rate in a step


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


class Timings:
    """Times of steps on ``data`` and ``engine``. Each is measured once, and kept between fits by ``kept``."""

    def __init__(self, data: Dataset, engine: Engine, kept: KeptTimes, precision: AskedPrecision = "auto") -> None:
        self.data, self.engine, self.kept = data, engine, kept
        self.precision: AskedPrecision = precision
        self.search = cache(self._search)
        self.network = cache(self._network)
        self.form = cache(self._form)

    def _search(self, stem: Stem, batch: int) -> float:
        """Return the seconds of a search step."""
        if (found := self.kept.recall("search", stem, batch)) is not None:
            return float(found)
        space, method = search_setting(stem, self.data, batch)
        seconds = time_search(space, method, self.data, self.engine)
        self.kept.keep(seconds, "search", stem, batch)
        return seconds

    def _network(self, genotype: str, channels: int, cells: int, stem: Stem, batch: int) -> Network:
        """Return the time and size of a network."""
        named = "train", genotype, channels, cells, stem, batch, self.form(genotype, stem, batch).name
        if (found := self.kept.recall(*named)) is not None:
            return Network(channels, cells, *found)
        return self.measured(genotype, channels, cells, stem, batch)

    def measured(self, genotype: str, channels: int, cells: int, stem: Stem, batch: int) -> Network:
        """Return the time and size of a network, timed now, and keep them."""
        recipe, form = _recipe(genotype, channels, cells, stem, batch), self.form(genotype, stem, batch)
        recipe, engine = replace(recipe, precision=form.precision), replace(self.engine, fused=form.engine)
        found = time_training(genotype, recipe, self.data, engine)
        self.kept.keep(found, "train", genotype, channels, cells, stem, batch, form.name)
        return Network(channels, cells, *found)

    def _form(self, genotype: str, stem: Stem, batch: int) -> Form:
        """Return the fastest form for networks of ``genotype``, timed at one size."""
        named = "form", genotype, stem, batch, self.precision
        if (found := self.kept.recall(*named)) is not None:
            return Form(**found)
        recipe = _recipe(genotype, *typical_size(genotype), stem, batch)
        form = fastest_form(genotype, recipe, self.data, self.engine, self.precision)
        self.kept.keep(asdict(form), *named)
        return form


def _recipe(genotype: str, channels: int, cells: int, stem: Stem, batch: int) -> Recipe:
    return modern(channels=channels, cells=cells, stem=stem_of(genotype, stem), batch=batch)


@dataclass(frozen=True)
class Network:
    """A network whose training step was timed."""

    channels: int
    cells: int
    step_seconds: float
    parameters: int
    flops: int
