"""Tests stand where their sources do: oche/a/b.py is tested in tests/a/test_b.py.

Sources without a test of their own are listed here, each with the tests that reach it.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from paths import ROOT

TESTED_ELSEWHERE = {
    "__main__.py": "started as a process in tests/runs/test_execute.py",
    "bilevel/batches.py": "chooses the batches tested in tests/training/test_image_batches.py and test_text_batches.py",
    "bilevel/state.py": "the state of the searches in tests/bilevel/test_search.py and test_search_by_method.py",
    "cli/deploy.py": "oche export and oche predict, typed in tests/deploy/",
    "cli/study.py": "oche study, typed in tests/study/",
    "cli/supervised.py": "a run led by another process, in tests/study/processes/test_oche_process.py",
    "core/registry.py": "names of components, tested through tests/core/config/",
    "data/drawing.py": "the parts of a new run, drawn in tests/data/test_parts.py beside those of a later one",
    "deploy/export_graph.py": "the graph that tests/deploy/test_targets.py writes and runs; its measurements in test_export.py",
    "report/classification_page.py": "part of the page tested in tests/training/test_assess.py and tests/report/html/",
    "runs/search_and_train.py": "the work of the runs in tests/runs/test_execute.py, test_execute_language.py and others",
    "study/provenance.py": "facts of the checklist tested in tests/study/test_nas_checklist.py",
    "study/results.py": "rows of the tables tested in tests/study/test_run.py and test_page_results.py",
}


def has_code(file: Path) -> bool:
    """Whether ``file`` defines a function or a class; constants alone and faces of packages have nothing to test."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    return file.name != "__init__.py" and any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) for node in body
    )


def place_of_test(source: Path) -> Path:
    return ROOT / "tests" / source.parent / f"test_{source.name}"


@cache
def sources() -> list[Path]:
    return [file.relative_to(ROOT / "oche") for file in sorted((ROOT / "oche").rglob("*.py")) if has_code(file)]


def test_every_source_has_its_test():
    missing = {str(source) for source in sources() if not place_of_test(source).is_file()}
    assert missing - {*TESTED_ELSEWHERE} == set(), "write tests/<folder>/test_<file>.py for these"


@pytest.mark.parametrize("source", TESTED_ELSEWHERE)
def test_what_is_listed_exists_and_has_no_test(source: str):
    assert (ROOT / "oche" / source).is_file() and not place_of_test(Path(source)).is_file(), "take it off the list"


def test_nearly_all_sources_are_mirrored():
    assert sum(place_of_test(source).is_file() for source in sources()) >= 0.85 * len(sources())


def test_no_test_has_the_name_of_another_folder():
    """Names may repeat, as those of sources do; a test file without a source stands beside those that it belongs to."""
    folders = {source.parent for source in sources()} | {Path("."), Path("benchmarks"), Path("examples")}
    assert {file.parent.relative_to(ROOT / "tests") for file in (ROOT / "tests").rglob("test_*.py")} <= folders
