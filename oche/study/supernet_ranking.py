"""Whether a supernet ranks cells as their own trainings do: its accuracies beside those of NAS-Bench-201's table.

Shapes: E edges of a cell, O candidates.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oche.analysis import Association, CannotSay, associate
from oche.bilevel.batches import feed
from oche.core import atomic_files as atomic
from oche.core.architecture import Genotype, Mix
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.core.nasbench201 import CELL, parse
from oche.core.seeds import generator
from oche.devices.mixed_precision import suited
from oche.devices.process_group import ALONE
from oche.runs.checkpoint import load_weights
from oche.runs.execute import engine_of, load_data
from oche.runs.run import Run
from oche.spaces.mixed_ops import set_step
from oche.spaces.nasbench201_ground_truth import truth

CELLS, IMAGES = 100, 640


@dataclass(frozen=True)
class Agreement:
    """Cells by what they reach in the supernet of a search, on its validation half, and by the table; shares of 1."""

    cells: tuple[str, ...]
    supernet: tuple[float, ...]
    table: tuple[float, ...]
    column: str
    images: int

    @property
    def association(self) -> Association | CannotSay:
        return associate(self.supernet, self.table)

    @property
    def ranks(self) -> list[tuple[float, float]]:
        """Each cell's rank in the supernet and by the table; 1 is best, equals share the mean of theirs."""
        from scipy.stats import rankdata

        return [*zip(*((1 + len(self.cells) - rankdata(x)).tolist() for x in (self.supernet, self.table)), strict=True)]

    def save(self, path: Path) -> None:
        atomic.write_bytes(path, atomic.to_json(asdict(self)).encode())

    @classmethod
    def read(cls, path: Path) -> Agreement | None:
        """What `save` wrote at ``path``; None where there is nothing. Raises `OcheError` for anything else."""
        if not (tree := atomic.read_json(path)):
            return None
        try:
            cells, supernet, table = (tuple(tree[name]) for name in ("cells", "supernet", "table"))
            return cls(cells, supernet, table, tree["column"], tree["images"])
        except (KeyError, TypeError):
            raise OcheError(f"{path} is not what a report wrote; remove it, and it is made anew") from None


def correlate(
    run: Run, cells: int = CELLS, images: int = IMAGES, log: Log | None = None, data: Any = None
) -> Agreement:
    """``cells`` cells of the table, drawn by the run's seed, tried with the supernet of the finished search ``run``.

    Each is tried on the same ``images`` validation images, BatchNorms normalising by the batch, as
    `oche.methods.discretize.SampleBest` tries cells. ``data``: the run's data set, if at hand. Raises `OcheError` for a run without a
    table, or that is not finished.
    """
    config, log = run.config, log or Log(quiet=True)
    known = None if run.kind != "search" else truth(config.table, config.data)
    if known is None or run.state != "complete":
        raise OcheError(f"{run.path} is no finished search with a table; give one made with --table FILE")
    data = data or load_data(config, log)
    engine = suited(engine_of(config, ALONE), config.search.precision)
    stage = config.search.stages[-1]
    space, method = stage.of(config.space.fit(data)), config.search
    net = engine.place(space.supernet(stage.edge or method.edge))
    engine.equip(net)
    tensors = load_weights(run.path / "weights.safetensors")
    logits = tensors.pop(f"logits.{CELL}")
    net.load_state_dict(tensors)
    set_step(net, 1.0, None)
    stream, dag = feed(data, space, method, config.seed, engine), space.groups[CELL]
    chosen = draw(known.table.archs, space.candidates, cells, config.seed)
    scores = []
    with engine.running(), torch.no_grad(), log.progress(f"rank correlation of {run.path}", len(chosen)) as progress:
        for i, cell in enumerate(chosen):
            alive = mask(cell, dag.edges, space.candidates)
            mix: Mix = method.relax(logits, alive, dag, None, 1.0)
            scores.append(stream.score(net, {CELL: mix}, images))
            progress.update(i + 1)
    table = tuple(known(parse(cell))["true_acc"] for cell in chosen)
    return Agreement(tuple(chosen), tuple(scores), table, known.column, min(images, len(stream.val)))


def draw(archs: tuple[str, ...], candidates: tuple[str, ...], count: int, seed: int) -> list[str]:
    """``count`` of ``archs``, each once, that have no operation but ``candidates``."""
    order = torch.randperm(len(archs), generator=generator(seed, "correlation")).tolist()
    usable = (archs[i] for i in order if {op for op, _, _ in parse(archs[i]).cells[CELL].edges} <= {*candidates})
    return [arch for arch, _ in zip(usable, range(count), strict=False)]


def mask(arch: str | Genotype, edges: tuple[tuple[int, int], ...], candidates: tuple[str, ...]) -> Tensor:
    """(E, O) bool: the candidate of ``arch`` on each edge."""
    alive = torch.zeros(len(edges), len(candidates), dtype=torch.bool)
    for op, source, target in parse(arch).cells[CELL].edges:
        alive[edges.index((source, target)), candidates.index(op)] = True
    return alive
