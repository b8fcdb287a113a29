"""Collects the numbered deviations from papers and released code that docstrings and comments of oche state."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

_STATED = re.compile(r"\bDeviations? (?:\d|from)")
_OWNERS = ast.Module | ast.ClassDef | ast.FunctionDef


def deviations(package: Path) -> dict[str, list[tuple[str, str]]]:
    """File (relative to the package's parent) → (what it is about, what it says), in the order of the file."""
    found = {}
    for file in sorted(package.rglob("*.py")):
        source = file.read_text(encoding="utf-8")
        if "Deviation" not in source:
            continue
        tree = ast.parse(source)
        stated = [*_in_docstrings(tree), *_in_comments(tree, source)]
        if stated:
            found[file.relative_to(package.parent).as_posix()] = [text for _, *text in sorted(stated)]
    return found


def _owners(node: ast.AST, path: tuple[str, ...] = ()) -> Iterator[tuple[str, _OWNERS]]:
    """(dotted name, node) of a module, its classes and functions; the module's own name is empty."""
    if isinstance(node, _OWNERS):
        path = path if isinstance(node, ast.Module) else (*path, node.name)
        yield ".".join(path), node
    for child in ast.iter_child_nodes(node):
        yield from _owners(child, path)


def _in_docstrings(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """(line, owner, summary and paragraph on one line) of each paragraph that states a deviation."""
    for name, node in _owners(tree):
        paragraphs = [" ".join(p.split()) for p in (ast.get_docstring(node) or "").split("\n\n")]
        for i, paragraph in enumerate(paragraphs):
            if _STATED.search(paragraph):
                yield getattr(node, "lineno", 0), name, paragraph if i == 0 else f"{paragraphs[0]} {paragraph}"


def _in_comments(tree: ast.Module, source: str) -> Iterator[tuple[int, str, str]]:
    """The same for comments, those on consecutive lines joined."""
    blocks: list[tuple[int, list[str]]] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            line, text = token.start[0], token.string.lstrip("# ")
            if blocks and line == blocks[-1][0] + len(blocks[-1][1]):
                blocks[-1][1].append(text)
            else:
                blocks.append((line, [text]))
    for line, texts in blocks:
        if _STATED.search(text := " ".join(texts)):
            inside = [n for n, node in _owners(tree) if getattr(node, "lineno", 0) <= line <= _end(node, line)]
            yield line, inside[-1], text


def _end(node: _OWNERS, line: int) -> int:
    return line if isinstance(node, ast.Module) else node.end_lineno or line
