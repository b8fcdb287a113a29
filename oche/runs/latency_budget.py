"""What a run does about the cost of the network that it searches for: times are measured once, and what was found is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from oche.core.architecture import Genotype
from oche.core.console import Log
from oche.cost.latency_table import LatencyTable, fill_table
from oche.cost.units import format_amount
from oche.devices.engine import Engine
from oche.training.recipes import space_at_recipe_size

if TYPE_CHECKING:
    from oche.methods.cost_constraints import CostConstraint
    from oche.methods.recipe import SearchRecipe
    from oche.runs.config import SearchConfig

FILE = "latencies.json"  # of a run whose method names no table


def timed_recipe(path: Path, config: SearchConfig, engine: Engine, log: Log) -> SearchRecipe:
    """The recipe of the run at ``path``, with a table of latencies where its penalty needs one.

    Without one of the user's, it is measured once and kept, so that a resumed run goes on with the same prices.
    """
    recipe = config.search
    if recipe.method.resource is None or not recipe.method.resource.measured:
        return recipe
    file = recipe.latencies or path / FILE
    with engine.processes.raise_together():  # prices must be the same on all: rank 0 measures, and the others read its file
        if not engine.processes.is_main:
            pass
        elif not file.exists():
            log.say("measuring the latency of every candidate, once for this run")
            fill_table(space_at_recipe_size(config.space, recipe.cost_recipe or config.space.recipe), LatencyTable.fresh(engine.single_process)).write(file)
        elif apart := LatencyTable.open(file).differs(engine.single_process):
            log.warn(
                f"the latencies of {file} are not those of this machine ({apart}); the target is a time over there"
            )
    return replace(recipe, latencies=file)


def cost_found(priced: CostConstraint | None, genotype: Genotype, log: Log) -> dict[str, float]:
    """{"cost": that of the network of the cells found}, where it was penalised; warns where it is above the target."""
    if priced is None:
        return {}
    cost, target = priced.costs.of(genotype), priced.target
    if target is not None and cost > target:
        log.warn(
            f"the cells found cost {format_amount(cost, priced.kind)}, more than the target of {format_amount(target, priced.kind)}; "
            "search with a larger --search.strength, or longer"
        )
    return {"cost": cost}
