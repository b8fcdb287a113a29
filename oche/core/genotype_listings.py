"""Genotypes inside longer texts: lines of a log, Python files with several assignments, JSON, cells of NAS-Bench-201.

Nothing is evaluated: Python is read as a syntax tree, other text is scanned.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from oche.core.errors import OcheError, did_you_mean
from oche.core.genotype_json import load_tree, parse_python, read_tree
from oche.core.genotype_text import (
    EXAMPLE,
    MOST_CHARACTERS,
    Cells,
    Concat,
    Edges,
    abbreviated,
    canonical,
    read_call,
)

_LONGEST = 20_000_000  # characters of a file; the log of a long search has some megabytes
_BEGINS = re.compile(r"(?:(\w+)\s*=\s*)?\b(?:\w+\.)*Genotype\s*\(")
_EDGES = r"\|[^|+~\s]+~\d(?:\|[^|+~\s]+~\d)*\|"  # those into one node, in the text of NAS-Bench-201
_BENCHMARK = re.compile(rf"{_EDGES}(?:\s*\+\s*{_EDGES})+(?!\s*\+\s*\||[^|+~\s]+~)")


def decode(data: bytes) -> str:
    """Return the text of a file, in UTF-8 or, where it begins with their mark, UTF-16; without the byte-order mark."""
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    return data.decode("utf-16" if wide else "utf-8", errors="replace").removeprefix("\ufeff")


def bare(text: str) -> str:
    """Return ``text`` without a byte-order mark, spaces around it and one pair of quotes."""
    text = text.removeprefix("\ufeff").strip()
    return text[1:-1].strip() if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


@dataclass(frozen=True)
class Listed:
    """A genotype in a longer text, with the line that it begins on and the name that it is assigned to."""

    text: str
    line: int
    name: str | None = None
    call: ast.Call | None = None

    def cells(self) -> Cells:
        """Return its cells. Raises `OcheError`."""
        if self.text.startswith("|"):
            return {"cell": _benchmark_cell(self.text)}
        return read_call(self.call or _as_call(self.text), self.text)


def parse_cells(text: str, which: str | None = None, place: str = "") -> Iterator[tuple[str, Edges, Concat]]:
    """Yield (name, edges, output nodes) of each cell of the genotype in ``text``.

    ``which``: the name, or the line, of one of several genotypes. ``place``: the name of their file, for messages. Raises
    `OcheError` for text without a genotype, for text with several different ones of which none is named, and for broken ones.
    """
    text = bare(text)
    if (tree := load_tree(text)) is not None and isinstance(tree, dict | list | tuple):
        if which is not None:
            raise OcheError(f"{place or 'the text'} is one genotype in JSON, without names; leave {which!r} out")
        cells = read_tree(tree)
    else:
        found = find(text)
        if not found:
            raise OcheError(f"not a genotype: {abbreviated(text)}; {EXAMPLE}")
        cells = _only(found, place) if which is None else _named(found, which, place).cells()
    for name, (edges, concat) in cells.items():
        yield name, edges, concat


def find(text: str) -> list[Listed]:
    """Return the genotypes in ``text``, in its order. Raises `OcheError` for text that is too long."""
    if len(text) > _LONGEST or ("\n" not in text and len(text) > MOST_CHARACTERS):
        raise OcheError(f"genotype text has {len(text)} characters, more than any cell needs; {EXAMPLE}")
    if "Genotype" not in text:
        return [Listed(m.group(), text.count("\n", 0, m.start()) + 1) for m in _BENCHMARK.finditer(text)]
    module = parse_python(text)
    return _scanned(text) if module is None else _assigned(module, text)


# --- Python -----------------------------------------------------------------------------------------------------------


def _assigned(module: ast.AST, text: str) -> list[Listed]:
    """Return the genotypes that a Python text assigns to names, or that stand alone on a line; other names of them too."""
    found: list[Listed] = []
    calls: dict[str, ast.Call] = {}
    statements = [node for node in ast.walk(module) if isinstance(node, ast.Assign | ast.AnnAssign | ast.Expr)]
    for node in sorted(statements, key=lambda node: node.lineno):
        if isinstance(node.value, ast.Dict):
            found += _in_dict(node.value, text)
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        value = node.value
        call = calls.get(value.id) if isinstance(value, ast.Name) else value if _is_genotype(value) else None
        if not isinstance(call, ast.Call):
            calls = {name: known for name, known in calls.items() if name not in names}
            continue
        calls |= dict.fromkeys(names, call)
        source = ast.get_source_segment(text, call) or "Genotype(...)"
        found += [Listed(source, node.lineno, name, call) for name in names or [None]]
    return found


def _in_dict(table: ast.Dict, text: str) -> list[Listed]:
    """Return the genotypes that are values of a table of Python, with their keys."""
    return [
        Listed(ast.get_source_segment(text, value) or "Genotype(...)", value.lineno, str(key.value), value)
        for key, value in zip(table.keys, table.values, strict=True)
        if isinstance(key, ast.Constant) and isinstance(value, ast.Call) and _is_genotype(value)
    ]


def _is_genotype(node: ast.expr | None) -> bool:
    """Whether ``node`` calls Genotype, by itself or as a member of a module."""
    return isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", None)) == "Genotype"


# --- text that is no Python -------------------------------------------------------------------------------------------


def _scanned(text: str) -> list[Listed]:
    """Return the genotypes in the lines of a log, or in Python of another version. Comments are left out."""
    found = []
    for begin in _BEGINS.finditer(text):
        start, end = text.find("Genotype", begin.start()), _closing(text, begin.end() - 1)
        before = text[text.rfind("\n", 0, begin.start()) + 1 : begin.start()]
        if end and not before.lstrip().startswith("#"):
            found.append(Listed(text[start:end], text.count("\n", 0, start) + 1, begin.group(1)))
    return found


def _closing(text: str, start: int) -> int | None:
    """Return the place after the bracket that closes the one at ``start``, or None if none does within a genotype's length."""
    depth, quote = 0, ""
    for i, c in enumerate(text[start : start + MOST_CHARACTERS], start):
        if quote or c in "'\"":
            quote = "" if c == quote else quote or c
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
            if not depth:
                return i + 1
    return None


