"""The mixtures of a search, epoch by epoch, from its records."""

from __future__ import annotations

import math

import pytest

from oche.report.mixture_history import read_mixtures
from report_runs import search_records


def record(epoch: int, weights, edges=None, name="normal"):
    return {"epoch": epoch, "arch": {name: {"weights": weights, "edges": edges}}}


def test_groups_hold_the_weights_of_every_epoch():
    rows = search_records(3)
    space = {"groups": {"normal": {"edges": [[0, 2], [1, 2]], "candidates": ["a"], "inputs": 2}}}
    normal, reduce = read_mixtures(space, rows)
    assert normal.history == tuple((r["epoch"], r["arch"]["normal"]["weights"]) for r in rows)
    assert normal.edges[:3] == ((0, 2), (1, 2), (0, 3)) and len(normal.edges) == 14  # the described ones do not fit
    assert normal.candidates[0] == "operation 0" and (normal.inputs, reduce.inputs) == (2, 2)
    assert not normal.scaled


def test_edge_weights_are_multiplied_in():
    (group,) = read_mixtures({}, [record(1, [[0.25, 0.75], [0.5, 0.5]], [2.0, 0.5])])
    assert group.scaled and group.history == ((1, [[0.5, 1.5], [0.25, 0.25]]),)


def test_records_of_an_earlier_stage_with_other_candidates_are_left_out():
    (group,) = read_mixtures({}, [record(1, [[0.2, 0.3, 0.5]]), record(2, [[0.5, 0.5]]), record(3, [[0.1, 0.9]])])
    assert [epoch for epoch, _ in group.history] == [2, 3]


@pytest.mark.parametrize(
    "weights", [None, [], [[]], [[0.1], [0.1, 0.2]], [[None]], [["a"]], "text", [[math.nan]], [[True]]]
)
def test_weights_that_are_none_make_no_group(weights):
    assert read_mixtures({}, [record(1, weights)]) == ()


def test_edges_are_guessed_from_their_number():
    (conv,) = read_mixtures({}, [record(1, [[1.0]] * 14)])
    (recurrent,) = read_mixtures({}, [record(1, [[1.0]] * 36)])
    (strange,) = read_mixtures({}, [record(1, [[1.0]] * 4)])
    assert conv.edges[-1] == (4, 5) and conv.inputs == 2
    assert recurrent.edges[-1] == (7, 8) and recurrent.inputs == 1
    assert len(strange.edges) == 4
