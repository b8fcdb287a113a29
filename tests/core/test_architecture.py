"""Cells as values: the order of edges, the text form, discretisation."""

import copy
import itertools
import os
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


# --- text form

names = st.one_of(st.sampled_from(["sep_conv_3x3", "skip_connect"]), st.text(min_size=1, max_size=6))


@st.composite
def cells(draw, inputs, per):
    """A cell whose n-th node is entered by ``per`` edges (a strategy of numbers)."""
    targets = range(inputs, inputs + draw(st.integers(1, 5)))
    edges = [(draw(names), draw(st.integers(0, target - 1)), target) for target in targets for _ in range(draw(per))]
    concat = draw(st.lists(st.sampled_from(targets), min_size=1, unique=True))
    return Cell(tuple(edges), tuple(concat))


conv = cells(inputs=2, per=st.just(2))
odd = cells(inputs=3, per=st.integers(1, 3))  # needs the target node written out
recurrent = cells(inputs=1, per=st.just(1))


@given(
    st.one_of(
        st.fixed_dictionaries({"normal": conv, "reduce": conv}),
        st.fixed_dictionaries({"normal": odd, "reduce": conv}),
        st.fixed_dictionaries({"recurrent": st.one_of(recurrent, odd)}),
        st.fixed_dictionaries({"recurrent": recurrent, "normal": conv, "custom": odd}),
    )
)
def test_text_round_trip(parts):
    genotype = Genotype(parts)
    text = str(genotype)
    again = Genotype.parse(text)
    assert again == genotype and hash(again) == hash(genotype) and str(again) == text
    backwards = Genotype(dict(reversed(parts.items())))
    assert backwards == genotype and hash(backwards) == hash(genotype)


def test_published_forms_read_alike():
    spaced = """
        NAME = Genotype(
          normal = [("a", 1), ["b", 0],
                    ('c', 2), ('d', 0),],
          normal_concat = (2, 3), )
    """
    genotype = Genotype.parse(spaced)
    assert genotype.normal == Cell((("a", 1, 2), ("b", 0, 2), ("c", 2, 3), ("d", 0, 3)), (2, 3))
    assert str(genotype) == "Genotype(normal=[('a', 1), ('b', 0), ('c', 2), ('d', 0)], normal_concat=range(2, 4))"


def test_recurrent_cells_own_one_pair_a_node():
    genotype = Genotype.parse("Genotype(recurrent=[('sigmoid', 0), ('relu', 1), ('tanh', 1)], concat=range(1, 4))")
    assert genotype.recurrent == Cell((("sigmoid", 0, 1), ("relu", 1, 2), ("tanh", 1, 3)), (1, 2, 3))
    assert genotype.recurrent.inputs == 1


def test_triples_name_the_target_node():
    text = "Genotype(normal=[('a', 0, 2), ('b', 1, 3)], normal_concat=[3])"
    genotype = Genotype.parse(text)
    assert genotype.normal.edges == (("a", 0, 2), ("b", 1, 3))
    assert str(genotype) == text.replace("[3]", "range(3, 4)")


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


def test_shares_of_operations():
    cell = Cell((("a", 0, 2), ("b", 1, 2), ("a", 0, 3), ("a", 2, 3), ("c", 1, 3)), (2, 3))
    assert [cell.share(op) for op in "abcd"] == [0.6, 0.2, 0.2, 0.0]


def test_how_cells_are_spoken_of():
    assert [cell_title(group) for group in ("normal", "cell", "recurrent")] == ["normal cell", "cell", "recurrent cell"]


