"""Cells as values: the order of edges, the text form, discretisation."""

import copy
import itertools
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oche.core.architecture import (
    Cell,
    Dag,
    Genotype,
    Mix,
    alive_candidates,
    all_alive,
    cell_from_mask,
    cell_title,
    eligible,
    top_k,
)
from oche.core.errors import OcheError

# --- graphs


@given(nodes=st.integers(1, 8), inputs=st.integers(1, 4))
def test_edges_are_all_forward_pairs_by_target_then_source(nodes, inputs):
    dag, total = Dag(nodes, inputs), nodes + inputs
    every = [(i, j) for i, j in itertools.product(range(total), repeat=2) if i < j >= inputs]
    assert list(dag.edges) == sorted(every, key=lambda edge: edge[::-1])
    assert len(dag) == len(every)
    assert [[dag.edges[e] for e in incoming] for incoming in dag.incoming] == [
        [(i, j) for i in range(j)] for j in range(inputs, total)
    ]


def test_the_published_cell_has_14_edges():
    dag = Dag()
    assert len(dag) == 14 and dag.keep == 2
    assert dag.edges[:6] == ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3), (0, 4))
    assert dag.incoming[3] == (9, 10, 11, 12, 13)


@pytest.mark.parametrize("fields", [{"nodes": 0}, {"inputs": 0}, {"keep": 0}])
def test_impossible_graphs_are_refused(fields):
    with pytest.raises(OcheError, match=next(iter(fields)) + "=0"):
        Dag(**fields)


def test_masks_and_strengths():
    dag = Dag(nodes=1)
    alive = all_alive(dag, 3)
    assert alive.shape == (2, 3) and alive.dtype == torch.bool and alive_candidates(alive) == ((0, 1, 2), (0, 1, 2))
    alive[0] = torch.tensor([False, True, False])
    alive[1] = False
    assert alive_candidates(alive) == ((1,), ())
    ops, edges = torch.rand(2, 3), torch.rand(2)
    assert Mix(ops, None, alive_candidates(alive)).strength() is ops
    want = [[ops[e, o] * edges[e] for o in range(3)] for e in range(2)]
    assert torch.equal(Mix(ops, edges, alive_candidates(alive)).strength(), torch.tensor(want))


def test_a_genotype_is_a_value():
    genotype = Genotype.parse("Genotype(normal=[('a', 0), ('b', 1)], normal_concat=[2])")
    assert genotype.normal.nodes == (2,)
    assert pickle.loads(pickle.dumps(genotype)) == copy.deepcopy(genotype) == genotype
    assert not hasattr(genotype, "reduce")
    with pytest.raises(AttributeError, match="no cell 'reduce'; it has normal"):
        _ = genotype.reduce
    both = Genotype({"normal": genotype.normal, "recurrent": genotype.normal})
    with pytest.raises(AttributeError) as caught:
        _ = both.reduce
    assert str(caught.value) == "this genotype has no cell 'reduce'; it has normal, recurrent"
    assert len({hash(genotype), hash(both), hash(Genotype({"reduce": genotype.normal}))}) == 3


EDGES = (("a", 0, 2), ("b", 1, 2), ("c", 2, 3), ("a", 0, 3))


@pytest.mark.parametrize(
    "edges, concat, equal",
    [
        ((EDGES[1], EDGES[0], *EDGES[2:]), (2, 3), True),  # the inputs of a node swapped
        (EDGES[::-1], (2, 3), True),
        (EDGES, (3, 2), True),  # the output nodes swapped
        (EDGES, (3,), False),
        (EDGES[:3], (2, 3), False),
        ((*EDGES, EDGES[3]), (2, 3), False),  # an edge twice is a sum of two operations
        ((("b", 0, 2), ("a", 1, 2), *EDGES[2:]), (2, 3), False),  # the operations swapped
        ((*EDGES[:2], ("c", 0, 3), ("a", 2, 3)), (2, 3), False),
    ],
)
def test_the_order_of_writing_is_no_part_of_a_cell(edges, concat, equal):
    cell, other = Cell(EDGES, (2, 3)), Cell(edges, concat)
    assert (cell == other) is (Genotype({"normal": cell}) == Genotype({"normal": other})) is equal
    assert len({cell, other}) == len({Genotype({"normal": c}) for c in (cell, other)}) == (1 if equal else 2)
    assert other.edges == edges and other.concat == concat and cell != (EDGES, (2, 3))  # kept as written


