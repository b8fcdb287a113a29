"""The import graph of oche: no circle of any kind, one direction between folders, late imports only at the edge.

Imports inside functions and those for type checkers alone count as any other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from paths import ROOT

PACKAGE = ROOT / "oche"

# Each folder (or file at the top) may import only what stands before it. docs/how-it-is-built.md draws this.
ORDER = (
    "_version", "core", "proof", "data", "networks", "spaces", "blackbox", "kernels", "devices", "cost", "methods", "analysis",
    "training", "bilevel", "report", "runs", "deploy", "fitting", "strategies", "api", "estimator", "bench", "study", "cli",
    "__main__",
)  # fmt: skip

# Where imports may wait inside functions, so that `import oche` and `oche --help` stay light.
LATE = ("cli", "api")

# The faces of packages import by name when a name is first used, which no statement shows; they hand on, and are not imported.
LAZY = ("oche", "oche.data")


def modules() -> dict[str, Path]:
    """Every module by its dotted name."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


MODULES = modules()


@cache
def imports(file: Path) -> list[tuple[str, bool]]:
    """(module of oche that ``file`` imports, whether it does so inside a function)."""

    def visit(node: ast.AST, late: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file} line {node.lineno}: write imports in full, from oche.x import y"
            base = node.module or ""
            for name in node.names:
                whole = f"{base}.{name.name}"
                yield (whole if whole in MODULES else base), late
        elif isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, late
        inside = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside)

    found = visit(ast.parse(file.read_text(encoding="utf-8")), False)
    return [(module, late) for module, late in found if module in MODULES]


def part(module: str) -> str:
    """The folder of ``module`` below oche, or its own name for a file at the top; "" for oche itself."""
    return module.split(".")[1] if "." in module else ""


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The nodes of one circle of ``graph``, in order; empty where there is none."""
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for target in sorted(graph.get(node, ())):
            if found := walk(target, [*path, node]):
                return found
        done.add(node)
        return []

    return next((found for node in graph if (found := walk(node, []))), [])


def graph() -> dict[str, set[str]]:
    return {
        module: {target for target, _ in imports(file) if target != module}
        for module, file in MODULES.items()
        if module not in LAZY
    }


def test_there_is_no_circle_between_files():
    found = circle(graph())
    assert not found, " -> ".join(found)


def test_folders_import_in_one_direction():
    wrong = [
        f"{module} imports {target}"
        for module, targets in graph().items()
        for target in targets
        if part(target) and part(module) != part(target) and ORDER.index(part(module)) < ORDER.index(part(target))
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_inside_imports_the_face_of_oche():
    assert not [module for module, targets in graph().items() if "oche" in targets]


def test_late_imports_are_at_the_edge():
    late = {module for module, file in MODULES.items() for _, inside in imports(file) if inside}
    assert {part(module) for module in late} <= set(LATE), sorted(late)


def test_every_folder_has_its_place_in_the_order():
    assert {part(module) for module in MODULES} - {""} == set(ORDER)


def test_few_files_stand_at_the_top():
    assert len([*PACKAGE.glob("*.py")]) <= 6


def test_a_circle_would_be_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
