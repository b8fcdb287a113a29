"""Rank correlation of a supernet's accuracies with those of stand-alone trainings, by the table of NAS-Bench-201.

Shapes: E edges of a cell, O candidates.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oche.analysis import RankCorrelation, Undetermined, correlate_ranks
from oche.bilevel.batches import make_batches
from oche.core.architecture import Genotype, Mix
from oche.core.atomic_files import read_json, to_json, write_bytes
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.core.nasbench201 import CELL, parse
from oche.core.seeds import generator
from oche.devices.mixed_precision import with_precision
from oche.devices.process_group import SINGLE_PROCESS
from oche.runs.checkpoint import load_weights
from oche.runs.membership import Earlier
from oche.runs.plan import make_engine
from oche.runs.run import Run
from oche.runs.run_data import load_recorded
from oche.spaces.mixed_ops import set_step
from oche.spaces.nasbench201_ground_truth import load_ground_truth
from oche.study.results import TrialResult, read_trial_file

CELLS, IMAGES = 100, 640


@dataclass(frozen=True)
class RankAgreement:
    """Cells with their accuracies in the supernet of a search, on its validation half, and by the table; shares of 1."""

    cells: tuple[str, ...]
    supernet: tuple[float, ...]
    table: tuple[float, ...]
    column: str
    images: int

    @property
    def association(self) -> RankCorrelation | Undetermined:
        return correlate_ranks(self.supernet, self.table)

    @property
    def ranks(self) -> list[tuple[float, float]]:
        """The rank of each cell in the supernet and by the table; 1 is best, ties get their mean rank."""
        from scipy.stats import rankdata

        return [*zip(*((1 + len(self.cells) - rankdata(x)).tolist() for x in (self.supernet, self.table)), strict=True)]

    def save(self, path: Path) -> None:
        write_bytes(path, to_json(asdict(self)).encode())

    @classmethod
    def read(cls, path: Path) -> RankAgreement | None:
        """Read what `save` wrote to ``path``; None if there is no such file. Raises `OcheError` for any other content."""
        if not (tree := read_json(path)):
            return None
        try:
            cells, supernet, table = (tuple(tree[name]) for name in ("cells", "supernet", "table"))
            return cls(cells, supernet, table, tree["column"], tree["images"])
        except (KeyError, TypeError):
            raise OcheError(
                f"{path} was not written by a report; remove it, and the next report writes it again"
            ) from None


def correlate_with_table(
    run: Run, cells: int = CELLS, images: int = IMAGES, log: Log | None = None, data: Any = None
) -> RankAgreement:
    """Evaluate ``cells`` cells of the table, drawn by the run's seed, in the supernet of the finished search ``run``.

    Every cell is evaluated on the same ``images`` validation images; BatchNorms use the statistics of the batch, as in
    `oche.methods.discretize.SampleBest`. ``data``: the run's data set, if it is loaded already. Raises `OcheError` for a run
    that has no table, or is not finished.
    """
    config, log = run.config, log or Log(quiet=True)
    known = None if run.kind != "search" else load_ground_truth(config.table, config.data)
    if known is None or run.state != "complete":
        raise OcheError(f"{run.path} is no finished search with a table; give one made with --table FILE")
    data = data or load_recorded(config, log, Earlier.read(run.path, log), "report")
    engine = with_precision(make_engine(config, SINGLE_PROCESS), config.search.precision)
    stage = config.search.method.stages[-1]
    space, recipe = stage.of(config.space.fit(data)), config.search
    net = engine.place(space.supernet(stage.edge or recipe.method.edge))
    engine.apply_form(net)
    tensors = load_weights(run.path / "weights.safetensors")
    logits = tensors.pop(f"logits.{CELL}")
    net.load_state_dict(tensors)
    set_step(net, 1.0, None)
    stream, dag = make_batches(data, space, recipe, config.seed, engine), space.groups[CELL]
    chosen = draw_cells(known.table.archs, space.candidates, cells, config.seed)
    scores = []
    with (
        engine.using_threads(),
        torch.no_grad(),
        log.progress(f"rank correlation of {run.path}", len(chosen)) as progress,
    ):
        for i, cell in enumerate(chosen):
            alive = cell_mask(cell, dag.edges, space.candidates)
            mix: Mix = recipe.method.relax(logits, alive, dag, None, 1.0)
            scores.append(stream.score(net, {CELL: mix}, images))
            progress.update(i + 1)
    table = tuple(known(parse(cell))["true_acc"] for cell in chosen)
    return RankAgreement(tuple(chosen), tuple(scores), table, known.column, min(images, len(stream.val)))


def draw_cells(archs: tuple[str, ...], candidates: tuple[str, ...], count: int, seed: int) -> list[str]:
    """Draw ``count`` different cells of ``archs`` that use only operations in ``candidates``."""
    order = torch.randperm(len(archs), generator=generator(seed, "correlation")).tolist()
    usable = (archs[i] for i in order if {op for op, _, _ in parse(archs[i]).cells[CELL].edges} <= {*candidates})
    return [arch for arch, _ in zip(usable, range(count), strict=False)]


def cell_mask(arch: str | Genotype, edges: tuple[tuple[int, int], ...], candidates: tuple[str, ...]) -> Tensor:
    """Return an (E, O) bool mask of the candidate that ``arch`` has on each edge."""
    alive = torch.zeros(len(edges), len(candidates), dtype=torch.bool)
    for op, source, target in parse(arch).cells[CELL].edges:
        alive[edges.index((source, target)), candidates.index(op)] = True
    return alive


# --- all searches of a study ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RankAgreements:
    """The rank agreements by trial id, and the problems that prevented others."""

    by_trial: dict[str, RankAgreement]
    problems: tuple[str, ...]
    possible: bool
    """whether any search has a table"""


def rank_agreements(trials: Iterable[TrialResult], cells: int, log: Log) -> RankAgreements:
    """The rank agreement of every finished search with a table, kept in its correlation.json.

    Missing ones are measured with ``cells`` cells, unless ``cells`` is 0.
    """
    found: dict[str, RankAgreement] = {}
    problems: list[str] = []
    eligible = [trial for trial in trials if trial.state == "complete" and _has_table(trial)]
    for trial in eligible:
        path = trial.path / "correlation.json"
        try:
            known = RankAgreement.read(path)
            if known is None and cells:
                known = correlate_with_table(Run.open(trial.path / "search"), cells, log=log)
                known.save(path)
        except OcheError as error:
            problems.append(f"{trial.name}, seed {trial.seed}: {error}")
            continue
        found |= {} if known is None else {trial.id: known}
    return RankAgreements(found, tuple(problems), bool(eligible))


def _has_table(trial: TrialResult) -> bool:
    return (
        read_trial_file(trial.path)["search"].get("table") is not None
        and (trial.path / "search" / "summary.json").is_file()
    )
