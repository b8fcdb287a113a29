"""The layered layout against slow definitions."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import isotonic_regression

from oche.report.drawings.graph_layout import Link, _order, _rising, arrange, crossings


def random_graph(seed: int, layers: int = 4, width: int = 5):
    draw = random.Random(seed)
    rows, number = [], itertools.count()
    for _ in range(layers):
        rows.append([next(number) for _ in range(draw.randint(1, width))])
    pairs = [(a, b) for low, high in itertools.pairwise(rows) for a in low for b in high if draw.random() < 0.5]
    return rows, [Link(a, b, draw.choice((1.0, 2.0, 24.0))) for a, b in pairs]


GRAPHS = st.builds(random_graph, st.integers(0, 10**6))


@given(st.lists(st.tuples(st.floats(-100, 100), st.floats(0.01, 50)), min_size=1, max_size=30))
def test_rising_is_isotonic_regression(pairs):
    wanted, weights = [w for w, _ in pairs], [w for _, w in pairs]
    assert _rising(wanted, weights) == pytest.approx(list(isotonic_regression(wanted, sample_weight=weights)), abs=1e-7)


@given(GRAPHS)
def test_crossings_are_those_of_straight_lines(graph):
    layers, links = graph
    place = {v: (r, i) for r, layer in enumerate(layers) for i, v in enumerate(layer)}

    def cross(one: Link, two: Link) -> bool:
        """Whether the segments meet at an inner point: the line between two layers changes sides."""
        if place[one.a][0] != place[two.a][0]:
            return False
        before = place[one.a][1] - place[two.a][1]
        after = place[one.b][1] - place[two.b][1]
        return before * after < 0

    assert crossings(layers, links) == sum(cross(a, b) for a, b in itertools.combinations(links, 2))


@given(GRAPHS)
@settings(max_examples=50)
def test_ordering_keeps_the_layers_and_never_adds_crossings(graph):
    layers, links = graph
    ordered = _order([list(layer) for layer in layers], links)
    assert [sorted(layer) for layer in ordered] == layers
    assert crossings(ordered, links) <= crossings(layers, links)


def test_ordering_finds_the_planar_drawing():
    layers = [[0, 1, 2], [3, 4, 5], [6, 7]]
    links = [Link(0, 5), Link(1, 4), Link(2, 3), Link(5, 7), Link(4, 6), Link(3, 6)]
    assert crossings(layers, links) == 3
    assert crossings(_order([list(layer) for layer in layers], links), links) == 0


@given(GRAPHS, st.floats(0, 20))
@settings(max_examples=40)
def test_vertices_of_a_layer_stay_apart(graph, gap):
    layers, links = graph
    sizes = {v: 5.0 + v % 7 for layer in layers for v in layer}
    ys = arrange(layers, links, sizes, gap)
    assert set(ys) == set(sizes)
    for layer in layers:
        for a, b in itertools.combinations(layer, 2):
            assert abs(ys[a] - ys[b]) >= (sizes[a] + sizes[b]) / 2 + gap - 1e-6
    assert arrange(layers, links, sizes, gap) == ys


def test_a_chain_is_level():
    ys = arrange([[0], [1], [2]], [Link(0, 1), Link(1, 2)], dict.fromkeys(range(3), 10.0), 5.0)
    assert max(ys.values()) - min(ys.values()) < 1e-6