PAIRS = "normal=[('a', 0), ('b', 1)]"
EXAMPLE = (
    "; write Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), reduce=..., reduce_concat=...)"
)
LISTS = "; write lists, tuples, strings and integers"
PAIR = "; write ('operation', source)"
ORDER = ", which does not come before it; use one of "
COMPUTED = " names nodes that the cell does not compute; use some of [2]"
MALFORMED = {
    "": f"not a genotype: ''{EXAMPLE}",
    "DARTS_V2": f"not a genotype: 'DARTS_V2'{EXAMPLE}",
    "Genotype(": f"not a genotype: 'Genotype('{EXAMPLE}",
    "genotype(normal=1)": f"not a genotype: 'genotype(normal=1)'{EXAMPLE}",
    "a.Genotype(normal=1)": f"not a genotype: 'a.Genotype(normal=1)'{EXAMPLE}",
    "Genotype": f"not a genotype: 'Genotype'{EXAMPLE}",
    "Genotype()": "genotype names no cell: 'Genotype()'",
    "Genotype\0()": f"not a genotype: 'Genotype\\x00()'{EXAMPLE}",
    "Genotype([1])": f"a genotype takes each cell once and by name: 'Genotype([1])'{EXAMPLE}",
    "Genotype(**{})": f"a genotype takes each cell once and by name: 'Genotype(**{{}})'{EXAMPLE}",
    f"Genotype({PAIRS}, {PAIRS}, normal_concat=[2])": (
        f"a genotype takes each cell once and by name: \"Genotype({PAIRS}, normal=[('a', 0), (...\"{EXAMPLE}"
    ),
    f"Genotype({PAIRS}); import os": f'not a genotype: "Genotype({PAIRS}); import os"{EXAMPLE}',
    f"Genotype({PAIRS})": ("genotype has normal= but no normal_concat=; add it, for example normal_concat=range(2, 6)"),
    "Genotype(recurrent=[('tanh', 0)], recurrent_concat=[1])": (
        "genotype has recurrent= but no concat=; add it, for example concat=range(2, 6)"
    ),
    f"Genotype({PAIRS}, normal_concat=[2], reduce_concat=[2])": (
        "genotype has reduce_concat= without the cell it belongs to"
    ),
    f"Genotype({PAIRS}, normal_concat=[2], concat=[2])": "genotype has concat= without the cell it belongs to",
    "Genotype(normal=[], normal_concat=[2])": (
        "a cell of a genotype has no edges; write at least one ('operation', source)"
    ),
    "Genotype(normal=7, normal_concat=[2])": ("genotype: normal= is int; write a list of ('operation', source) pairs"),
    "Genotype(normal=[('a', 0)], normal_concat=[2])": (
        "genotype: normal= has 1 pairs; each node takes 2, so write an even number"
    ),
    "Genotype(normal=['ab', 'cd'], normal_concat=[2])": f"genotype: normal[0] is 'ab'{PAIR}",
    "Genotype(normal=[(1, 0), ('b', 1)], normal_concat=[2])": f"genotype: normal[0] is '(1, 0)'{PAIR}",
    "Genotype(normal=[('a',), ('b', 1)], normal_concat=[2])": f"genotype: normal[0] is \"('a',)\"{PAIR}",
    "Genotype(normal=[('b', 1), ('a', 0, 2, 3)], normal_concat=[2])": f"genotype: normal[1] is \"('a', 0, 2, 3)\"{PAIR}",
    "Genotype(normal=[('a', 0.5), ('b', 1)], normal_concat=[2])": f"genotype: normal[0] is \"('a', 0.5)\"{PAIR}",
    "Genotype(normal=[('a', True), ('b', 1)], normal_concat=[2])": f"genotype: normal[0] is \"('a', True)\"{PAIR}",
    "Genotype(normal=[('a', 0, 2.0), ('b', 1, 2)], normal_concat=[2])": f"genotype: normal[0] is \"('a', 0, 2.0)\"{PAIR}",
    "Genotype(normal=[('a', 0), ('b', 1, 2)], normal_concat=[2])": (
        "genotype: normal= mixes pairs and triples; give every edge its target node, or none"
    ),
    "Genotype(normal=[('a', 0), ('b', 2)], normal_concat=[2])": f"edge ('b', 2) enters node 2 from node 2{ORDER}[0, 1]",
    "Genotype(normal=[('a', 0), ('b', -1)], normal_concat=[2])": (
        f"edge ('b', -1) enters node 2 from node -1{ORDER}[0, 1]"
    ),
    "Genotype(normal=[('a', 0, 2), ('b', 3, 4)], normal_concat=[2])": (
        f"edge ('b', 3) enters node 4 from node 3{ORDER}[0, 1, 2]"
    ),
    f"Genotype({PAIRS}, normal_concat=[1])": f"concat=[1]{COMPUTED}",
    f"Genotype({PAIRS}, normal_concat=[3])": f"concat=[3]{COMPUTED}",
    f"Genotype({PAIRS}, normal_concat=range(3))": f"concat=[0, 1, 2]{COMPUTED}",
    f"Genotype({PAIRS}, normal_concat=range(0, 3))": f"concat=[0, 1, 2]{COMPUTED}",
    f"Genotype({PAIRS}, normal_concat=range(998, 999))": f"concat=[998]{COMPUTED}",
    f"Genotype({PAIRS}, normal_concat=[])": f"concat=[]{COMPUTED}",
    f"Genotype({PAIRS}, normal_concat=2)": ("genotype: normal_concat='2'; write range(2, 6) or a list of node numbers"),
    f"Genotype({PAIRS}, normal_concat=['2'])": (
        "genotype: normal_concat=\"['2']\"; write range(2, 6) or a list of node numbers"
    ),
    f"Genotype({PAIRS}, normal_concat=range())": "genotype: normal_concat='range()'; write range(2, 6)",
    f"Genotype({PAIRS}, normal_concat=range(2, 9, 2))": ("genotype: normal_concat='range(2, 9, 2)'; write range(2, 6)"),
    f"Genotype({PAIRS}, normal_concat=range(2, True))": ("genotype: normal_concat='range(2, True)'; write range(2, 6)"),
    f"Genotype({PAIRS}, normal_concat=range(2, stop=3))": (
        "genotype: normal_concat='range(2, stop=3)'; write range(2, 6)"
    ),
    f"Genotype({PAIRS}, normal_concat=range(-1, 3))": "genotype: normal_concat='range(-1, 3)'; write range(2, 6)",
    f"Genotype({PAIRS}, normal_concat=range(2, 1000))": "genotype: normal_concat='range(2, 1000)'; write range(2, 6)",
    f"Genotype({PAIRS}, normal_concat=xrange(2, 3))": (
        f"genotype: normal_concat= is not a plain list: 'xrange(2, 3)'{LISTS}"
    ),
    f"Genotype({PAIRS}, normal_concat=range(0, 10**9))": (
        f"genotype: normal_concat= is not a plain list: '10 ** 9'{LISTS}"
    ),
    f"Genotype({PAIRS}, normal_concat=range(1000000000))": (
        "genotype: normal_concat='range(1000000000)'; write range(2, 6)"
    ),
    f"Genotype(normal={'-' * 900}1, normal_concat=[2])": (
        f"genotype: normal= is not a plain list: a deeply nested expression{LISTS}"
    ),
    f"Genotype(normal={'1+' * 900}1, normal_concat=[2])": (
        f"genotype: normal= is not a plain list: a deeply nested expression{LISTS}"
    ),
    f"Genotype(normal={'(' * 50_000}": f"not a genotype: 'Genotype(normal={'(' * 41}...'{EXAMPLE}",
    f"Genotype(normal=[{'0,' * 60_000}])": (f"genotype text has 120019 characters, more than any cell needs{EXAMPLE}"),
}


