"""The overview of a network: every block in order, with its numbers, apart from the others."""

from __future__ import annotations

import itertools
from xml.etree import ElementTree

import pytest
from PIL import Image

from oche.report.drawings.network import network_png, network_scene, network_svg
from oche.report.drawings.scene import Box, Curve, Label, text_width
from oche.spaces import build, seed
from report_runs import DARTS_V2, network


def boxes(scene):
    return [s for s in scene.shapes if isinstance(s, Box)]


def words(scene):
    return [s.text for s in scene.shapes if isinstance(s, Label)]


def assert_sound(scene) -> None:
    for a, b in itertools.combinations(boxes(scene), 2):
        assert a.x + a.width < b.x or b.x + b.width < a.x or a.y + a.height < b.y or b.y + b.height < a.y
    for b in boxes(scene):
        assert b.x >= 0 and b.y >= 0 and b.x + b.width <= scene.width and b.y + b.height <= scene.height
    for label in (s for s in scene.shapes if isinstance(s, Label) and s.size < 13):
        half = text_width(label.text, label.size) / 2
        assert any(
            b.x <= label.x - half and label.x + half <= b.x + b.width and b.y < label.y < b.y + b.height
            for b in boxes(scene)
        )
    for curve in (s for s in scene.shapes if isinstance(s, Curve)):
        for (x0, y0), (x1, y1) in itertools.pairwise(curve.points):
            for k in range(1, 20):
                x, y = x0 + (x1 - x0) * k / 20, y0 + (y1 - y0) * k / 20
                assert not any(b.x < x < b.x + b.width and b.y < y < b.y + b.height for b in boxes(scene))
                assert 0 <= x <= scene.width and 0 <= y <= scene.height


@pytest.mark.parametrize("auxiliary", [False, True])
@pytest.mark.parametrize("cells", [1, 3, 8, 14, 20])
def test_blocks_of_any_network_are_apart_and_joined(cells, auxiliary):
    rows = network(cells, auxiliary=auxiliary)
    scene = network_scene(rows, "Network")
    assert_sound(scene)
    assert len(boxes(scene)) == len(rows)
    arrows = [s for s in scene.shapes if isinstance(s, Curve)]
    assert len(arrows) == len(rows) - 1 and all(arrow.arrow for arrow in arrows)


def test_cells_are_numbered_in_order_with_channels_and_size():
    rows = network(8)
    shown = words(network_scene(rows))
    kinds = [row["name"] for row in rows if row["name"] in ("normal", "reduce")]
    assert [w for w in shown if w[0].isdigit() and " ch " not in w] == [f"{i} {k}" for i, k in enumerate(kinds, 1)]
    for row in rows:
        assert f"{row['channels']} ch · {row['size'][0]}×{row['size'][1]}" in shown


def test_the_auxiliary_head_hangs_below_the_cell_that_it_reads():
    net = build(DARTS_V2, classes=10, channels=4, cells=8, auxiliary=True, image=32)
    rows = net.describe()
    assert [row["name"] for row in rows][7] == "auxiliary"  # after the stem and cells 1 to 6 (number 5 from 0)
    scene = network_scene(rows)
    by_name = {box.tip.split()[0]: box for box in boxes(scene) if box.tip}
    read = [box for box in boxes(scene) if box.tip.startswith("reduce")][1]
    assert by_name["auxiliary"].x == read.x and by_name["auxiliary"].y > read.y + read.height
    assert_sound(scene)


def test_the_seed_searches_without_a_stem_and_alternates_as_its_figure_4():
    rows = seed(channels=4, cells=8, classes=10, image=(32, 32)).describe()
    kinds = [row["name"] for row in rows]
    assert kinds == ["normal", "normal", "reduce", "normal", "normal", "reduce", "normal", "normal", "head"]
    assert_sound(network_scene(rows))


@pytest.mark.parametrize(
    "rows", [[], [{}], [{"name": "auxiliary"}], [{"name": "<&" * 30, "channels": 10**9, "size": "?"}]]
)
def test_what_is_not_known_is_left_out(rows):
    scene = network_scene(rows)
    assert ElementTree.fromstring(network_svg(rows)) is not None
    assert_sound(scene)


def test_png_is_the_scene_at_twice_its_size(tmp_path):
    network_png(network(3), tmp_path / "n.png", "title")
    scene = network_scene(network(3), "title")
    with Image.open(tmp_path / "n.png") as image:
        assert image.size == pytest.approx((2 * scene.width, 2 * scene.height), abs=2)
