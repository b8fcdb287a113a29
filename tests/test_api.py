"""oche from Python, on run directories: what a run leaves, repeats, resumes, passes on."""

import json

import pytest
import torch

import oche
import small_runs
from oche.cli import main as cli
from oche.core.errors import OcheError
from oche.core.optimizers import Sgd
from oche.core.plugins import _LOADED
from oche.data import load
from oche.runs.checkpoint import load_weights
from oche.runs.resolve import default_training
from oche.runs.session import DirectorySession
from oche.spaces import OPERATIONS
from oche.training.loop import Diverged, Interrupted

FILES = ["config.yaml", "genotype.txt", "metrics.jsonl", "weights.safetensors", "environment.json"]


# --- what a search leaves


def test_a_search_leaves_everything_that_it_was_told_did_and_found(searched):
    assert (searched.state, searched.kind) == ("complete", "search")
    for name in [*FILES, "status.json", "space.json", "summary.json"]:
        assert (searched.path / name).stat().st_size > 0, name
    assert list((searched.path / "checkpoints").glob("step-00000003-*.safetensors"))
    assert (searched.path / "report.html").exists()  # its contents: tests/cli/test_main.py and tests/report
    assert [r["step"] for r in searched.history] == [0, 1, 2, 3]
    assert str(searched.genotype) == searched.summary["genotype"] == searched.history[-1]["genotype"]
    assert set(searched.genotype.cells) == {"normal", "reduce"} and len(searched.genotype.normal.edges) == 2
    assert searched.summary["steps"] == 3 and searched.summary["data"] == "digits"
    assert searched.summary["val_acc"] == searched.history[-1]["val_acc"]
    environment = json.loads((searched.path / "environment.json").read_text())
    assert environment["torch"] == torch.__version__ and environment["oche"] == oche.__version__


def test_training_goes_below_its_search_and_is_complete(copied):
    run = oche.train(copied, "digits", recipe=small_runs.recipe())
    assert run.path == copied.path / "train" and (run.kind, run.state) == ("train", "complete")
    assert run.genotype == copied.genotype and run.config.recipe == "small"
    assert run.config.limit == 60 and run.config.data == "digits"  # the search's own data
    assert 0 <= run.summary["test_acc"] <= 1 and run.summary["steps"] == 2
    assert run.history[-1]["test_acc"] == run.summary["test_acc"]
    net = oche.build(run.genotype, classes=10, channels=2, cells=3, in_channels=1)
    net.load_state_dict(load_weights(run.path / "weights.safetensors"))
    assert run.summary["parameters"] == sum(p.numel() for p in net.parameters())
    for name in (*FILES, "report.html"):
        assert (run.path / name).exists(), name
    assert oche.train(copied, recipe=small_runs.recipe()).path == copied.path / "train-2"  # never over another


def test_transfer_to_another_data_set(copied, tmp_path):
    file = small_runs.npz(tmp_path / "colours.npz")
    run = oche.train(copied, file, recipe=small_runs.recipe())
    assert run.path == copied.path / "train-colours" and run.genotype == copied.genotype
    assert run.config.limit is None and run.config.data == str(file)
    assert json.loads((run.path / "space.json").read_text())["in_channels"] == 3
    assert run.summary["data"] == str(file)


# --- interruption


def stop_after(monkeypatch, steps):
    """Has the user press Ctrl-C during a step."""
    counted = []
    monkeypatch.setattr(DirectorySession, "stopping", lambda self: len(counted) >= steps)
    monkeypatch.setattr(DirectorySession, "due", lambda self: counted.append(1))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["search", "train"])
@pytest.mark.parametrize("steps", [1, 2])
def test_an_interrupted_run_resumes_to_the_same_bits(kind, steps, tmp_path, quick, monkeypatch, capsys):
    def start(out):
        if kind == "search":
            return small_runs.search(out, method=oche.methods.darts(batch=16, steps=3))
        return oche.train("DARTS_V2", recipe=small_runs.recipe(steps=3, drop_path=0.2, batch=20), limit=60, out=out)

    whole = start(tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, steps)
        with pytest.raises(Interrupted):
            start(tmp_path / "cut")
    cut = oche.Run.open(tmp_path / "cut")
    assert cut.state == "interrupted" and cut.summary == {}
    assert capsys.readouterr().err == f"stopped; everything is saved; go on with: oche resume {cut.path}\n"
    assert oche.resume(cut.path).state == "complete"
    assert small_runs.metrics(cut.path) == small_runs.metrics(whole.path) and small_runs.same_weights(
        cut.path, whole.path
    )
    drop = lambda summary: {k: v for k, v in summary.items() if k not in ("seconds", "step_ms", "other_seconds")}  # noqa: E731
    assert drop(cut.summary) == drop(whole.summary)
    again = oche.resume(cut.path, quiet=False)  # complete: nothing happens
    assert again.state == "complete" and "nothing to resume" in capsys.readouterr().out


