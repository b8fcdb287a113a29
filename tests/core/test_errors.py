"""Words of messages."""

from __future__ import annotations

import re

import pytest

from oche.core.errors import plural
from paths import ROOT


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (0, "file", "0 files"),
        (1, "thread", "1 thread"),
        (2, "thread", "2 threads"),
        (1, "class", "1 class"),
        (1000, "class", "1,000 classes"),
        (3, "batch", "3 batches"),
        (600, "epoch", "600 epochs"),
        (2, "branch", "2 branches"),
        (2, "box", "2 boxes"),
        (1, "entry", "1 entry"),
        (2, "entry", "2 entries"),
        (2, "day", "2 days"),
        (1, "test image", "1 test image"),
        (12_345, "test image", "12,345 test images"),
    ],
)
def test_plural(count, noun, text):
    assert plural(count, noun) == text


def test_an_irregular_plural():
    assert plural(1, "vertex", "vertices") == "1 vertex" and plural(2, "vertex", "vertices") == "2 vertices"


def test_no_file_makes_plurals_by_itself():
    """ "1 threads" and "thread(s)" come of plurals that are put together by hand."""
    by_hand = re.compile(r"""['"]e?s['"] \* \(|\bthread\(s\)|['"]{2} if [^{}]* == 1 else ['"]e?s['"]""")
    files = [*(ROOT / "oche").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]
    found = [
        f"{file.name}: {line.strip()}"
        for file in files
        for line in file.read_text().splitlines()
        if by_hand.search(line)
    ]
    assert found == []
