"""The latencies of the blocks of a run's chain, as far as its search measured them."""

from __future__ import annotations

from contextlib import suppress

from oche.core.blocks import is_chain
from oche.core.errors import OcheError
from oche.cost.block_latencies import block_latencies
from oche.cost.latency_table import LatencyTable
from oche.report.read_run import RunData


def known_latencies(run: RunData) -> dict[int, float]:
    """Return the milliseconds of the blocks of the network of ``run`` by node; {} if it is no chain or nothing was measured.

    The table is that of the run, or for a training that of its search.
    """
    image, channels = run.space.get("image"), run.space.get("in_channels")
    if (
        run.genotype is None
        or not is_chain(run.genotype)
        or not isinstance(image, list)
        or not isinstance(channels, int)
    ):
        return {}
    for folder in (run.path, run.path.parent):
        with suppress(OcheError, TypeError, ValueError):
            table = LatencyTable.open(folder / "latencies.json")
            return block_latencies(run.genotype, table, channels, (int(image[0]), int(image[1])))
    return {}
