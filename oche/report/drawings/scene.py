"""Scenes of boxes, curves and labels, written as SVG text or as PNG files with the same geometry.

Units are CSS pixels, y points down. The SVG has no ids (arrow heads are plain polygons), so one page can hold many scenes.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from oche.report.plots.style import INK, PAPER

MONO = 0.603  # advance of one character of a monospaced font, in units of its size
_FONT = "DejaVu Sans Mono, ui-monospace, Menlo, Consolas, monospace"
_ARROW = (6.5, 3.2)  # length and half width of an arrow head
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ufffe\uffff\ud800-\udfff]")  # not allowed in XML

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A rounded rectangle with its top left corner at (x, y)."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    stroke: str
    radius: float = 5.0
    tip: str = ""  # shown while the pointer is over it


@dataclass(frozen=True)
class Curve:
    """A path through ``points`` with horizontal tangents; the arrow head, if any, points right or down."""

    points: tuple[Point, ...]
    stroke: str
    width: float = 1.4
    dashed: bool = False
    arrow: bool = False
    vertical: bool = False  # straight segments, arrow head pointing down


@dataclass(frozen=True)
class Label:
    """Monospaced text centred on (x, y)."""

    x: float
    y: float
    text: str
    size: float = 11.0
    colour: str = INK
    bold: bool = False


Shape = Box | Curve | Label


@dataclass(frozen=True)
class Scene:
    """The shapes of a drawing and its size; ``name`` is the text for screen readers."""

    width: float
    height: float
    shapes: tuple[Shape, ...]
    name: str


def columns(text: str) -> int:
    """Return the number of monospaced columns that ``text`` takes."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def text_width(text: str, size: float) -> float:
    """Return the width in pixels of monospaced ``text``."""
    return columns(text) * MONO * size


def clip(text: str, limit: int) -> str:
    """Return ``text`` without control characters, cut with an ellipsis where it takes more than ``limit`` columns."""
    text = _CONTROL.sub(" ", text)
    if columns(text) <= limit:
        return text
    while columns(text) > limit - 1:
        text = text[:-1]
    return text + "…"


def subscripted(text: str, x: float, y: float, size: float = 13.0, limit: int = 12) -> list[Label]:
    """Return ``text`` centred on (x, y), with the part after an underscore as a subscript: "c_{k-2}"."""
    match = re.fullmatch(r"([^_{}]+)_\{?([^_{}]+)\}?", text)
    if not match:
        return [Label(x, y, clip(text, limit), size)]
    base, low = (clip(part, limit) for part in match.groups())
    small = 0.72 * size
    left, right = text_width(base, size), text_width(low, small)
    start = x - (left + right) / 2
    return [
        Label(start + left / 2, y - 1, base, size),
        Label(start + left + right / 2, y + 0.26 * size, low, small),
    ]


def to_svg(scene: Scene, background: str | None = PAPER) -> str:
    """Return SVG text. Without ``background`` it is transparent, and text outside boxes has the text colour of the page."""
    width, height = f"{scene.width:.0f}", f"{scene.height:.0f}"
    name = _CONTROL.sub(" ", scene.name)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        f' role="img" aria-label={quoteattr(name)} font-family="{_FONT}" text-anchor="middle">'
    ]
    if background:
        parts.append(f'<rect class="paper" width="100%" height="100%" fill="{background}"/>')
    page = set() if background else {id(s) for s in _on_page(scene)}
    parts += [_svg(shape, "currentColor" if id(shape) in page else None) for shape in scene.shapes]
    return "\n".join([*parts, "</svg>\n"])


def _on_page(scene: Scene) -> Iterable[Label]:
    """Yield the labels that are not on a box, but on the page itself."""
    boxes = [s for s in scene.shapes if isinstance(s, Box)]
    for s in scene.shapes:
        if not isinstance(s, Label) or s.colour != INK:
            continue
        if not any(b.x <= s.x <= b.x + b.width and b.y <= s.y <= b.y + b.height for b in boxes):
            yield s