def _as_call(text: str) -> ast.Call:
    """Return the syntax tree of one genotype. Raises `OcheError` for text that is none."""
    node = getattr(parse_python(text, "eval"), "body", None)
    if not isinstance(node, ast.Call) or not _is_genotype(node):
        raise OcheError(f"not a genotype: {abbreviated(text)}; {EXAMPLE}")
    return node


def _benchmark_cell(text: str) -> tuple[Edges, Concat]:
    """Return the cell that a text of NAS-Bench-201 describes: operation and source of each edge, node by node from 1 on."""
    nodes = [re.findall(r"([^|+~\s]+)~(\d)", part) for part in text.split("+")]
    edges = sorted((j, int(source), op) for j, ops in enumerate(nodes, 1) for op, source in ops)
    return tuple((op, source, target) for target, source, op in edges), (len(nodes),)


# --- one of several ---------------------------------------------------------------------------------------------------


def _only(found: list[Listed], place: str) -> Cells:
    """Return the cells of the genotype that all of ``found`` are. Raises `OcheError` if they differ."""
    if len(found) == 1:
        return found[0].cells()
    read = [listed.cells() for listed in found]
    if all(_same(cells, read[0]) for cells in read[1:]):
        return read[-1]
    last = found[-1]
    names = list(dict.fromkeys(listed.name for listed in found if listed.name))
    by_name = len(names) == len(found)
    of = _listing(names if by_name else [f"line {listed.line}" for listed in found])
    asked = f"{place}:{names[-1] if by_name else last.line}"
    raise OcheError(
        f"{place or 'the text'} has {len(found)} genotypes ({of}); "
        + (f"name one of them, as {asked}" if place else "give one of them alone")
    )


def _same(a: Cells, b: Cells) -> bool:
    return {name: canonical(*cell) for name, cell in a.items()} == {name: canonical(*cell) for name, cell in b.items()}


def _listing(words: list[str]) -> str:
    """Return ``words`` with commas; of many the first and the last ones."""
    return ", ".join(words if len(words) <= 12 else [*words[:8], "...", *words[-3:]])


def _named(found: list[Listed], which: str, place: str) -> Listed:
    """Return the genotype with the name ``which``, or on that line; of equal names the last. Raises `OcheError`."""
    if chosen := [listed for listed in found if which in (listed.name, str(listed.line))]:
        return chosen[-1]
    names = list(dict.fromkeys(listed.name or f"{listed.line}" for listed in found))
    hint = did_you_mean(which, names)
    raise OcheError(f"{place or 'the text'} has no genotype {which!r}{hint}; it has {_listing(names)}")
