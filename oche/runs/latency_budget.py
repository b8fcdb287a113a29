"""The cost of the network that a run searches for: latencies are measured once, and the cost of the result is reported."""

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

FILE = "latencies.json"  # in a run directory, if the recipe names no table


def with_latency_table(path: Path, config: SearchConfig, engine: Engine, log: Log) -> SearchRecipe:
    """Return the recipe of the run at ``path``, with a latency table if its penalty needs one.

    If the recipe names no table, latencies are measured once and kept in the run directory, so that a resumed run uses the
    same ones. Warns if a table was measured on another machine.
    """
    recipe = config.search
    if recipe.method.cost_penalty is None or not recipe.method.cost_penalty.measured:
        return recipe
    file = recipe.latencies or path / FILE
    # All ranks need the same latencies: rank 0 measures, and the others read its file.
    with engine.processes.raise_together():
        if engine.processes.is_main and not file.exists():
            log.say("measuring the latency of every candidate, once for this run")
            space = space_at_recipe_size(config.space, recipe.cost_recipe or config.space.recipe)
            fill_table(space, LatencyTable.fresh(engine.single_process)).write(file)
        elif engine.processes.is_main and (difference := LatencyTable.open(file).differs(engine.single_process)):
            log.warn(
                f"the latencies of {file} are not those of this machine ({difference}); the target is a time on the other machine"
            )
    return replace(recipe, latencies=file)


def cost_of_result(constraint: CostConstraint | None, genotype: Genotype, log: Log) -> dict[str, float]:
    """Return {"cost": cost of the network of the cells found}, or {} if no cost is penalised. Warns if it is above the target."""
    if constraint is None:
        return {}
    cost, target = constraint.costs.of(genotype), constraint.target
    if target is not None and cost > target:
        found, limit = (format_amount(amount, constraint.kind) for amount in (cost, target))
        log.warn(
            f"the cells found cost {found}, more than the target of {limit}; "
            "search with a larger --search.strength, or longer"
        )
    return {"cost": cost}
