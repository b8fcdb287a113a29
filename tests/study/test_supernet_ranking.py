"""Supernet beside table: cells are tried as the search itself tries them, and drawn, kept and refused as said."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import oche
import small_runs
from oche.bilevel.search import Search
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.core.nasbench201 import CELL, EDGES, OPERATIONS, Table, parse
from oche.devices.engine import Engine
from oche.runs.checkpoint import load_weights
from oche.runs.plan import load_data
from oche.runs.run import Run
from oche.spaces.mixed_ops import set_step
from oche.study.supernet_ranking import RankAgreement, cell_mask, correlate_with_table, draw_cells

SPACE = oche.spaces.nb201(channels=2, cells=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished search on digits, with a table in which an operation is worth its place in the list."""
    folder = tmp_path_factory.mktemp("correlation")
    ops = list(itertools.product(range(5), repeat=6))
    archs = ["|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*(OPERATIONS[o] for o in row)) for row in ops]
    values = pa.array([10.0 + sum(row) for row in ops])
    pq.write_table(pa.table({"arch": archs, Table.main: values}), folder / "table.parquet")
    method = oche.methods.darts(batch=16, steps=3)
    with pytest.MonkeyPatch.context() as patch:
        small_runs.no_report(patch)
        fields = dict(table=folder / "table.parquet", space=SPACE, method=method, engine="plain", device="cpu")
        return small_runs.search(folder / "x", **fields)


@pytest.fixture(scope="module")
def found(run):
    return correlate_with_table(run, cells=6, images=20)


def test_scores_are_those_of_the_search_that_has_ended(run, found):
    config = run.config
    data = load_data(config, Log(quiet=True))
    task = Search(config.space.fit(data), config.search, data, seed=config.seed, engine=Engine("cpu", fused="plain"))
    tensors = load_weights(run.path / "weights.safetensors")
    task.load({**task.state(), "logits": {CELL: tensors.pop(f"logits.{CELL}")}, "net": tensors})
    set_step(task.net, 1.0, None)
    for cell, score in zip(found.cells, found.supernet, strict=True):
        assert task.accuracy({CELL: cell_mask(cell, EDGES, config.space.candidates)}, 20) == pytest.approx(score)
    assert len({*found.supernet}) > 1 and found.images == 20
    assert correlate_with_table(run, cells=1).images == 30  # half of 60 images, fewer than would be taken


def test_the_table_gives_what_each_cell_reaches_by_itself(found):
    for cell, value in zip(found.cells, found.table, strict=True):
        worth = sum(OPERATIONS.index(op) for op, _, _ in parse(cell).cells[CELL].edges)
        assert value == pytest.approx((10 + worth) / 100)


def test_ranks_put_the_best_first():
    known = RankAgreement(("a", "b", "c", "d"), (0.3, 0.1, 0.3, 0.9), (0.8, 0.2, 0.7, 0.9), "x", 5)
    assert known.ranks == [(2.5, 2.0), (4.0, 4.0), (2.5, 3.0), (1.0, 1.0)]


def test_a_mask_is_read_back_as_its_cell():
    space = oche.spaces.nb201()
    for cell in draw_cells(few_cells(), space.candidates, 20, seed=1):
        kept = cell_mask(cell, space.groups[CELL].edges, space.candidates)
        assert kept.shape == (6, 5) and torch.equal(kept.sum(1), torch.ones(6, dtype=torch.int64))
        assert parse(space.read({CELL: kept})) == parse(cell)


def few_cells() -> tuple[str, ...]:
    ops = itertools.islice(itertools.product(OPERATIONS, repeat=6), 0, None, 97)
    return tuple("|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*row) for row in ops)


def test_cells_are_drawn_once_and_only_with_operations_that_the_space_has():
    candidates = ("none", "skip_connect", "nor_conv_1x1")
    drawn = draw_cells(few_cells(), candidates, 10, seed=3)
    assert len({*drawn}) == len(drawn) and drawn == draw_cells(few_cells(), candidates, 10, seed=3)
    assert all(op in candidates for cell in drawn for op, _, _ in parse(cell).cells[CELL].edges)


def test_what_was_found_is_kept_and_read_back(found, tmp_path):
    found.save(tmp_path / "correlation.json")
    assert RankAgreement.read(tmp_path / "correlation.json") == found
    assert RankAgreement.read(tmp_path / "none.json") is None
    (tmp_path / "correlation.json").write_text('{"cells": 3}')
    with pytest.raises(OcheError, match="was not written by a report; remove it"):
        RankAgreement.read(tmp_path / "correlation.json")


def test_a_run_without_a_table_or_an_end_is_refused(searched, run, monkeypatch):
    with pytest.raises(OcheError, match="is no finished search with a table"):
        correlate_with_table(searched)
    monkeypatch.setattr(Run, "state", "interrupted")
    with pytest.raises(OcheError, match="is no finished search with a table"):
        correlate_with_table(replace(run))
