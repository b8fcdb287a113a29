"""The colours of every picture: one per operation family, safe for any colour vision (Okabe and Ito 2008)."""

from __future__ import annotations

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


def operation_colour(name: str) -> str:
    """Colour of an operation's family; operations that a user added are purple."""
    if name == "none":
        return GREY
    return next((colour for part, colour in _FAMILIES if part in name), PURPLE)


def line_styles(operations: list[str]) -> list[tuple[str, str]]:
    """(colour, dash) of each operation's curve; members of one family differ in their dash."""
    dashes = ("-", "--", ":", "-.")
    seen: dict[str, int] = {}
    styles = []
    for name in operations:
        colour = operation_colour(name)
        styles.append((colour, dashes[seen.get(colour, 0) % len(dashes)]))
        seen[colour] = seen.get(colour, 0) + 1
    return styles


def tint(colour: str, strength: float = 0.25) -> str:
    """``colour`` mixed with white, light enough to carry dark text."""
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(255 + (part - 255) * strength):02x}" for part in parts)
