"""Completion in a shell, and the help that it is made of."""

from __future__ import annotations

import re
import shutil
import subprocess
import time

import pytest

from oche.cli import main as cli
from oche.methods.catalog import METHODS

pytestmark = pytest.mark.slow  # shells


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    import io
    from contextlib import redirect_stdout

    out = io.StringIO()
    with redirect_stdout(out):
        assert cli.main(["completion", "bash"]) == 0
    file = tmp_path_factory.mktemp("completion") / "oche.bash"
    file.write_text(out.getvalue())
    return file


def completed(script, *words: str) -> list[str]:
    """What bash offers after ``words``; the last one is half written."""
    line = " ".join(f"'{word}'" for word in words)
    code = f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _oche; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout.split()


def test_bash_completes_commands_options_and_values(script):
    assert completed(script, "oche", "se") == ["search"]
    assert completed(script, "oche", "") == [*cli.COMMANDS]
    assert completed(script, "oche", "search", "--search.bu") == ["--search.budget"]
    assert completed(script, "oche", "search", "--method", "pc-") == ["pc-darts"]
    assert completed(script, "oche", "search", "--method", "") == [*METHODS]
    assert completed(script, "oche", "train", "runs/x", "--recipe", "sm") == ["small"]
    assert completed(script, "oche", "compare", "--dev") == ["--device"]
    assert completed(script, "oche", "export", "runs/x", "--to", "on") == ["onnx"]
    assert completed(script, "oche", "study", "st") == ["status"]
    assert completed(script, "oche", "list", "ge") == ["genotypes"]
    assert completed(script, "oche", "search", "--help") == ["--help", "--help-all"]
    assert completed(script, "oche", "predict", "some/file") == []  # bash then completes files


def test_completion_starts_no_python(script):
    began = time.perf_counter()
    completed(script, "oche", "search", "--se")
    assert time.perf_counter() - began < 0.5
    assert "python" not in script.read_text()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_scripts_for_other_shells(shell, oche_, tmp_path):
    code, out, err = oche_("completion", shell)
    assert code == 0 and not err and "search" in out and "budget" in out
    if found := shutil.which(shell):
        (tmp_path / "script").write_text(out)
        assert subprocess.run([found, "-n", str(tmp_path / "script")], capture_output=True).returncode == 0


def test_fish_knows_every_option(oche_):
    _, out, _ = oche_("completion", "fish")
    flags = re.findall(r"__fish_seen_subcommand_from search' -l (\S+)", out)
    assert {"data", "search.budget", "space.channels", "help", "help-all"} <= {*flags}


def test_mistakes(oche_):
    for words in ("completion", "completion csh", "completion bash zsh"):
        code, out, err = oche_(*words.split())
        assert code == 2 and not out and "write oche completion bash or zsh or fish" in err and err.count("\n") == 1


# --- help


@pytest.mark.parametrize("command", ["search", "train", "compare", "study"])
def test_the_first_help_is_short(command, oche_):
    code, short, _ = oche_(command, "--help")
    lines = short.splitlines()
    assert code == 0 and len(lines) <= 60 and max(map(len, lines)) <= 130
    flags = re.findall(r"^  (--\S+)", short, re.M)
    assert 5 <= len(flags) <= 16
    _, whole, _ = oche_(command, "--help-all")
    assert {*flags} <= {*re.findall(r"^  (--\S+)", whole, re.M)}


@pytest.mark.parametrize("command", [c for c in cli.COMMANDS if c not in ("list", "completion")])
def test_every_line_of_the_help_says_something_alone(command, oche_):
    """No option refers to the line above it, and none is without a text."""
    _, out, _ = oche_(command, "--list-options")
    for flag, _, text in (line.split("\t") for line in out.splitlines()):
        assert len(text.split()) > 1 or flag == "--help", (flag, text)
        assert not re.match(r"(those|these|them|the same|as above|ditto)\b", text), (flag, text)
        assert not re.search(r"\b(those|these) (penalties|channels|eigenvalues|options|values)\b", text), (flag, text)
