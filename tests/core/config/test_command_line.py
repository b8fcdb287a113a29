"""Command lines."""

import subprocess
import sys
from pathlib import Path

import pytest

from oche.core.config.command_line import parse
from oche.core.errors import OcheError
from run_configs import Blur, Crop, Job, Rates, Sharpen, Words, identity


def job(*args: str, base: object = None) -> Job:
    return parse(
        base or Job(), list(args), prog="oche do", description="Does it.", epilog="examples:\n  oche do   --count 1"
    )  # type: ignore


@pytest.mark.parametrize(
    ("args", "want"),
    [
        ("--count 5", Job(count=5)),
        ("--count=5 --share 1e-3", Job(count=5, share=1e-3)),
        ("--count -5 --share -0.5", Job(count=-5, share=-0.5)),
        ("--count 1 --count 2", Job(count=2)),
        ("--fast", Job(fast=True)),
        ("--fast --no-fast", Job(fast=False)),
        ("--fast true --smooth", Job(fast=True, smooth=True)),
        ("--no-smooth", Job(smooth=False)),
        ("--smooth False --limit None", Job(smooth=False)),
        ("--limit 3", Job(limit=3)),
        ("--note None --name None", Job(name="None")),
        ("--note none", Job(note="none")),
        ("--note= --place a/b", Job(note="", place=Path("a/b"))),
        ("--mode none --level 2", Job(mode="none", level=2)),
        ("--names a b c --pair 2 x", Job(names=("a", "b", "c"), pair=(2, "x"))),
        ("--names --sizes 1", Job(names=(), sizes=(1,))),
        ("--sizes None", Job(sizes=None)),
        ("--sizes", Job(sizes=())),
        ("--names=-x", Job(names=("-x",))),
        ("--rates.start 2 --rates.betas 0 1", Job(rates=Rates(2.0, betas=(0.0, 1.0)))),
        ("--first Blur", Job(first=Blur())),
        ("--first=Blur --first.passes=3", Job(first=Blur(passes=3))),
        ("--first.passes 3 --first Blur", Job(first=Blur(passes=3))),
        ("--first Blur --first identity", Job(first=identity)),
        (
            "--second Crop --second.side 4 --second.inner Sharpen --second.inner.amounts 1 2",
            Job(second=Crop(4, Sharpen((1.0, 2.0)))),
        ),
        ("--second None", Job(second=None)),
        ("--chain.0.passes 7", Job(chain=(Blur(2.0, 7), identity))),
        ("--chain.1 Blur --chain.1.passes 3", Job(chain=(Blur(2.0), Blur(passes=3)))),
        ("--mixed 3", Job(mixed=3)),
        ("--mixed x", Job(mixed="x")),
    ],
)  # fmt: skip
def test_options(args, want):
    assert job(*args.split()) == want


def test_hyphens_and_underscores_are_the_same():
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Long:
        long_name: int = 1

    for flag in ("--long-name", "--long_name"):
        assert parse(Long(), [flag, "3"], prog="p", description="d") == Long(3)


def test_a_chosen_component_starts_from_its_own_defaults():
    base = Job(first=Blur(5.0, 9))
    assert job("--first.passes", "2", base=base).first == Blur(5.0, 2)
    assert job("--first", "Blur", base=base).first == Blur()
    assert job("--first", "Blur", "--first.passes", "2", base=base).first == Blur(1.0, 2)


