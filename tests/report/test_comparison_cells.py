"""Cells of two runs side by side."""

from oche.core.architecture import Cell, Genotype
from oche.report.comparison_cells import cell_sections, mark_differences
from oche.report.drawings.cell import MARK

A, B = "sep_conv_3x3", "skip_connect"


def test_edges_that_only_one_cell_has_are_marked():
    one = Cell(((A, 0, 2), (B, 1, 2), (A, 0, 3), (A, 0, 3)), (2, 3))
    other = Cell(((A, 0, 2), (A, 1, 2), (A, 0, 3), (B, 2, 3)), (2, 3))
    drawn, said = mark_differences(one, other)
    assert drawn.edges == (
        (A, 0, 2),
        (f"{MARK} {B}", 1, 2),
        (A, 0, 3),
        (f"{MARK} {A}", 0, 3),
    )  # the second of two alike
    assert said == f"2 of 4 edges only here: {B} 1→2, {A} 0→3"
    assert mark_differences(one, one) == (one, "the same edges")
    assert mark_differences(one, Cell(one.edges, (3,)))[1] == "the same edges; its output joins nodes 2, 3"


def test_pairs_of_cells_show_their_differences_by_sign_and_width():
    cells = (
        Genotype({"normal": Cell(((A, 0, 2), (B, 1, 2)), (2,))}),
        Genotype({"normal": Cell(((A, 0, 2), (A, 1, 2)), (2,))}),
    )
    (section,) = cell_sections([("x", cells[0]), ("y", cells[1])])
    fold = section.items[1]
    assert fold.summary == "y beside x: normal cell 1 of 2 edges differ" and fold.open
    for figure, op in zip(fold.items[0].items, (B, A), strict=True):
        assert f"{MARK} {op}" in figure.svg and figure.svg.count(f'">{MARK} ') == 1
        assert figure.svg.count('stroke-width="3.2"') == 1
    assert cell_sections([]) == [] and cell_sections([("x", cells[0])])[0].items[0]
