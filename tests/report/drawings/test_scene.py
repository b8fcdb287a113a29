"""Scenes as SVG and as PNG."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from PIL import Image

from oche.report.drawings.scene import Box, Curve, Label, Scene, clip, columns, subscripted, text_width, to_png, to_svg
from oche.report.plots.style import INK, SERIES, line_styles, operation_colour, tint

SVG = "{http://www.w3.org/2000/svg}"


def picture(*shapes, name="a picture") -> Scene:
    return Scene(200, 100, shapes, name)


@pytest.mark.parametrize("text", ["sep_conv_3x3", "a", "W" * 40])
def test_text_is_as_wide_as_the_font_makes_it(text):
    font = FontProperties(family="DejaVu Sans Mono")
    advance = TextPath((0, 0), text + ".", size=100, prop=font).vertices[:, 0].max()
    ink = TextPath((0, 0), ".", size=100, prop=font).vertices[:, 0].max()
    assert text_width(text, 100) == pytest.approx(advance - ink, rel=0.01)


@pytest.mark.parametrize(("text", "width"), [("", 0), ("abc", 3), ("e\u0301", 1), ("漢字", 4), ("ξ→α", 3)])
def test_columns_count_what_a_terminal_shows(text, width):
    assert columns(text) == width


@pytest.mark.slow
@given(st.text(max_size=40), st.integers(1, 30))
def test_clipped_text_fits_and_is_valid_xml(text, limit):
    short = clip(text, limit)
    assert columns(short) <= limit
    assert ElementTree.fromstring(to_svg(picture(Label(1, 1, short)))) is not None
    if columns(text) <= limit and text.isprintable():
        assert short == text


def test_what_follows_an_underscore_is_lowered():
    base, low = subscripted("c_{k-2}", 100, 50)
    assert (base.text, low.text) == ("c", "k-2")
    assert low.y > base.y and low.size < base.size
    left = base.x - text_width("c", base.size) / 2
    right = low.x + text_width("k-2", low.size) / 2
    assert (left + right) / 2 == pytest.approx(100)
    assert low.x - text_width("k-2", low.size) / 2 == pytest.approx(base.x + text_width("c", base.size) / 2)
    assert [label.text for label in subscripted("plain", 0, 0)] == ["plain"]


def test_svg_escapes_whatever_the_labels_say():
    hostile = "</text><script>alert(1)</script>\x00\x1b & \"'"
    text = to_svg(
        picture(Label(1, 1, clip(hostile, 99)), Box(0, 0, 9, 9, "#ffffff", "#000000", tip=hostile), name=hostile)
    )
    root = ElementTree.fromstring(text)
    assert "<script>" not in text
    assert root.find(f"{SVG}text").text.startswith("</text><script>")
    assert root.find(f"{SVG}rect[@rx]/{SVG}title").text.startswith("</text><script>")
    assert root.get("aria-label").startswith("</text><script>")


def test_only_text_on_the_page_itself_takes_the_colour_of_the_page():
    box = Box(0, 0, 50, 50, "#eeeeee", "#000000")
    shapes = box, Label(25, 25, "inside"), Label(120, 25, "outside"), Label(120, 80, "coloured", colour="#123456")
    fills = {
        e.text: e.get("fill") for e in ElementTree.fromstring(to_svg(picture(*shapes), None)).findall(f"{SVG}text")
    }
    assert fills == {"inside": INK, "outside": "currentColor", "coloured": "#123456"}
    on_paper = ElementTree.fromstring(to_svg(picture(*shapes)))
    assert on_paper.find(f"{SVG}rect[@class='paper']") is not None
    assert "currentColor" not in {e.get("fill") for e in on_paper.findall(f"{SVG}text")}


@pytest.mark.parametrize("vertical", [False, True])
def test_arrow_heads_end_where_the_curve_is_to_end(vertical):
    curve = Curve(((10, 10), (150, 80)), "#000000", arrow=True, vertical=vertical)
    root = ElementTree.fromstring(to_svg(picture(curve)))
    tip = root.find(f"{SVG}polygon").get("points").split()[0]
    assert tip == "150.0,80.0"
    path = [float(n) for n in re.findall(r"-?\d+\.\d+", root.find(f"{SVG}path").get("d"))]
    assert path[:2] == [10, 10]
    end = path[-2:]
    assert (150 - end[0], 80 - end[1]) == pytest.approx((0, 5.5) if vertical else (5.5, 0))


def test_png_and_svg_show_the_same_places(tmp_path):
    box = Box(40, 20, 60, 40, "#3fa7dd", "#d55e00", radius=0)
    line = Curve(((120, 70), (190, 70)), "#009e73", width=6)
    scene = picture(box, line)
    to_png(scene, tmp_path / "scene.png", dpi=96)
    with Image.open(tmp_path / "scene.png") as image:
        assert image.size == (200, 100)
        at = image.convert("RGB").getpixel
        assert at((70, 40)) == pytest.approx((0x3F, 0xA7, 0xDD), abs=2)
        assert at((155, 70)) == pytest.approx((0x00, 0x9E, 0x73), abs=2)
        assert at((155, 30)) == pytest.approx((0xFE, 0xFE, 0xFE), abs=1)
        edge = [x for x in range(200) if at((x, 40)) == pytest.approx((0x3F, 0xA7, 0xDD), abs=2)]
        assert (edge[0], edge[-1]) == pytest.approx((41, 98), abs=1)


def test_operations_of_a_family_share_a_colour_and_differ_in_their_dash():
    names = ["sep_conv_3x3", "sep_conv_5x5", "skip_connect", "mine"]
    styles = line_styles(names)
    assert [colour for colour, _ in styles] == [operation_colour(name) for name in names]
    assert styles[0][0] == styles[1][0] and styles[0][1] != styles[1][1]
    assert len(set(styles)) == len(names)


@pytest.mark.parametrize("colour", SERIES)
def test_tints_carry_dark_text(colour):
    def brightness(text: str) -> float:
        parts = [int(text[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    assert (brightness(tint(colour)) + 0.05) / (brightness(INK) + 0.05) > 7