def _svg(shape: Shape, colour: str | None) -> str:
    if isinstance(shape, Box):
        tip = f"<title>{escape(_CONTROL.sub(' ', shape.tip))}</title>" if shape.tip else ""
        return (
            f'<rect x="{shape.x:.1f}" y="{shape.y:.1f}" width="{shape.width:.1f}" height="{shape.height:.1f}"'
            f' rx="{shape.radius:g}" fill="{shape.fill}" stroke="{shape.stroke}" stroke-width="1.2">{tip}</rect>'
        )
    if isinstance(shape, Label):
        weight = ' font-weight="bold"' if shape.bold else ""
        return (
            f'<text x="{shape.x:.1f}" y="{_baseline(shape):.1f}" font-size="{shape.size:g}"'
            f' fill="{colour or shape.colour}"{weight}>{escape(shape.text)}</text>'
        )
    commands = [f"M{shape.points[0][0]:.1f} {shape.points[0][1]:.1f}"]
    for a, b, end in _segments(shape):
        commands.append(f"C{a[0]:.1f} {a[1]:.1f} {b[0]:.1f} {b[1]:.1f} {end[0]:.1f} {end[1]:.1f}")
    dash = ' stroke-dasharray="4 3"' if shape.dashed else ""
    path = f'<path d="{"".join(commands)}" fill="none" stroke="{shape.stroke}" stroke-width="{shape.width:g}"{dash}/>'
    if not shape.arrow:
        return path
    corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in _head(shape))
    return f'{path}<polygon points="{corners}" fill="{shape.stroke}"/>'


def _baseline(label: Label) -> float:
    return label.y + 0.35 * label.size


def _segments(curve: Curve) -> list[tuple[Point, Point, Point]]:
    """Return cubic Bézier segments (control, control, end); the last one ends where the arrow head begins."""
    points = list(curve.points)
    if curve.arrow:
        x, y = points[-1]
        points[-1] = (x, y - _ARROW[0] + 1) if curve.vertical else (x - _ARROW[0] + 1, y)
    segments = []
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        bend = 0.0 if curve.vertical else (x1 - x0) * 0.5
        segments.append(((x0 + bend, y0), (x1 - bend, y1), (x1, y1)))
    return segments


def _head(curve: Curve) -> tuple[Point, Point, Point]:
    (x, y), (length, half) = curve.points[-1], _ARROW
    if curve.vertical:
        return (x, y), (x - half, y - length), (x + half, y - length)
    return (x, y), (x - length, y - half), (x - length, y + half)


def to_png(scene: Scene, path: Path, dpi: int = 192) -> None:
    """Write the scene as a PNG file, drawn with matplotlib and its own fonts."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(scene.width / 96, scene.height / 96), facecolor=PAPER)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, scene.width), ylim=(scene.height, 0))
    axes.axis("off")
    for shape in scene.shapes:
        _paint(axes, shape)
    figure.savefig(path, dpi=dpi, format="png")


def _paint(axes, shape: Shape) -> None:
    from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
    from matplotlib.path import Path as Outline

    if isinstance(shape, Box):
        style = f"round,pad=0,rounding_size={min(shape.radius, shape.height / 2, shape.width / 2):g}"
        corner = (shape.x, shape.y)
        axes.add_patch(
            FancyBboxPatch(
                corner, shape.width, shape.height, style, facecolor=shape.fill, edgecolor=shape.stroke, linewidth=0.9
            )
        )
    elif isinstance(shape, Label):
        font = {"family": "DejaVu Sans Mono", "size": 0.75 * shape.size, "weight": "bold" if shape.bold else "normal"}
        axes.text(
            shape.x,
            _baseline(shape),
            shape.text,
            ha="center",
            va="baseline",
            color=shape.colour,
            fontdict=font,
            parse_math=False,
        )
    else:
        vertices = [shape.points[0], *(point for segment in _segments(shape) for point in segment)]
        codes = [Outline.MOVETO] + [Outline.CURVE4] * (len(vertices) - 1)
        style = (0, (4, 3)) if shape.dashed else "-"
        outline = Outline(vertices, codes)
        axes.add_patch(PathPatch(outline, fill=False, edgecolor=shape.stroke, linewidth=0.75 * shape.width, ls=style))
        if shape.arrow:
            axes.add_patch(Polygon(_head(shape), closed=True, facecolor=shape.stroke, linewidth=0))
