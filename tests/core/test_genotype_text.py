"""The text form of genotypes: round trips, published forms, malformed text."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oche.core.architecture import Cell, Genotype
from oche.core.errors import OcheError

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


FOUR = (("a", 0, 2), ("b", 1, 2), ("c", 2, 3), ("d", 0, 3))


@pytest.mark.parametrize(
    "cell",
    [
        "[('a', 0), ('b', 1), ('c', 2), ('d', 0)]",
        "[[('a', 0), ('b', 1)], [('c', 2), ('d', 0)]]",
        "((('a', 0), ('b', 1)), (('c', 2), ('d', 0)))",
        "[[('a', 0, 2), ('b', 1, 2)], [('c', 2, 3), ('d', 0, 3)]]",
        "[[('a', 0, 0.31), ('b', 1, 0.2)], [('c', 2, 0.9), ('d', 0, 0.5)]]",
        "[('a', 0, 2), ('b', 1, 2), ('c', 2, 3), ('d', 0, 3)]",
        "[('a', 2, 0), ('b', 2, 1), ('c', 3, 2), ('d', 3, 0)]",
        "[(0, 'a'), (1, 'b'), (2, 'c'), (0, 'd')]",
        "[(2, 0, 'a'), (2, 1, 'b'), (3, 2, 'c'), (3, 0, 'd')]",
        "[('a', 0, 0.31), ('b', 1, 0.2), ('c', 2, 0.9), ('d', 0, 0.5)]",
    ],
)
def test_edges_are_read_in_every_order_that_codes_write(cell):
    genotype = Genotype.parse(f"Genotype(normal={cell}, normal_concat=[2, 3], connectN=None, connects=None)")
    assert genotype.normal.edges == FOUR and genotype.normal.concat == (2, 3)


def test_a_list_for_each_node_may_have_any_number_of_edges():
    genotype = Genotype.parse("Genotype(normal=[[('a', 0)], [], [('b', 0), ('c', 1), ('d', 2)]], normal_concat=[4])")
    assert genotype.normal.edges == (("a", 0, 2), ("b", 0, 4), ("c", 1, 4), ("d", 2, 4))
    assert Genotype.parse(str(genotype)) == genotype
    recurrent = Genotype.parse("Genotype(recurrent=[[('tanh', 0)], [('relu', 1)]], concat=[2])").recurrent
    assert recurrent.edges == (("tanh", 0, 1), ("relu", 1, 2))


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
    "a.Genotypes(normal=1)": f"not a genotype: 'a.Genotypes(normal=1)'{EXAMPLE}",
    "Genotype": f"not a genotype: 'Genotype'{EXAMPLE}",
    "Genotype()": "genotype names no cell: 'Genotype()'",
    "Genotype\0()": f"not a genotype: 'Genotype\\x00()'{EXAMPLE}",
    "Genotype([1])": f"a genotype takes each cell once and by name: 'Genotype([1])'{EXAMPLE}",
    "Genotype(**{})": f"a genotype takes each cell once and by name: 'Genotype(**{{}})'{EXAMPLE}",
    f"Genotype({PAIRS}, {PAIRS}, normal_concat=[2])": (
        f"a genotype takes each cell once and by name: \"Genotype({PAIRS}, normal=[('a', 0), (...\"{EXAMPLE}"
    ),
    f"Genotype({PAIRS}); import os": (
        "genotype has normal= but no normal_concat=; add it, for example normal_concat=range(2, 6)"
    ),
    f"(Genotype({PAIRS}, normal_concat=[2]), 1)": f'not a genotype: "(Genotype({PAIRS}, normal_concat=[2])..."{EXAMPLE}',
    "Genotype(normal=[('a', 0, 2), ('b', 3, 1)], normal_concat=[2, 3])": (
        "genotype: normal= names the source first in some triples and the target first in others; "
        "write ('operation', source, target)"
    ),
    "Genotype(normal=[[('a', 0)], ('b', 1)], normal_concat=[2])": f"genotype: normal[0] is \"[('a', 0)]\"{PAIR}",
    "Genotype(normal=[[('a', 0), ('b', 3, 1)]], normal_concat=[2])": (
        "genotype: normal[0][1] is \"('b', 3, 1)\", but list 0 belongs to node 2; write ('operation', source)"
    ),
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
