"""Pictures of cells, whatever the cell: nothing overlaps, nothing is missing, nothing leaves the picture."""

from __future__ import annotations

import itertools
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from oche.core import genotypes
from oche.core.architecture import Cell, Genotype
from oche.core.blocks import is_chain
from oche.core.nasbench201 import EXAMPLE, parse
from oche.report.drawings.cell import cell_png, cell_scene, cell_svg, layout_cell
from oche.report.drawings.scene import Box, Curve, Label, _segments, text_width
from report_runs import AMOEBA_LIKE, DARTS_V2, RECURRENT, chain, random_cell

NAMED = {
    f"{what}-{name}": cell
    for what, text in {"DARTS_V2": DARTS_V2, "recurrent": RECURRENT, "amoeba": AMOEBA_LIKE}.items()
    for name, cell in Genotype.parse(text).cells.items()
} | {
    "chain": chain(),
    "one edge": Cell((("skip_connect", 0, 2),), (2,)),
    "ten edges into one node": Cell(tuple((f"op_{i}", i % 2, 2) for i in range(10)), (2,)),
    "long names": Cell(tuple((f"an_operation_with_quite_a_name_{i}", i, 2) for i in range(2)), (2,)),
    "one node in the output": Cell((("a", 0, 2), ("b", 1, 2), ("c", 2, 3), ("d", 0, 3)), (3,)),
    "an unused node": Cell((("a", 0, 2), ("b", 1, 3)), (2,)),
}
CELLS = st.builds(random_cell, st.integers(0, 10**6), nodes=st.integers(1, 7))


def boxes(picture):
    return [s for s in picture.shapes if isinstance(s, Box)]


def along(curve: Curve, steps: int = 12):
    """Points on the curve, between its ends."""
    start = curve.points[0]
    for a, b, end in _segments(curve):
        for i in range(1, steps + 1):
            t = i / steps
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
            corners = (start, a, b, end)
            yield tuple(sum(w * p[k] for w, p in zip(weights, corners, strict=True)) for k in (0, 1))
        start = end


def assert_sound(cell: Cell) -> None:
    places = layout_cell(cell)
    assert_complete(cell, places)
    picture = cell_scene(cell, "a title")
    assert_apart(picture)
    assert_clear_of_boxes(picture)


def assert_complete(cell: Cell, places) -> None:
    """Every edge is one route from its source over its own label to its target; output lines likewise."""
    output = max(cell.nodes) + 1
    ends = [(edge, places.vertices[way[0]].node, places.vertices[way[-1]].node) for edge, way in places.routes]
    assert [end for end in ends if end[0] >= 0] == [(e, s, t) for e, (_, s, t) in enumerate(cell.edges)]
    joined = (
        cell.concat if len(cell.concat) > 1 or cell.inputs > 1 else ()
    )  # a cell of NAS-Bench-201 ends at its last node
    assert [end for end in ends if end[0] < 0] == [(-1, node, output) for node in joined]
    for edge, way in places.routes:
        inner = [places.vertices[i] for i in way[1:-1]]
        assert all(v.edge == edge for v in inner)
        assert [v.kind for v in inner].count("label") == (edge >= 0)
        xs = [places.vertices[i].x for i in way]
        assert xs == sorted(set(xs))  # from left to right


def assert_apart(picture) -> None:
    """Boxes are in the picture and apart, text is in its box."""
    for b in boxes(picture):
        assert b.x >= 0 and b.y >= 0 and b.x + b.width <= picture.width and b.y + b.height <= picture.height
    for a, b in itertools.combinations(boxes(picture), 2):
        beside = a.x + a.width < b.x or b.x + b.width < a.x
        assert beside or a.y + a.height < b.y or b.y + b.height < a.y, f"{a.tip!r} lies on {b.tip!r}"
    for label in (s for s in picture.shapes if isinstance(s, Label) and not s.bold):
        half = text_width(label.text, label.size) / 2
        fits = (
            b.x <= label.x - half and label.x + half <= b.x + b.width and b.y < label.y < b.y + b.height
            for b in boxes(picture)
        )
        assert any(fits), f"{label.text!r} is wider than its box"


def assert_clear_of_boxes(picture) -> None:
    """A curve that connects boxes passes behind its own labels only: it is never within a box of another edge."""
    for curve in (s for s in picture.shapes if isinstance(s, Curve)):
        for x, y in along(curve):
            inside = (b for b in boxes(picture) if b.x + 1 < x < b.x + b.width - 1 and b.y + 1 < y < b.y + b.height - 1)
            for b in inside:
                own = b.stroke == curve.stroke and any(b.x - 1 <= px <= b.x + b.width + 1 for px, _ in curve.points)
                middle = b.y + b.height / 2
                assert own and abs(y - middle) < 1e-6, f"an arrow crosses {b.tip!r}"


