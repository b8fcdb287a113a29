"""The help of commands: short, whole, and for completion."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from oche.core.config.command_line import parse
from oche.core.config.help import field_docs
from run_configs import Blur, Job, Words


@dataclass(frozen=True)
class Part:
    rate: float = 0.5
    """learning rate of the part"""
    many: tuple[int, ...] = (1, 2)
    """several numbers"""


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A tool."""

    out: Path | None = None
    """where to write"""
    fast: bool = False
    """leave the slow parts out"""
    form: Literal["round", "square"] = "round"
    """the form of it"""
    count: int = 3  # how many of them
    part: Part = Part()
    """what turns"""


def shown(capsys, base, *args: str, main=(), **more) -> str:
    with pytest.raises(SystemExit) as caught:
        parse(base, list(args), prog="oche do", description="Does it.", main=main, **more)
    assert caught.value.code == 0
    return capsys.readouterr().out


def test_the_short_help_has_the_options_asked_for_in_that_order(capsys):
    text = shown(capsys, Tool(), "--help", main=("--part.rate", "--out", "--fast"))
    assert re.findall(r"^  (--\S+.*?)(?:  |$)", text, re.M) == ["--part.rate NUMBER", "--out PATH", "--fast"]
    assert "  --part.rate NUMBER            learning rate of the part (default: 0.5)" in text
    assert "  --out PATH                    where to write\n" in text  # None is no value to show
    assert "  --fast                        leave the slow parts out (default: no)" in text
    assert "oche do --help-all shows 3 more options." in text and text.startswith(
        "usage: oche do [OPTIONS]\n\nDoes it.\n"
    )


def test_the_whole_help_has_every_option_in_groups(capsys):
    text = shown(capsys, Tool(), "--help-all", main=("--out",))
    assert re.findall(r"^  (--\S+)", text, re.M) == [
        "--out",
        "--fast",
        "--form",
        "--count",
        "--part.rate",
        "--part.many",
    ]
    assert "\noptions:\n" in text and "\noptions of part: what turns:\n" in text
    assert "  --form round|square           the form of it (default: round)" in text
    assert "  --count INTEGER               how many of them (default: 3)" in text
    assert "  --part.many INTEGER ...       several numbers (default: 1 2)" in text


def test_without_a_selection_the_help_is_whole(capsys):
    assert shown(capsys, Tool(), "-h") == shown(capsys, Tool(), "--help-all")


def test_values_and_components_that_were_chosen_are_shown(capsys):
    text = shown(capsys, Job(), "--first", "Blur", "--count", "77", "--help-all")
    assert "--first.radius NUMBER" in text and "of the disc (default: 1.0)" in text and "(default: 77)" in text
    words = " ".join(text.split())
    assert "(default: Blur)" in words  # other tests of this process may have registered further filters
    assert re.search(r"one of Blur, Sharpen, Crop, Invert, (\w+, )*identity", words)


def test_a_text_in_place_of_that_of_the_field(capsys):
    text = shown(capsys, Tool(), "--help", main=("--form",), texts={"--form": "round or square"})
    assert "round or square\n" in text and "(default: round)" not in text and "the form of it" not in text


def test_arguments_come_first(capsys):
    text = shown(capsys, Words, "--help")
    assert text.startswith("usage: oche do WHAT [MORE ...] [OPTIONS]") and "arguments:\n  WHAT " in text


def test_lines_are_no_wider_than_the_terminal(capsys, monkeypatch):
    for width in (60, 80, 110):
        monkeypatch.setenv("COLUMNS", str(width))
        text = shown(capsys, Job(first=Blur()), "--help-all")
        assert max(map(len, text.splitlines())) <= max(width, 80)


def test_the_list_for_completion(capsys):
    rows = [line.split("\t") for line in shown(capsys, Tool(), "--list-options").splitlines()]
    assert [row[0] for row in rows] == ["--out", "--fast", "--form", "--count", "--part.rate", "--part.many"]
    assert rows[2][1] == "round square" and rows[1][2] == "leave the slow parts out (default: no)"


def test_texts_of_fields():
    assert field_docs(Part) == {"rate": "learning rate of the part", "many": "several numbers"}
    assert field_docs(Tool)["count"] == "how many of them"
    assert field_docs(type("Made", (), {})) == {}  # it has no source
