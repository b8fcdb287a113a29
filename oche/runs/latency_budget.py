"""What a run does about the cost of the network that it searches for: times are measured once, and what was found is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from oche.core.architecture import Genotype
from oche.devices.engine import Engine
from oche.core.console import Log
from oche.training.recipes import sized
from oche.cost.latency_table import Table, measured
from oche.cost.units import words

if TYPE_CHECKING:
    from oche.runs.config import SearchConfig
    from oche.methods.method import Method
    from oche.methods.cost_constraints import Priced

FILE = "latencies.json"  # of a run whose method names no table


def timed_method(path: Path, config: SearchConfig, engine: Engine, log: Log) -> Method:
    """The method of the run at ``path``, with a table of latencies where its penalty needs one.

    Without one of the user's, it is measured once and kept, so that a resumed run goes on with the same prices.
    """
    method = config.search
    if method.resource is None or not method.resource.measured:
        return method
    file = method.latencies or path / FILE
    with engine.ranks.together():  # prices must be the same on all: rank 0 measures, and the others read its file
        if not engine.ranks.leads:
            pass
        elif not file.exists():
            log.say("measuring the latency of every candidate, once for this run")
            measured(sized(config.space, method.priced or config.space.recipe), Table.fresh(engine.alone)).write(file)
        elif apart := Table.open(file).differs(engine.alone):
            log.warn(
                f"the latencies of {file} are not those of this machine ({apart}); the target is a time over there"
            )
    return replace(method, latencies=file)


def cost_found(priced: Priced | None, genotype: Genotype, log: Log) -> dict[str, float]:
    """{"cost": that of the network of the cells found}, where it was penalised; warns where it is above the target."""
    if priced is None:
        return {}
    cost, target = priced.prices.of(genotype), priced.target
    if target is not None and cost > target:
        log.warn(
            f"the cells found cost {words(cost, priced.kind)}, more than the target of {words(target, priced.kind)}; "
            "search with a larger --search.strength, or longer"
        )
    return {"cost": cost}
