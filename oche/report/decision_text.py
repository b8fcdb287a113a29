"""Sentences and table rows about what a search decided, see `oche.analysis.decisions`."""

from __future__ import annotations

from collections.abc import Mapping

from oche.analysis.decisions import CellDecisions, Choice, NodeDecision, count_decided, describe
from oche.report.format_numbers import UNKNOWN
from oche.report.mixture_history import MixtureHistory

MARGIN = (
    "The margin is the logarithm of the ratio of two weights: of the choice, and of its closest rival on the same edge or on an "
    "edge that was dropped. The noise is the standard deviation that the margin would have if the search had moved by chance "
    "alone, from the scatter of its changes over the epochs. p is that of the t-test of these changes, corrected for the number "
    "of candidates of the node. A node is decided if p is at most 0.05 and the choice weighs at least 5 % more than its rival."
)


def decision_finding(found: Mapping[str, CellDecisions]) -> str:
    """Write how many nodes the search decided, and what follows for the reader."""
    decided, nodes = count_decided(found)
    told = f"The search {describe(found)}."
    if decided == nodes:
        return f"{told} Every choice stands out from the noise of the search."
    if not decided:
        return (
            f"{told} Every choice lies within the noise of the search, so the cell is little better founded than a random one. "
            "A longer search may decide; a published cell is the safer choice."
        )
    rest = nodes - decided
    what = "choice of the other node lies" if rest == 1 else f"choices of the other {rest} nodes lie"
    return f"{told} The {what} within the noise of the search: another seed may choose differently there."


def decision_row(mixture: MixtureHistory, node: NodeDecision) -> tuple[str, ...]:
    """Return the row of one node: cell, node, kept choices, closest rival, margin, noise, p, whether it is decided."""

    def name(choice: Choice) -> str:
        (source, _), operation = mixture.edges[choice[0]], mixture.candidates[choice[1]]
        return f"{operation} from {source}"

    kept, closest = " + ".join(map(name, node.kept)), node.closest
    if closest is None:
        return node.cell, str(node.node), kept, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, "yes: one candidate was left"
    known = closest.noise == closest.noise  # not nan
    numbers = (
        f"{closest.margin:+.3f}",
        f"{closest.noise:.3f}" if known else UNKNOWN,
        f"{closest.p:.2g}" if known else UNKNOWN,
    )
    verdict = "yes" if node.decided else "no" if known else "no: too few epochs to tell"
    return node.cell, str(node.node), kept, name(closest.rival), *numbers, verdict
