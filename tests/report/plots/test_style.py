"""Text in figures is text, and a figure is the same every time."""

from __future__ import annotations

import pytest

from oche.core.architecture import Dag
from oche.report.plots import mixtures, style
from report_figures import labels, make_history
from report_runs import OPERATIONS

EDGES = Dag().edges


@pytest.mark.slow
def test_names_are_text_and_never_mathematics():
    names = ("$x^2$", "$\\frac$", "a_b", "<b>&", "ένα", "x" * 100)
    history = make_history(2, edges=EDGES[:2], operations=names)
    figure = mixtures.alpha_heatmap(history[-1][1], EDGES[:2], names, "$\\nonsense{$ & <title>")
    assert labels(figure.axes[0].get_yticklabels())[:2] == ["$x^2$", "$\\frac$"]
    assert "$\\frac$" in style.svg(figure) and style.png(figure).startswith(b"\x89PNG")
    assert "$\\frac$" in style.svg(mixtures.operation_shares({"$\\cell$": (names, history)}))


def test_a_figure_gives_the_same_svg_twice():
    weights = make_history()[-1][1]
    first, second = (style.svg(mixtures.alpha_heatmap(weights, EDGES, OPERATIONS, "normal")) for _ in range(2))
    assert first == second