def test_config_file_comes_first(tmp_path):
    file = tmp_path / "f.yaml"
    file.write_text("count: 8\nfirst: {type: Blur, radius: 4}\nname: x\n")
    want = Job(count=9, name="x", first=Blur(4.0, 6))
    assert job("--count", "9", "--config", str(file), "--first.passes", "6") == want
    assert job(f"--config={file}", "--count", "9", "--first.passes", "6") == want


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("--cuont 3", ["unknown option --cuont; did you mean '--count'? see oche do --help"]),
        ("--qqqqqqqq 3", ["unknown option --qqqqqqqq; see oche do --help"]),
        ("--start 3", ["unknown option --start; did you mean '--rates.start'?"]),
        ("--rates.strat 3", ["did you mean '--rates.start'?"]),
        ("--first.radius 3", ["unknown option --first.radius; Blur would have it: add --first Blur"]),
        ("--first.bogus 3", ["unknown option --first.bogus"]),
        ("--second.radius 3", ["add --second Blur"]),
        ("--second None --second.radius 3", ["unknown option --second.radius"]),
        ("--rates x --rates.start 3", ["unknown option --rates.start"]),
        ("--chain a --chain.0.radius 3", ["unknown option --chain.0.radius"]),
        ("--chain.5.radius 3", ["unknown option --chain.5.radius"]),
        ("--first Blurr", ["--first: expected one of", "found 'Blurr'; did you mean 'Blur'?"]),
        ("--first None", ["--first: expected one of", "found 'None'"]),
        ("--second Crop", ["second: Crop needs a value for side"]),
        ("--second Rates", ["--second: expected one of", "or None; found 'Rates'"]),
        ("--count five", ["--count: expected an integer, found 'five'"]),
        ("--count", ["--count needs a value: an integer"]),
        ("--count --fast", ["--count needs a value"]),
        ("--count 1 2", ["unexpected '2'; options are written --name value, see oche do --help"]),
        ("word --count 1", ["unexpected 'word'"]),
        ("-count 1", ["unexpected '-count'; did you mean '--count'?"]),
        ("--", ["unexpected '--'"]),
        ("--=3", ["unknown option --"]),
        ("--fast=maybe", ["--fast: expected no value after --fast, found 'maybe'"]),
        ("--no-fast=true", ["expected no value after --no-fast"]),
        ("--no-count", ["unknown option --no-count"]),
        ("--pair 1", ["--pair: expected a list of 2 values"]),
        ("--rates.betas 1 x", ["--rates.betas.1: expected a number, found 'x'"]),
        ("--rates.end 5", ["rates: end=5.0 exceeds start=0.1; use end <= start"]),
        ("--limit x", ["--limit: expected an integer or None, found 'x'"]),
        ("--mode fats", ["did you mean 'fast'?"]),
        ("--config", ["--config needs a value"]),
        ("--config --fast", ["--config needs a value"]),
        ("--config no.yaml", ["no configuration file at no.yaml"]),
    ],
)  # fmt: skip
def test_refusals_are_one_line_and_exact(args, words):
    with pytest.raises(OcheError) as caught:
        job(*args.split())
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    for word in words:
        assert word in str(caught.value)


def words(*args: str) -> Words:
    return parse(Words, list(args), prog="oche say", description="Says it.")


def test_positionals():
    assert words("a") == Words("a")
    assert words("a", "1", "2") == Words("a", (1, 2))
    assert words("--size", "3", "a", "1", "--fast") == Words("a", (1,), True, 3)
    assert words("a", "--fast", "1") == Words("a", (1,), True)
    assert words("a", "--size", "3", "-1") == Words("a", (-1,), False, 3)
    with pytest.raises(OcheError, match="oche say needs WHAT; write oche say WHAT, see oche say --help"):
        words("--fast")
    with pytest.raises(OcheError, match=r"--more\.0: expected an integer, found 'x'"):
        words("a", "x")
    with pytest.raises(OcheError, match="unknown option --config"):
        words("a", "--config", "f.yaml")


# --- help -------------------------------------------------------------------------------------------------------------


def help_of(capsys, base, *args: str) -> str:
    with pytest.raises(SystemExit) as caught:
        parse(base, list(args), prog="oche do", description="Does it.", epilog="examples:\n  oche do   --count 1")
    assert caught.value.code == 0
    return capsys.readouterr().out


def test_help(capsys):
    text = help_of(capsys, Job(), "--help")
    assert "usage: oche do" in text and "Does it." in text and "what it is called" in text and "how many" in text
    assert "--rates.start" in text and "at the start" in text and "--config FILE" in text
    words = " ".join(text.split())
    assert "--first NAME first; one of Blur, Sharpen, Crop, Invert, identity (default: identity)" in words
    assert "--second NAME second; one of Blur, Sharpen, Crop, Invert, identity, None" in words
    assert text.endswith("examples:\n  oche do   --count 1\n")


def test_help_shows_what_was_chosen(capsys):
    assert "--first.radius" not in help_of(capsys, Job(), "-h")
    text = help_of(capsys, Job(), "--first", "Blur", "-h", "--count", "77")
    assert "--first.radius" in text and "(default: 77)" in text and "(default: Blur)" in text
    assert "usage" in help_of(capsys, Job(), "--help", "--bogus", "1")


def test_help_of_positionals(capsys):
    text = help_of(capsys, Words, "--help")
    assert "WHAT" in text and "the thing" in text and "--config" not in text


def test_imports_no_torch_and_no_tyro():
    code = "import sys, oche.core.config.command_line; print(*(m in sys.modules for m in ('torch', 'tyro', 'rich')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"] * 3
