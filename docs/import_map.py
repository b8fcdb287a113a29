"""Draw docs/images/import-map.svg: the folders of oche, and which folder imports which.

    python docs/import_map.py

The dots are counted in the source, so the picture shows the imports that exist. Run the script again when a folder is added
or renamed; `tests/test_docs.py` fails until then.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from html import escape
from pathlib import Path

HERE = Path(__file__).parent
PICTURE = HERE / "images" / "import-map.svg"

# From the top of the program to its foundation. A folder imports only folders below it.
BANDS: tuple[tuple[str, str, dict[str, str]], ...] = (
    (
        "use",
        "#0072b2",
        {
            "cli": "the commands of the command line",
            "study": "many searches, and tables of their results",
            "bench": "oche bench: time and memory of a step",
            "estimator": "a search and a training for scikit-learn",
            "api": "fit, search, train, resume, evaluate, load",
        },
    ),
    (
        "runs and results",
        "#3fa7dd",
        {
            "strategies": "runs of black-box search, evaluators",
            "fitting": "oche fit: plan, stages, controls, page",
            "deploy": "load, predict, export a trained network",
            "runs": "run directories, checkpoints, resuming",
            "report": "pictures and pages from run directories",
        },
    ),
    (
        "loops",
        "#009e73",
        {
            "bilevel": "the search loop: weights and logits in turn",
            "training": "training from scratch: recipes, losses, loops",
        },
    ),
    (
        "mathematics",
        "#b8960c",
        {
            "analysis": "statistics of results over seeds",
            "methods": "relaxations, hypergradients, decisions",
            "cost": "parameters, FLOPs, latency",
            "blackbox": "algorithms that ask and are told",
        },
    ),
    (
        "networks",
        "#d55e00",
        {
            "devices": "CPU, GPU, bfloat16, several processes",
            "kernels": "the same cells, computed faster",
            "spaces": "search spaces and their supernets",
            "networks": "operations, and networks of genotypes",
        },
    ),
    (
        "foundation",
        "#8e6bbf",
        {
            "data": "images and text: readers, batches",
            "proof": "forms of a step, tried in a child process",
            "core": "graphs, genotypes, seeds, files, errors",
        },
    ),
)
FOLDERS = {name: (text, colour) for _, colour, rows in BANDS for name, text in rows.items()}

LEFT, TOP, ROW, TEXT, CELL = 118, 76, 30, 400, 30  # pixels
GAP = 10  # between bands
MUTED = "#5b636e"


def imports(package: Path) -> Counter[tuple[str, str]]:
    """Count the import statements between folders: (importing folder, imported folder) → number."""
    found: Counter[tuple[str, str]] = Counter()
    for file in package.rglob("*.py"):
        importer = file.relative_to(package).parts[0].removesuffix(".py")
        for module in _imported(ast.parse(file.read_text(encoding="utf-8")), package.name):
            imported = module.split(".")[1]
            if importer != imported and importer in FOLDERS and imported in FOLDERS:
                found[importer, imported] += 1
    return found


def _imported(tree: ast.Module, package: str) -> Iterator[str]:
    """The modules of ``package`` that a file imports, as dotted names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == package:
            yield from (f"{package}.{name.name}" for name in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{package}."):
            yield str(node.module)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.startswith(f"{package}."))


def draw(counts: Counter[tuple[str, str]]) -> str:
    """Return the picture as SVG text."""
    y = _rows()
    x = {name: LEFT + TEXT + CELL * i for i, name in enumerate(FOLDERS)}
    width, height = LEFT + TEXT + CELL * len(FOLDERS) + 16, max(y.values()) + ROW + 64
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="13">',
        "<title>The folders of oche and their imports</title>",
        _rect(0, 0, width, height, "#fefefe"),
        _text(LEFT, 28, "The folders of oche", 'font-size="17" font-weight="bold"'),
        _text(LEFT, 48, "A folder imports only folders below it.", fill=MUTED),
    ]
    for name, left in x.items():
        at = f"{left + CELL / 2 + 4} {TOP - 6}"
        parts.append(_text(left + CELL / 2 + 4, TOP - 6, name, f'font-size="11" transform="rotate(-50 {at})"', MUTED))
    for title, colour, rows in BANDS:
        parts += _band(title, colour, rows, y)
    for row, top in y.items():
        parts.append(_rect(LEFT + TEXT, top + 2, x[row] + CELL - LEFT - TEXT, ROW - 4, "#f1f2f4"))
        parts.append(_rect(x[row], top + 2, CELL, ROW - 4, FOLDERS[row][1], 'opacity="0.35"'))
    for (importer, imported), number in sorted(counts.items()):
        radius = 3 + min(number, 36) ** 0.5 * 1.5
        parts.append(
            f'<circle cx="{x[imported] + CELL / 2}" cy="{y[importer] + ROW / 2}" r="{radius:.1f}" '
            f'fill="{FOLDERS[importer][1]}"><title>{number} imports of {imported} in {importer}</title></circle>'
        )
    legend = (
        "Row: the folder that imports. Column: the folder that is imported. Coloured square: the folder itself.",
        "A larger dot means more import statements. All dots lie to the right of their square: no folder imports one above it.",
    )
    parts += [_text(LEFT, height - 34 + 18 * i, line, fill=MUTED) for i, line in enumerate(legend)]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _rows() -> dict[str, int]:
    """The upper edge of each folder's row."""
    found, top = {}, TOP
    for _, _, rows in BANDS:
        for name in rows:
            found[name], top = top, top + ROW
        top += GAP
    return found


def _band(title: str, colour: str, rows: dict[str, str], y: dict[str, int]) -> Iterator[str]:
    """A band of folders: its title at the left, a box with a name and a line of text for each folder."""
    tops = [y[name] for name in rows]
    yield _rect(LEFT - 6, tops[0], 3, tops[-1] - tops[0] + ROW, colour)
    middle = (tops[0] + tops[-1] + ROW) / 2
    yield _text(LEFT - 14, middle + 4, title, 'text-anchor="end" font-weight="bold" font-size="12"', colour)
    for name, text in rows.items():
        yield _rect(LEFT, y[name] + 2, TEXT - 8, ROW - 4, colour, 'rx="4" opacity="0.13"')
        yield _text(LEFT + 10, y[name] + 20, name, 'font-weight="bold"')
        yield _text(LEFT + 92, y[name] + 20, text)


def _rect(x: float, y: float, width: float, height: float, fill: str, more: str = "") -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{fill}" {more}/>'


def _text(x: float, y: float, text: str, more: str = "", fill: str = "#1b1f24") -> str:
    return f'<text x="{x}" y="{y}" fill="{fill}" {more}>{escape(text)}</text>'


if __name__ == "__main__":
    PICTURE.write_text(draw(imports(HERE.parent / "oche")), encoding="utf-8")
    print(PICTURE)
