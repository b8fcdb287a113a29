"""The command line, typed as a user types it: answers, files, refusals on one line."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import oche
import small_runs
from oche.cli import demo
from oche.cli import main as cli
from oche.methods.toy_problem import PUBLISHED
from oche.runs.session import DirectorySession

# --- help


def test_help_is_light_and_quick():
    code = (
        "import sys; from oche.cli.main import main; assert main(['--help']) == 0; "
        "heavy = {'torch', 'numpy', 'matplotlib', 'rich', 'tyro', 'yaml'} & set(sys.modules); assert not heavy, heavy"
    )
    before = os.times()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    after = os.times()
    assert done.returncode == 0, done.stderr
    # Of the processor, since others may be at work on this machine.
    assert after.children_user + after.children_system - before.children_user - before.children_system < 0.5
    assert all(f"  {name} " in done.stdout for name in cli.COMMANDS)


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"], ["help"]])
def test_usage(words, oche_):
    code, out, err = oche_(*words)
    assert code == 0 and not err and "usage: oche COMMAND" in out and "oche demo" in out
    assert max(map(len, out.splitlines())) <= 110


def test_version(oche_):
    assert oche_("--version") == (0, oche.__version__ + "\n", "")


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_explains_itself_with_an_example(command, oche_):
    code, out, err = oche_(command, "--help")
    assert code == 0 and not err
    examples = out.partition("example")[2]
    assert re.search(rf"^  oche {command}\b", examples, re.M)


@pytest.mark.parametrize("command", ["search", "train", "toy", "demo", "show", "resume", "report"])
def test_examples_of_the_help_can_be_parsed(command, oche_, monkeypatch, here):
    """What the help tells people to type goes through, up to the work itself."""
    _, out, _ = oche_(command, "--help")
    lines = [line.strip() for line in out.partition("examples:")[2].splitlines() if line.strip()]
    for name in ("cifar", "digits-beta-darts", "x", "compare"):
        (here / "runs" / name).mkdir(parents=True)
    done = []

    class Enough(Exception):
        pass

    def work(*args, **fields):
        done.append(args)
        raise Enough

    for name in ("search.run_search", "strategy.run_strategy", "train.run_train", "runs.resume_run", "demo.run_demo"):
        monkeypatch.setattr(f"oche.cli.{name}", work)
    monkeypatch.setattr(demo, "run_toy", work)
    monkeypatch.setattr("oche.report.run_page.write_report", work)
    monkeypatch.setattr("oche.report.comparison_page.write_comparison", work)
    monkeypatch.setattr("oche.report.drawings.cell.cell_svg", work)
    for text in lines:
        words = re.split(r"\s{2,}", text)[0].split()
        assert words[:2] == ["oche", command], text
        for name in ("cifar", "digits-beta-darts", "x", "compare"):
            status = {"kind": "search", "state": "complete"}
            (here / "runs" / name / "status.json").write_text(json.dumps(status))
            (here / "runs" / name / "config.yaml").write_text("data: digits\n")
            (here / "runs" / name / "genotype.txt").write_text(str(oche.genotypes.DARTS_V2))
        with pytest.raises(Enough):
            cli.main(words[1:])
    assert len(done) == len(lines) >= 1


# --- refusals: one line on stderr, exit code 2

SEARCHES = {
    "--search.epochs five": "--search.epochs: expected an integer, found 'five'",
    "--search.epohcs 5": "unknown option --search.epohcs; did you mean '--search.epochs'?",
    "--epochs 5": "unknown option --epochs; did you mean '--search.epochs'?",
    "--search.epochs": "--search.epochs needs a value",
    "--search.epochs 0": "epochs=0",
    "--search.w.lr -1": "lr=-1.0",
    "--search.w.lr 1e-3x": "weight-optimizer.lr: expected a number, found '1e-3x'",
    "--search.hypergrad exat": "did you mean 'exact'?",
    "--search.hypergrad.terms 3": "Neumann would have it: add --search.hypergrad Neumann",
    "--search.budget soon": "write 90s, 10m or 1h30m",
    "--search.steps 5 --search.budget 5m": "contradict each other",
    "--method dart": "unknown method 'dart'; did you mean 'darts'?",
    "--method": "--method needs a value",
    "--space dats": "unknown space 'dats'; did you mean 'darts'?",
    "--space.candidates sep_conv_3x4": "unknown operation 'sep_conv_3x4'; did you mean 'sep_conv_3x3'?",
    "--space.stem cifr": "did you mean 'cifar'?",
    "--space.cells 0": "cells=0 leaves nothing to build",
    "--data nothing": "no data called 'nothing'",
    "--data dgits": "did you mean 'digits'?",
    "--holdout 1.5": "holdout=1.5",
    "--device tpu": "device 'tpu' is not usable here",
    "--config none.yaml": "no configuration file at none.yaml",
    "--config": "--config needs a value",
    "--plugins none.py": "plugin none.py does not exist",
    "digits": "unexpected 'digits'",
    "-x": "unexpected '-x'",
}
TRAININGS = {
    "": "oche train needs a genotype first: write oche train runs/x",
    "--quiet": "needs a genotype first",
    "DARTS_V3": "no published genotype is named 'DARTS_V3'; did you mean 'DARTS_V",
    "runs/none": "there is nothing at runs/none",
    "Genotype(normal=[('a',0)],normal_concat=[2])": "normal= has 1 pairs",
    "DARTS_V2 --recipe smal": "unknown recipe 'smal'; did you mean 'small'?",
    "DARTS_V2 --random 2": "--random needs a search to take the space from",
    "DARTS_V2 --random -1": "--random -1 is no number of cells",
    "DARTS_V2 --train.drop-path 1": "drop_path=1.0",
    "DARTS_V2 --train.cutout 9": "cutout=9 can erase whole images",
    "DARTS_V2 --search.epochs 3": "unknown option --search.epochs; did you mean '--train.epochs'?",
    "DARTS_V2 --train.stem none --train.head x": "--train.head",
}
OTHERS = {
    "serach": "unknown command 'serach'; did you mean 'search'?",
    "frobnicate": "unknown command 'frobnicate'; commands: demo, toy, fit, search",
    "list method": "oche list knows no 'method'; did you mean 'methods'?; write one of",
    "list methods spaces": "oche list knows no",
    "list --frob": "oche list knows no '--frob'",
    "show DARTS_V9": "no published genotype is named 'DARTS_V9'; did you mean",
    "show": "oche show needs WHAT",
    "show runs/none": "there is nothing at runs/none",
    "resume": "oche resume needs RUN",
    "resume runs/none": "runs/none is not a run directory",
    "report runs/none": "runs/none is not a run directory",
    "toy --xi one": "expected",
    "toy --xi -1": "use xi >= 0",
    "demo --sed 1": "did you mean '--seed'?",
}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        *((f"search {line}", words) for line, words in SEARCHES.items()),
        *((f"train {line}", words) for line, words in TRAININGS.items()),
        *OTHERS.items(),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(line, words, oche_, here):
    code, out, err = oche_(line)
    assert code == 2 and not out
    assert err.startswith("oche: ") and err.count("\n") == 1 and words in err, err
    assert len(err) < 500 and "Traceback" not in err
    assert not list(here.iterdir())  # nothing was begun


def test_what_the_system_refuses_is_one_line_and_exit_code_1(oche_, here):
    (here / "file").write_text("")
    code, _, err = oche_("show", "DARTS_V2", "--out", "file/pictures")
    assert code == 1 and err == "oche: file/pictures: Not a directory\n"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_too_little_memory_is_one_line_too(error, oche_, here, monkeypatch):
    def work(*args, **fields):
        raise error

    monkeypatch.setattr("oche.cli.search.run_search", work)
    code, _, err = oche_("search", "--quiet")
    assert code == 1 and err.startswith("oche: out of memory") and "--search.batch" in err and err.count("\n") == 1


def test_errors_of_the_program_itself_are_not_hidden(here, monkeypatch):
    def work(*args, **fields):
        raise RuntimeError("a bug")

    monkeypatch.setattr("oche.cli.search.run_search", work)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["search"])


def test_a_mistake_in_a_file_names_it(oche_, here):
    (here / "c.yaml").write_text("search:\n  epohcs: 5\n")
    code, _, err = oche_("search", "--config", "c.yaml")
    assert code == 2 and err == "oche: c.yaml: search: unknown key 'epohcs'; did you mean 'epochs'?\n"


def test_ctrl_c_exits_with_130_and_says_how_to_go_on(oche_, here, quick, monkeypatch):

    with monkeypatch.context() as patch:
        patch.setattr(DirectorySession, "stopping", lambda self: True)
        code, _, err = oche_("search", *small_runs.TINY, "--out", "x", "--quiet")
    assert code == 130 and err == "stopped; everything is saved; go on with: oche resume x\n"
    code, _, err = oche_("search", *small_runs.TINY, "--out", "x", "--quiet")
    assert code == 2 and "x holds an unfinished search; go on with: oche resume x" in err
    assert oche_("resume", "x", "--quiet")[0] == 0


pytestmark = pytest.mark.slow  # the whole demonstration


# --- toy


def test_toy_prints_table_1_and_leaves_a_report(oche_, here):
    code, out, err = oche_("toy", "--out", "t")
    assert code == 0 and not err
    for xi, iterations in PUBLISHED.items():
        assert re.search(rf"^\s+{xi:g}\s+{iterations}\s+{iterations}\s", out, re.M)
    toy = json.loads(Path("t/toy.json").read_text())
    assert [r["iterations"] for r in toy["runs"]] == list(PUBLISHED.values())
    assert Path("t/report.html").stat().st_size > 10_000 and list(Path("t/pictures").glob("*.svg"))
    code, _, err = oche_("toy", "--out", "t")
    assert code == 2 and "holds a complete toy" in err
    code, out, err = oche_("resume", "t")
    assert code == 0 and "nothing to resume" in out
    code, _, err = oche_("train", "t")
    assert code == 2 and err.startswith("oche: t is a toy run, which has no settings") and err.count("\n") == 1
