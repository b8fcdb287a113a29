"""Sentences and rows about decided nodes, from histories whose decisions are known."""

from __future__ import annotations

import pytest

from oche.core.architecture import Cell, Genotype
from oche.report.decision_text import decision_finding, decision_row
from oche.report.mixture_history import MixtureHistory, find_decisions


def history(*steps: list[float]) -> MixtureHistory:
    """Node 2 with edges from 0 and 1 and the operations a and b; the ratio of a and b on edge 0 doubles by each step."""
    found, ratio = [], 1.0
    for epoch, step in enumerate([0.0, *steps]):
        ratio *= 2.0**step
        found.append((epoch, [[ratio, 1.0], [ratio, 1.0]]))
    return MixtureHistory("normal", ((0, 2), (1, 2)), ("a", "b"), 2, tuple(found), False)


KEPT = Genotype({"normal": Cell((("a", 0, 2), ("a", 1, 2)), (2,))})


@pytest.mark.parametrize(
    ("steps", "says", "row"),
    [
        ([1.0, 1.1, 0.9, 1.0], "decided 1 of 1 nodes. Every choice stands out", ("b from 0", "+2.773", "yes")),
        ([1.0, -1.1, 0.9, -1.0], "decided 0 of 1 nodes. Every choice lies within the noise", ("b from 0", "-0.139", "no")),
        ([1.0, 1.0], "decided 0 of 1 nodes", ("b from 0", "+1.386", "no: too few epochs to tell")),
    ],
)  # fmt: skip
def test_a_finding_and_its_row(steps, says, row):
    mixture = history(*steps)
    found = find_decisions([mixture], KEPT)
    assert decision_finding(found).startswith(f"The search {says}")
    (node,) = found["normal"].nodes
    cell, number, kept, rival, margin, *_, verdict = decision_row(mixture, node)
    assert (cell, number, kept) == ("normal", "2", "a from 0 + a from 1") and (rival, margin, verdict) == row


def test_some_nodes_decided():
    one, other = history(1.0, 1.1, 0.9, 1.0), history(1.0, -1.1, 0.9, -1.0)
    found = find_decisions([one], KEPT) | {"reduce": other.decisions(KEPT)}
    assert decision_finding(found) == (
        "The search decided 1 of 2 nodes. The choice of the other node lies within the noise of the search: another seed may "
        "choose differently there."
    )


def test_what_was_never_recorded_has_no_decisions():
    assert find_decisions([], KEPT) == {} and find_decisions([history(1.0)], None) == {}