def test_a_run_on_a_relative_path_resumes_from_anywhere(tmp_path, quick, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    small_runs.npz(tmp_path / "mine.npz")
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(Interrupted):
            small_runs.search("cut", "mine.npz", limit=None)
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = oche.resume("../cut")
    assert run.state == "complete" and run.config.data == str(tmp_path / "mine.npz")
    monkeypatch.chdir(tmp_path)
    config, out = default_training("cut", "mine.npz", {})  # the run's own data, however they are called
    assert out is not None and out.name == "train" and config.data == run.config.data


def test_a_search_that_diverges_says_so_and_exits_with_1(tmp_path, quick, capsys):
    with pytest.raises(Diverged, match="try a smaller learning rate"):
        small_runs.search(
            tmp_path / "x", method=oche.methods.darts(batch=16, steps=6, weight_optimizer=Sgd(lr=1e30, clip=0.0))
        )
    run = oche.Run.open(tmp_path / "x")
    assert run.state == "failed" and "Diverged" in json.loads((run.path / "status.json").read_text())["error"]
    words = [
        "search",
        *small_runs.TINY,
        "--search.w.lr",
        "1e30",
        "--search.w.clip",
        "0",
        "--out",
        str(tmp_path / "y"),
        "--quiet",
    ]
    assert cli.main([*words, "--search.steps", "6"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("oche: the ") and error.count("\n") == 1 and "became nan" in error


def test_a_finished_run_is_never_written_over(copied, capsys):
    with pytest.raises(OcheError, match="a complete search"):
        small_runs.search(copied.path)
    assert copied.state == "complete"
    again = small_runs.search(copied.path, overwrite=True, method=oche.methods.darts(batch=16, steps=1))
    assert again.summary["steps"] == 1
    (old,) = copied.path.parent.glob("x.old-*")
    assert oche.Run.open(old).summary["steps"] == 3


def test_a_directory_of_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("important")
    with pytest.raises(OcheError, match="not a run and not empty"):
        small_runs.search(tmp_path)
    with pytest.raises(OcheError, match="is not a run directory"):
        oche.resume(tmp_path)


# --- operations of one's own

PLUGIN = '''
"""Two operations for a test."""
import torch
from torch import nn

import oche


@oche.operation("pointwise_test")
def pointwise(channels, stride, affine):
    """1x1 convolution"""
    return nn.Sequential(nn.ReLU(), nn.Conv2d(channels, channels, 1, stride), nn.BatchNorm2d(channels, affine=affine))


@oche.operation("negate_test", normalised=False)
class Negate(nn.Module):
    """the negative of every so many-th pixel"""

    def __init__(self, channels, stride, affine):
        super().__init__()
        self.stride = stride

    def forward(self, x):
        return torch.neg(x[:, :, :: self.stride, :: self.stride])
'''


@pytest.fixture
def forget():
    """Takes back what plugins register, as a new process would start."""

    def clean():
        _LOADED.clear()
        for name in ("pointwise_test", "negate_test"):
            OPERATIONS.pop(name, None)

    yield clean
    clean()


def test_operations_of_ones_own_are_searched_trained_resumed_and_listed(tmp_path, quick, forget, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_ops.py").write_text(PLUGIN)
    candidates = ["none", "pointwise_test", "negate_test"]
    words = ["--plugins", "my_ops.py", "--space.candidates", *candidates, "--out", "runs/own", "--quiet"]
    assert cli.main(["search", *small_runs.TINY, *words]) == 0
    run = oche.Run.open("runs/own")
    assert {op for cell in run.genotype.cells.values() for op, *_ in cell.edges} <= set(candidates[1:])
    forget()
    assert cli.main(["train", "runs/own", *small_runs.TRAIN, "--quiet"]) == 0  # the run knows its plugins
    forget()
    assert oche.Run.open("runs/own/train").config.plugins == run.config.plugins
    assert cli.main(["search", "--config", "runs/own/config.yaml", "--out", "runs/again", "--quiet"]) == 0
    assert small_runs.same_weights(tmp_path / "runs/own", tmp_path / "runs/again")
    forget()
    assert cli.main(["list", "operations", "--plugins", "my_ops.py"]) == 0
    assert "pointwise_test" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def broken(:\n", r"plugin .*my_ops\.py line 1: SyntaxError: "),
        (
            "import oche\n\nundefined_name\n",
            r"plugin .*my_ops\.py line 3: NameError: name 'undefined_name' is not defined",
        ),
        (
            "import oche\noche.operation('none')(None)\n",
            r"my_ops\.py line 2: OcheError: an operation named 'none' exists",
        ),
    ],
)
def test_a_plugin_with_a_mistake_is_one_line(text, words, tmp_path, forget):
    (tmp_path / "my_ops.py").write_text(text)
    with pytest.raises(OcheError, match=words) as caught:
        oche.search("digits", plugins=(tmp_path / "my_ops.py",), out=tmp_path / "x")
    assert "\n" not in str(caught.value) and not (tmp_path / "x").exists()


# --- the package


def test_names_of_the_package():
    for name in oche.__all__:
        assert getattr(oche, name) is not None
    assert set(oche.__all__) < set(dir(oche)) and issubclass(OcheError, ValueError)
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        _ = oche.serach


def test_digits_come_with_a_test_part():
    data = load("digits", limit=60)
    assert len(data.train) == 60 and data.test is not None and data.image == (8, 8) and len(data.classes) == 10