@pytest.mark.parametrize("text", MALFORMED, ids=lambda text: text[:60])
def test_malformed_text_is_one_line(text):
    with pytest.raises(OcheError) as caught:
        Genotype.parse(text)
    assert str(caught.value) == MALFORMED[text]


@pytest.mark.parametrize("place", ["normal", "operation", "source", "concat", "bound", "wrapper", "cell"])
def test_nothing_is_ever_evaluated(place):
    evil = "__import__('os').environ.__setitem__('OCHE_EVALUATED', '1')"
    text = {
        "normal": f"Genotype(normal={evil}, normal_concat=[2])",
        "operation": f"Genotype(normal=[({evil}, 0), ('b', 1)], normal_concat=[2])",
        "source": f"Genotype(normal=[('a', {evil}), ('b', 1)], normal_concat=[2])",
        "concat": f"Genotype({PAIRS}, normal_concat={evil})",
        "bound": f"Genotype({PAIRS}, normal_concat=range(2, {evil}))",
        "wrapper": f"({evil}, Genotype({PAIRS}, normal_concat=[2]))[1]",
        "cell": f"Genotype(**{{'normal': {evil}}})",
    }[place]
    with pytest.raises(OcheError):
        Genotype.parse(text)
    assert "OCHE_EVALUATED" not in os.environ


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