@pytest.mark.parametrize("name", NAMED)
def test_named_cells_are_drawn_soundly(name):
    assert_sound(NAMED[name])


@pytest.mark.slow
@given(CELLS)
@settings(max_examples=60)
def test_random_cells_are_drawn_soundly(cell):
    assert_sound(cell)


@pytest.mark.parametrize("name", [name for name, g in genotypes.GENOTYPES.items() if not is_chain(g.genotype)])
def test_published_cells_are_drawn_soundly(name):
    for cell in genotypes.resolve(name).cells.values():
        assert_sound(cell)


@given(CELLS)
@settings(max_examples=15)
def test_svg_parses_and_holds_every_operation_and_arrow(cell):
    for background in ("#fefefe", None):
        root = ElementTree.fromstring(cell_svg(cell, '<a> & "b"', background=background))
        space = "{http://www.w3.org/2000/svg}"
        assert len(root.findall(f"{space}polygon")) == len(cell.edges) + len(cell.concat)
        words = [element.text for element in root.findall(f"{space}text")]
        for operation in {op for op, _, _ in cell.edges}:
            assert words.count(operation) == sum(op == operation for op, _, _ in cell.edges)
        assert '<a> & "b"' in words
        assert root.get("aria-label").startswith('<a> & "b": node 2 takes')


def test_dashed_lines_are_the_output():
    cell = random_cell(3)
    dashed = [s for s in cell_scene(cell).shapes if isinstance(s, Curve) and s.dashed]
    assert len(dashed) == len(cell.concat)


def test_names_of_the_inputs_can_be_chosen_and_are_ignored_where_they_do_not_fit():
    cell = NAMED["DARTS_V2-normal"]
    assert "left" in cell_svg(cell, inputs=("left", "right"))
    assert "left" not in cell_svg(NAMED["recurrent-recurrent"], inputs=("left", "right"))


def test_the_same_cell_gives_the_same_picture():
    cell = random_cell(5)
    assert cell_svg(cell) == cell_svg(cell)
    assert layout_cell(cell) == layout_cell(Cell(cell.edges, cell.concat))


def test_png_has_two_pixels_a_unit_and_the_colours_of_the_scene(tmp_path):
    cell = NAMED["DARTS_V2-normal"]
    cell_png(cell, tmp_path / "cell.png", "normal cell")
    picture = cell_scene(cell, "normal cell")
    with Image.open(tmp_path / "cell.png") as image:
        assert image.size == pytest.approx((2 * picture.width, 2 * picture.height), abs=2)
        pixels = image.convert("RGB")
    for box in boxes(picture):  # a spot inside, away from the text
        found = pixels.getpixel((round(2 * (box.x + 7)), round(2 * (box.y + 4))))
        wanted = tuple(int(box.fill[i : i + 2], 16) for i in (1, 3, 5))
        assert found == pytest.approx(wanted, abs=3), box.tip


def test_a_cell_of_nas_bench_201_ends_in_its_last_node():
    for text in (EXAMPLE, "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"):
        cell = parse(text).cells["cell"]
        routes = [(edge, way) for edge, way in layout_cell(cell).routes]
        assert [edge for edge, _ in routes] == list(range(6))  # no lines to an output of its own
        picture = cell_scene(cell, "a title")
        assert_apart(picture)
        assert_clear_of_boxes(picture)
        words = [s.text for s in picture.shapes if isinstance(s, Label)]
        assert words.count("in") == words.count("out") == 1 and not {"x, h", "h", "c"} & {*words}
        out, x = (
            next(s for s in picture.shapes if isinstance(s, Label) and s.text == "out"),
            max(b.x for b in boxes(picture)),
        )
        assert next(b for b in boxes(picture) if b.x == x).tip == "output" and x < out.x
        numbers = sorted(word for word in words if word.isdigit())
        assert numbers == ["0", "1", "2", "3"]


def test_a_recurrent_cell_still_ends_in_a_mean_of_its_nodes():
    words = [s.text for s in cell_scene(NAMED["recurrent-recurrent"]).shapes if isinstance(s, Label)]
    assert "x, h" in words and "h" in words and "t" in words and "out" not in words
