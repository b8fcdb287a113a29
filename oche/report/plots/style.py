"""The common style and colours of all figures, and figures as SVG text, as inline SVG for pages, and as PNG."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#1b1f24"  # text and axes; the page replaces it by its own text colour
PAPER = "#fefefe"  # background of picture files; the page makes it transparent
MUTED = "#757d88"  # secondary lines and text, legible on white and on near-black alike
GRID = "#8a92a04d"

BLUE, SKY, GREEN, OCHRE = "#0072b2", "#3fa7dd", "#009e73", "#b8960c"
VERMILION, PINK, PURPLE, GREY = "#d55e00", "#cc79a7", "#8e6bbf", "#8a9099"
SERIES = (BLUE, VERMILION, GREEN, PINK, OCHRE, SKY, PURPLE)

_FAMILIES = (
    ("skip", VERMILION),
    ("identity", VERMILION),
    ("max_pool", GREEN),
    ("avg_pool", OCHRE),
    ("pool", GREEN),
    ("dil", SKY),
    ("conv", BLUE),
    ("tanh", BLUE),
    ("relu", GREEN),
    ("sigmoid", PINK),
)

P = ParamSpec("P")
R = TypeVar("R")

_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": PAPER,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",  # text stays text: small files, searchable, and the page chooses its colour
    "svg.hashsalt": "oche",
    "text.parse_math": False,  # names may hold dollar signs
    **{key: INK for key in ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")},
}


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Make ``draw`` use the common style, without changing matplotlib's global settings."""

    @functools.wraps(draw)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        import matplotlib  # imported when the first figure is drawn: a search starts without it

        with matplotlib.rc_context(_STYLE):  # pyright: ignore[reportArgumentType]
            return draw(*args, **kwargs)

    return inner


def new_figure(width: float, height: float, layout: str | None = "constrained") -> Figure:
    """Return an empty figure of this size in inches; with ``layout=None`` the caller sets the margins."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout)  # pyright: ignore[reportArgumentType]
    if layout:
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.07)  # pyright: ignore[reportOptionalMemberAccess, reportCallIssue]
    FigureCanvasAgg(figure)
    return figure


@styled
def svg(figure: Figure) -> str:
    """Return the figure as a standalone SVG file with a light background; the same figure gives the same text.

    The canvas is called directly, because `Figure.savefig` draws everything twice.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


@styled
def png(figure: Figure) -> bytes:
    """Return the figure as a PNG file with 150 pixels per inch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer, before = io.BytesIO(), figure.dpi
    figure.dpi = 150
    FigureCanvasAgg(figure).print_png(buffer, pil_kwargs={"compress_level": 3})  # 6 takes a third longer
    figure.dpi = before
    return buffer.getvalue()


def inline(text: str, prefix: str, label: str) -> str:
    """Convert a text of `svg` for use inside a page, beside other figures.

    Ids that are not referred to are removed, the others get ``prefix``; the background becomes transparent and `INK` the text
    colour of the page; coordinates are rounded to what screens can show. ``label`` is the text for screen readers.
    """
    space = "{http://www.w3.org/2000/svg}"
    ElementTree.register_namespace("", space[1:-1])
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(text)
    for metadata in root.findall(f"{space}metadata"):
        root.remove(metadata)
    used = set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", text))
    for element in root.iter():
        name = element.attrib.pop("id", None)
        if name in used:
            element.set("id", prefix + str(name))
        for key, value in element.attrib.items():
            value = value.replace("url(#", f"url(#{prefix}").replace(INK, "currentColor").replace(PAPER, "none")
            element.set(key, "#" + prefix + value[1:] if key.endswith("href") and value.startswith("#") else value)
        if path := element.get("d"):
            element.set("d", _short(path))
    for key in ("width", "height"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    root.set("aria-label", label)
    return ElementTree.tostring(root, encoding="unicode")


def _short(path: str) -> str:
    """Round the coordinates of an SVG path to hundredths and drop needless spaces, which halves its length."""
    rounded = re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), path)
    return re.sub(r"\s*([A-Za-z])\s*", r"\1", " ".join(rounded.split()))


# --- colours ---------------------------------------------------------------------------------------------------------


def operation_colour(name: str) -> str:
    """Return the colour of an operation's family; operations that a user added are purple."""
    if name == "none":
        return GREY
    return next((colour for part, colour in _FAMILIES if part in name), PURPLE)


def line_styles(operations: list[str]) -> list[tuple[str, str]]:
    """Return (colour, dash) for the curve of each operation; operations of one family differ in their dash."""
    dashes = ("-", "--", ":", "-.")
    seen: dict[str, int] = {}
    styles = []
    for name in operations:
        colour = operation_colour(name)
        styles.append((colour, dashes[seen.get(colour, 0) % len(dashes)]))
        seen[colour] = seen.get(colour, 0) + 1
    return styles


def tint(colour: str, strength: float = 0.25) -> str:
    """Mix ``colour`` with white; the default is light enough for dark text."""
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(255 + (part - 255) * strength):02x}" for part in parts)
