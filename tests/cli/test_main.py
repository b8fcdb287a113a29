"""The command line, typed as a user types it: answers, files, refusals on one line."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import oche
import runs
from oche.cli import main as cli
from oche.cli.lookup import TABLES
from oche.core.errors import OcheError
from oche.core.optimizers import Sgd
from oche.methods.toy_problem import PUBLISHED


@pytest.fixture
def oche_(capsys):
    """Types a command, as words or as one line; gives exit code, stdout, stderr."""

    def type_(*words):
        capsys.readouterr()
        try:
            code = cli.main([part for word in words for part in ([str(word)] if len(words) > 1 else word.split())])
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        return code, out, err

    return type_


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


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

    import oche.cli.demo as demo

    for name in ("search.run_search", "train.run_train", "runs.resume_run", "demo.run_demo"):
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
    "--search.w.lr 1e-3x": "--search.w.lr: expected a number, found '1e-3x'",
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
    "frobnicate": "unknown command 'frobnicate'; commands: demo, toy, search",
    "list method": "oche list knows no 'method'; did you mean 'methods'?; write one of",
    "list methods spaces": "oche list knows no",
    "list --frob": "oche list knows no '--frob'",
    "show DARTS_V9": "no published genotype is named 'DARTS_V9'; did you mean",
    "show": "oche show needs WHAT",
    "show runs/none": "there is nothing at runs/none",
    "resume": "oche resume needs RUN",
    "resume runs/none": "runs/none is no run directory",
    "report runs/none": "runs/none is no run directory",
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


def test_commands_that_contradict_their_file_are_refused(searched, oche_, here):
    file = searched.path / "config.yaml"
    code, _, err = oche_("search", "--config", file, "--method", "darts")
    assert code == 2 and "--method darts and the --config file contradict each other" in err
    code, _, err = oche_("search", "--config", file, "--space", "seed")
    assert code == 2 and "--space seed and the --config file contradict each other" in err


# --- lists


@pytest.mark.parametrize("topic", TABLES)
def test_lists(topic, oche_):
    code, out, err = oche_("list", topic)
    assert code == 0 and not err
    title, header, *rows = out.splitlines()
    columns, want = TABLES[topic]()
    want = list(want)
    assert title.strip() == topic and header.startswith(columns[0])
    assert len(rows) == len(want) >= 2
    for line, row in zip(rows, want, strict=True):
        assert all(cell in line for cell in row)  # whole, for grep
        assert all(cell for cell in row)


def test_all_lists_at_once(oche_):
    code, out, _ = oche_("list")
    assert code == 0 and all(f"\n{topic} " in f"\n{out}" for topic in TABLES)


# --- show


@pytest.mark.parametrize("form", ["name", "text", "file", "run"])
def test_show_draws_in_the_terminal_and_to_files(form, searched, oche_, here):
    genotype = searched.genotype
    (here / "cell.txt").write_text(str(genotype))
    name = {"name": "GDAS_V1", "text": "genotype", "file": "cell", "run": searched.path.name}[form]
    what = {"name": "GDAS_V1", "text": str(genotype), "file": "cell.txt", "run": searched.path}[form]
    code, out, err = oche_("show", what, "--out", "pictures")
    assert code == 0 and not err
    assert str(oche.genotypes.GDAS_V1 if form == "name" else genotype) in out and "─▶ c_k" in out
    for kind in ("normal", "reduce"):
        assert (here / "pictures" / f"{name}-{kind}.svg").read_text().lstrip().startswith("<")
        assert (here / "pictures" / f"{name}-{kind}.png").read_bytes().startswith(b"\x89PNG")


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


# --- search and train


@pytest.fixture
def told(monkeypatch):
    """What a command would run: the configuration and the words beside it."""
    found = []

    class Enough(OcheError):
        pass

    def work(config, **fields):
        found.append((config, fields))
        raise Enough("enough")

    monkeypatch.setattr("oche.cli.search.run_search", work)
    monkeypatch.setattr("oche.cli.train.run_train", work)
    return found


def test_defaults_of_search(told, oche_):
    oche_("search")
    (config, fields) = told[0]
    assert config.search == oche.methods.beta_darts() and config.method == "beta-darts"
    assert config.space == oche.spaces.darts() and config.data == "digits"
    assert fields["out"] is None and not fields["overwrite"]
    oche_("search --space recurrent")  # whose own default nobody has measured another against
    assert told[1][0].method == "darts" and told[1][0].data == "ptb"


def test_dotted_overrides(told, oche_, here):
    oche_(
        "search --data cifar10 --method darts-2nd --search.epochs 7 --search.w.lr 1e-3 --search.w.lr_min 1e-4 --search.pad 2 "
        "--space.channels 8 --space.candidates none skip_connect sep_conv_3x3 --search.no-flip --seed=5 --out runs/q --overwrite"
    )
    config, fields = told[0]
    method = oche.methods.darts(2, epochs=7, weight_optimizer=Sgd(lr=1e-3, lr_min=1e-4), pad=2, flip=False)
    assert config.search == method and config.method == "darts-2nd" and config.seed == 5
    assert config.space == oche.spaces.darts(channels=8, candidates=("none", "skip_connect", "sep_conv_3x3"))
    assert fields["out"] == Path("runs/q") and fields["overwrite"]


@pytest.mark.parametrize("name", ["exact", "joint", "first_order", "FiniteDifference", "Neumann"])
def test_upper_gradient_by_name(name, told, oche_):
    from oche.core.registry import COMPONENTS

    oche_("search", "--search.hypergrad", name)
    known = COMPONENTS[name]
    assert told[0][0].search.hypergrad == (known() if isinstance(known, type) else known)


def test_options_of_a_part_and_method_and_space_by_name(told, oche_):
    oche_(
        "search", "--search.hypergrad", "Neumann", "--search.hypergrad.terms", "3", "--space", "seed", "--method=seed"
    )
    config = told[0][0]
    assert config.search.hypergrad.terms == 3 and config.search.epochs == 40 and config.space == oche.spaces.seed()


def test_a_file_then_options_on_top(told, oche_, here):
    (here / "c.yaml").write_text("method: implicit\nlimit: 50\nsearch: {epochs: 9, batch: 8}\n")
    oche_("search", "--search.batch", "4", "--config", "c.yaml")
    config = told[0][0]
    assert (
        config.search == oche.methods.implicit(epochs=9, batch=4) and config.limit == 50 and config.method == "implicit"
    )


def test_options_of_train(told, oche_, here, searched):
    oche_(
        "train", "DARTS_V2", "--data", "cifar10", "--recipe", "small", "--train.epochs", "5", "--train.drop-path", "0.1"
    )
    config, fields = told[0]
    assert config.train == oche.training.small(epochs=5, drop_path=0.1) and config.recipe == "small"
    assert config.genotype == str(oche.genotypes.DARTS_V2) and config.data == "cifar10" and fields["out"] is None
    oche_("train", searched.path, "--data", "cifar100")
    config, fields = told[1]
    assert config.data == "cifar100" and config.limit is None and config.genotype == str(searched.genotype)
    assert fields["out"] == searched.path / "train-cifar100" and config.train == oche.training.darts()
    oche_("train", searched.path, "--seed", "4")
    assert told[2][0].limit == 60 and told[2][0].seed == 4 and told[2][1]["out"] == searched.path / "train"


def test_data_on_the_command_line_come_on_top_of_a_file(told, oche_, here):
    (here / "t.yaml").write_text(
        f'genotype: "{oche.genotypes.DARTS_V1}"\ndata: mnist\nrecipe: small\ntrain: {{epochs: 2}}\n'
    )
    oche_("train", "--config", "t.yaml")
    oche_("train", "--config", "t.yaml", "--data", "svhn")
    assert [config.data for config, _ in told] == ["mnist", "svhn"]
    assert all(config.train == oche.training.small(epochs=2) for config, _ in told)
    assert all(config.genotype == str(oche.genotypes.DARTS_V1) for config, _ in told)


def test_search_tells_what_it_found_and_what_to_type_next(oche_, here, quick):
    code, out, err = oche_("search", *runs.TINY, "--out", "runs/a")
    run = oche.Run.open("runs/a")
    assert code == 0 and not err
    assert f"found: {run.genotype}\nreport: runs/a/report.html\nnext: oche train runs/a --recipe small" in out
    assert re.search(r"^search +\d+ %.* train loss \d\.\d+ .*val acc", out, re.M)
    code, out, err = oche_("search", *runs.TINY, "--out", "runs/a")
    assert code == 2 and not out and "runs/a holds a complete search; write --overwrite" in err
    code, out, err = oche_("resume", "runs/a")
    assert code == 0 and "runs/a is complete; nothing to resume" in out
    code, out, err = oche_("train", "runs/a", *runs.TRAIN)
    assert code == 0 and not err
    accuracy = oche.Run.open("runs/a/train").summary["test_acc"]
    assert f"runs/a/train: test accuracy {100 * accuracy:.2f} %" in out


def test_quiet_says_nothing(oche_, here, quick):
    assert oche_("search", *runs.TINY, "--out", "runs/a", "--quiet") == (0, "", "")
    assert oche_("train", "runs/a", *runs.TRAIN, "--quiet") == (0, "", "")
    assert oche_("resume", "runs/a", "--quiet") == (0, "", "")
    assert oche_("toy", "--out", "t", "--xi", "0.5", "--quiet") == (0, "", "")


def test_random_cells_are_trained_the_same_way(searched, oche_, here, quick):
    shutil.copytree(searched.path, here / "x")
    code, out, err = oche_("train", "x", *runs.TRAIN, "--random", "2")
    assert code == 0 and not err and out.count("test accuracy") == 3
    train, *others = (oche.Run.open(here / "x" / name) for name in ("train", "random-1", "random-2"))
    for other in others:
        assert other.config.train == train.config.train and other.config.data == train.config.data
        assert {op for cell in other.genotype.cells.values() for op, *_ in cell.edges} <= set(
            searched.config.space.candidates
        )
    assert len({str(r.genotype) for r in (train, *others)}) == 3
    code, _, err = oche_("train", "x/train", *runs.TRAIN, "--random", "2")
    assert code == 2 and "--random needs a search" in err


def test_ctrl_c_exits_with_130_and_says_how_to_go_on(oche_, here, quick, monkeypatch):
    from oche.runs.session import DirectorySession

    with monkeypatch.context() as patch:
        patch.setattr(DirectorySession, "stopping", lambda self: True)
        code, _, err = oche_("search", *runs.TINY, "--out", "x", "--quiet")
    assert code == 130 and err == "stopped; everything is saved; go on with: oche resume x\n"
    code, _, err = oche_("search", *runs.TINY, "--out", "x", "--quiet")
    assert code == 2 and "x holds an unfinished search; go on with: oche resume x" in err
    assert oche_("resume", "x", "--quiet")[0] == 0


def test_report_of_a_real_run(searched, oche_, here):
    shutil.copytree(searched.path, here / "x")
    code, out, err = oche_("report", "x")
    assert code == 0 and not err and out == "x/report.html\n"
    assert (here / "x" / "report.html").stat().st_size > 50_000
    assert {"heatmap-normal.svg", "cell-reduce.svg", "search-curves.svg"} <= {
        p.name for p in (here / "x/pictures").iterdir()
    }


def test_own_images_in_a_folder(oche_, here, quick):
    """A folder of class folders, images of several sizes: one size, a held-out test part, three channels."""
    from PIL import Image

    for c, colour in enumerate(("red", "green", "blue")):
        for i in range(10):
            path = here / "photos" / colour / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (12 + i, 14), tuple(200 if k == c else 10 * i for k in range(3))).save(path)
    code, out, err = oche_(
        "search", "--data", "photos", "--size", "10", *runs.SPACE, "--search.steps", "2", "--out", "runs/p"
    )
    assert code == 0 and not err, err
    space = json.loads(Path("runs/p/space.json").read_text())
    assert space["classes"] == ["blue", "green", "red"] and space["image"] == [10, 10] and space["in_channels"] == 3
    code, out, _ = oche_("train", "runs/p", *runs.TRAIN)
    assert code == 0 and "test accuracy" in out and oche.Run.open("runs/p/train").config.size == 10