def test_shares_of_operations():
    cell = Cell((("a", 0, 2), ("b", 1, 2), ("a", 0, 3), ("a", 2, 3), ("c", 1, 3)), (2, 3))
    assert [cell.share(op) for op in "abcd"] == [0.6, 0.2, 0.2, 0.0]


def test_how_cells_are_spoken_of():
    assert [cell_title(group) for group in ("normal", "cell", "recurrent")] == ["normal cell", "cell", "recurrent cell"]


# --- discretisation


def naive_top_k(strength, alive, dag, candidates):
    """Walk each node's (edge, candidate) pairs from the strongest down; take one a source until ``keep`` are taken."""
    edges = []
    for node in range(dag.inputs, dag.inputs + dag.nodes):
        pairs = [
            (-strength[e][o], source, o)
            for e, (source, target) in enumerate(dag.edges)
            for o in range(len(candidates))
            if target == node and alive[e][o] and candidates[o] != "none"
        ]
        taken = {}
        for _, source, o in sorted(pairs):
            if source not in taken and len(taken) < dag.keep:
                taken[source] = o
        edges += [(candidates[taken[source]], source, node) for source in sorted(taken)]
    return tuple(edges)


@given(st.data())
def test_top_k_against_a_walk_over_all_pairs(data):
    dag = Dag(data.draw(st.integers(1, 4)), keep=data.draw(st.integers(1, 3)))
    candidates = tuple(data.draw(st.permutations(["none", "a", "b", "c"])))
    table = lambda values: data.draw(  # noqa: E731
        st.lists(st.lists(values, min_size=4, max_size=4), min_size=len(dag), max_size=len(dag))
    )
    strength = table(st.sampled_from([0.0, 0.25, 0.5, 1.0]))  # few values: ties everywhere
    alive = table(st.booleans()) if data.draw(st.booleans()) else [[True] * 4] * len(dag)
    kept = top_k(torch.tensor(strength), torch.tensor(alive), dag, candidates)
    assert not (kept & ~torch.tensor(alive)).any()
    found = tuple((candidates[o], *dag.edges[e]) for e, row in enumerate(alive_candidates(kept)) for o in row)
    assert found == naive_top_k(strength, alive, dag, candidates)


@pytest.mark.parametrize(("none", "candidates", "left"), [
    (False, ("a", "none", "b"), (0, 2)), (True, ("a", "none", "b"), (0, 1, 2)), (False, ("a", "c", "b"), (0, 1, 2)),
])  # fmt: skip
def test_none_wins_an_edge_only_where_the_graph_says_so(none, candidates, left):
    dag = Dag(nodes=1, inputs=2, none=none)
    alive = all_alive(dag, 3)
    alive[1, 0] = False
    assert alive_candidates(eligible(alive, dag, candidates)) == (left, left[1:])
    assert alive.sum() == 5  # its argument stays as it was


def test_top_k_by_hand():
    dag, candidates = Dag(nodes=2), ("none", "a", "b")
    strength = torch.tensor([[9, 1, 2], [9, 4, 3], [0, 5, 5], [9, 0, 1], [0, 2, 6]])
    cell = cell_from_mask(top_k(strength, all_alive(dag, 3), dag, candidates), dag, candidates)
    # node 3: edge 0 -> 3 ties a with b and takes a; edge 1 -> 3 is strong by "none" alone, so it goes
    assert cell == Cell((("b", 0, 2), ("a", 1, 2), ("a", 0, 3), ("b", 2, 3)), (2, 3))


def test_equal_strengths_keep_the_earliest():
    dag, candidates = Dag(), ("none", "a", "b")
    cell = cell_from_mask(top_k(torch.zeros(14, 3), all_alive(dag, 3), dag, candidates), dag, candidates)
    assert cell.edges == tuple(("a", source, node) for node in range(2, 6) for source in (0, 1))
