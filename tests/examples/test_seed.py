"""The scripts of the seed document's experiments: options, mistakes, and figures of the same images."""

from __future__ import annotations

import re
import runpy
import sys

import pytest

import oche
from paths import ROOT

FOLDER = ROOT / "examples/seed"


@pytest.fixture
def script(monkeypatch, capsys, tmp_path):
    """Run a script of the folder with words; return the exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(FOLDER))

    def run(name, *words):
        monkeypatch.setattr(sys, "argv", [f"examples/seed/{name}.py", *words])
        code = 0
        try:
            runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--limt 5", "unknown option --limt; did you mean '--limit'?"),
        ("--limit five", "--limit: expected an integer or None, found 'five'"),
        ("--limit", "--limit needs a value"),
        ("cifar10", "unexpected 'cifar10'"),
        ("--data nothing", "no data called 'nothing'"),
        ("--data digits --limit 5", "limit=5"),
        ("--data digits --budget soon", "write 90s, 10m or 1h30m"),
        ("--data digits --search-steps 0", "steps=0"),
        ("--data digits --device tpu", "device 'tpu' is not usable here"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(script, words, said, tmp_path):
    code, out, err = script("table2", *words.split())
    assert code == 2 and not out and err.startswith("oche: ") and err.count("\n") == 1 and said in err, err
    assert not list(tmp_path.iterdir())


def test_the_help_lists_the_options(script):
    code, out, err = script("table2", "--help")
    assert code == 0 and not err
    assert {"--data", "--limit", "--size", "--budget", "--threads", "--seed"} <= {*re.findall(r"^  (--\S+)", out, re.M)}
    assert "python examples/seed/table2.py --data my.parquet --budget 10m" in out


def test_a_folder_that_cannot_be_made_is_one_line_and_exit_code_1(script, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = script("table1", "--out", "file/x")
    assert code == 1 and err == "oche: [Errno 20] Not a directory: 'file/x'\n"


@pytest.mark.slow  # a search
def test_limit_and_size_reach_the_runs_and_figures_4_and_9_show_the_same_images(script, monkeypatch, tmp_path):
    """The first box of both figures holds the size of the images that were searched on."""
    import small_runs

    small_runs.no_report(monkeypatch)
    tiny = oche.spaces.seed(channels=2, cells=3, nodes=2)
    monkeypatch.setattr("oche.spaces.seed", lambda: tiny)
    words = ("--data", "digits", "--limit", "80", "--search-steps", "1", "--quiet", "--out", "s", "--threads", "1")
    code, _, err = script("figures", *words)
    assert code == 0 and not err, err
    config = oche.Run.open("s/search-order1").config
    assert (config.limit, config.threads) == (80, 1)
    first = [re.findall(r"\b\d+×\d+\b", (tmp_path / f"s/figures/figure-{n}.svg").read_text())[0] for n in (4, 9)]
    assert first == ["8×8", "8×8"]
