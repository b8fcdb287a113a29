"""Margins of choices against noise: by hand, on searches that are random by construction, and on ones with a signal."""

import math

import numpy as np
import pytest

from oche.analysis.decisions import CellDecisions, cell_decisions, count_decided, describe
from oche.core.architecture import Cell
from oche.core.nasbench201 import CELL, parse

EDGES = [(i, j) for j in range(2, 6) for i in range(j)]
OPERATIONS = ["none", *"abcdefg"]


def softmax(logits):
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def top_2(weights) -> Cell:
    """DARTS' discretisation: of each node the two edges with the strongest operations."""
    chosen = []
    for node in range(2, 6):
        incoming = [e for e, (_, target) in enumerate(EDGES) if target == node]
        best = sorted(incoming, key=lambda e: -max(weights[e][1:]))[:2]
        chosen += [(OPERATIONS[1 + int(np.argmax(weights[e][1:]))], *EDGES[e]) for e in sorted(best)]
    return Cell(tuple(chosen), (2, 3, 4, 5))


def searched(increments) -> CellDecisions:
    """The decisions of a search whose logits (14, 8) start equal and move by ``increments`` (T, 14, 8)."""
    logits = np.concatenate([np.zeros((1, 14, 8)), np.cumsum(increments, 0)])
    history = softmax(logits).tolist()
    return cell_decisions("normal", top_2(history[-1]), EDGES, OPERATIONS, history)


def test_by_hand():
    """Two operations on one edge: d = 0, 1, 1.5, 3, 4, so increments 1, 0.5, 1.5, 1 with mean 1 and sd 0.408."""
    history = [[[math.exp(d), 1.0]] for d in (0, 1, 1.5, 3, 4)]
    found = cell_decisions("cell", Cell((("a", 0, 1),), (1,)), [(0, 1)], ["a", "b"], history)
    (node,), (edge,) = found.nodes, found.edges
    assert node.closest == edge and node.kept == ((0, 0),) and edge.rival == (0, 1)
    assert edge.margin == pytest.approx(4) and edge.noise == pytest.approx(math.sqrt(1 / 6) * 2)
    # t = 1 / (0.408 / 2) = 4.899 with 3 degrees of freedom: one-sided p 0.00814, times two candidates
    assert edge.p == pytest.approx(2 * 0.0081392, rel=1e-3) and node.decided


@pytest.mark.parametrize("epochs", [5, 12, 50])
def test_random_searches_are_not_decided(epochs):
    """Logits that walk at random: at most 5 % of the nodes may be called decided."""
    g = np.random.default_rng(epochs)
    runs = [searched(g.normal(0, 0.05, (epochs, 14, 8))) for _ in range(100)]
    decided, nodes = count_decided({str(i): run for i, run in enumerate(runs)})
    assert nodes == 400 and decided <= 0.05 * nodes


@pytest.mark.parametrize("scale", [1e-4, 0.05])
def test_noise_that_lasts_over_epochs_is_not_a_decision(scale):
    """A momentum of 0.5 from epoch to epoch makes increments alike; still at most one node in ten."""
    g = np.random.default_rng(3)
    runs = []
    for _ in range(100):
        noise, moving = g.normal(0, scale, (25, 14, 8)), np.zeros((14, 8))
        runs.append(searched(np.stack([moving := 0.5 * moving + n for n in noise])))
    decided, _ = count_decided({str(i): run for i, run in enumerate(runs)})
    assert decided <= 40


def test_a_signal_is_found_where_it_is():
    """Nodes 2 and 3 have two clear winners, nodes 4 and 5 have none."""
    g = np.random.default_rng(0)
    increments = g.normal(0, 0.05, (20, 14, 8))
    for e, o in ((0, 3), (1, 4), (2, 5), (4, 6)):
        increments[:, e, o] += 0.15
    found = searched(increments)
    assert [node.decided for node in found.nodes] == [True, True, False, False]
    assert [edge.decided for edge in found.edges[:5]] == [True, True, True, False, True]
    assert describe({"normal": found}) == "decided 2 of 4 nodes"


def test_a_steady_but_tiny_margin_decides_nothing():
    """After seven steps all weights are 0.125 to three digits, whatever their direction."""
    found = searched(np.arange(14 * 8).reshape(14, 8)[None].repeat(7, 0) * 1e-5)
    assert all(edge.p < 1e-9 for edge in found.edges) and describe({"normal": found}) == "decided 0 of 4 nodes"


def test_too_few_epochs_decide_nothing():
    found = searched(np.full((3, 14, 8), 1.0) * np.arange(8))
    assert not any(node.decided for node in found.nodes) and math.isnan(found.edges[0].noise)


def test_a_choice_against_the_mixture_is_not_decided():
    """A selection that evaluates the supernet may keep another operation than the strongest."""
    increments = np.zeros((10, 14, 8))
    increments[:, :, 1] = 0.2 + 0.01 * (np.arange(10) % 2)[:, None]
    history = softmax(np.concatenate([np.zeros((1, 14, 8)), np.cumsum(increments, 0)])).tolist()
    cell = Cell((("b", 0, 2), ("b", 1, 2)), (2,))
    (node, *_) = cell_decisions("normal", cell, EDGES, OPERATIONS, history).nodes
    assert not node.decided and node.closest.margin < 0 and node.closest.rival in ((0, 1), (1, 1))


def test_dropped_candidates_count_up_to_the_epoch_before():
    """The rival leads no longer: it was dropped after epoch 5, when the margin was 5 · 0.2."""
    d = np.array([0, 0.21, 0.39, 0.61, 0.79, 1.0])
    history = [[[math.exp(x), 1.0, math.exp(x - 5 * k)]] for k, x in enumerate(d)] + [[[1.0, 0.0, 0.0]]] * 3
    found = cell_decisions("cell", Cell((("a", 0, 1),), (1,)), [(0, 1)], ["a", "b", "c"], history)
    assert found.nodes[0].decided and found.nodes[0].closest.margin == pytest.approx(1.0)
    settled = cell_decisions("c", Cell((("a", 0, 1),), (1,)), [(0, 1)], ["a", "b"], [[[1.0, 0.0]]] * 6)
    assert settled.nodes[0].decided and settled.nodes[0].closest is None and settled.edges == (None,)


def test_none_is_a_choice_where_every_edge_keeps_one():
    """In NAS-Bench-201 an edge that keeps "none" competes with no other edge."""
    cell = parse("|none~0|+|none~0|a~1|+|none~0|none~1|a~2|".replace("a~", "nor_conv_3x3~")).cells[CELL]
    edges, candidates = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)], ["none", "nor_conv_3x3"]
    g = np.random.default_rng(0)
    steps = g.normal(0, 0.02, (12, 6, 2))
    for e in range(6):
        steps[:, e, 0 if e in (0, 1, 3, 4) else 1] += 0.3
    steps[:, 3] = g.normal(0, 0.001, (12, 2))
    history = softmax(np.concatenate([np.zeros((1, 6, 2)), np.cumsum(steps, 0)])).tolist()
    found = cell_decisions(CELL, cell, edges, candidates, history)
    assert [node.decided for node in found.nodes] == [True, True, False]
