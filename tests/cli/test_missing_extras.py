"""Every optional package taken away in turn: one line that names the `pip install`, before anything is written."""

from __future__ import annotations

import sys

import pytest

import oche
import small_runs
import study_files
from oche.cli import main as cli
from oche.core.errors import OcheError
from oche.core.extras import EXTRAS
from oche.core.nasbench201 import Table


@pytest.fixture
def without(monkeypatch):
    """Takes packages away: importing them fails as if they were not installed."""

    def take(*packages: str) -> None:
        for package in packages:
            loaded = [name for name in sys.modules if name == package or name.startswith(f"{package}.")]
            for name in {package, *loaded}:
                monkeypatch.setitem(sys.modules, name, None)

    return take


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A parquet file, which nobody will be able to read, and a study on it, in the current directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("x.parquet", "table.parquet"):
        (tmp_path / name).write_bytes(b"PAR1")
    study_files.write(tmp_path, data=str(tmp_path / "x.parquet"), grid={"method": "darts"})
    return tmp_path


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A finished training."""
    with pytest.MonkeyPatch.context() as patch:
        small_runs.no_report(patch)
        out = tmp_path_factory.mktemp("trained") / "x"
        return oche.train("DARTS_V2", recipe=small_runs.recipe(), limit=60, out=out).path


COMMANDS = (
    ("pyarrow", "search --data x.parquet --out out"),
    ("pyarrow", "search --space nb201 --data cifar10 --table table.parquet --out out"),
    ("pyarrow", "train DARTS_V2 --data x.parquet --out out"),
    ("pyarrow", "evaluate {run} --data x.parquet --out out"),
    ("pyarrow", "query |none~0| --table table.parquet"),
    ("pyarrow", "compare --data cifar10 --table table.parquet --out out"),
    ("pyarrow", "study asked.yaml --check"),
    ("onnx", "export {run} --out out/model.onnx"),
    ("onnxscript", "export {run} --out out/model.onnx --input uint8-nhwc --int8"),
    ("onnxruntime", "export {run} --out out/model.onnx"),
    ("datasets", "search --data hf:owner/name --out out"),
    ("datasets", "train DARTS_V2 --data hf:owner/name:config --out out"),
    ("ray", "study asked.yaml --on ray"),
)


@pytest.mark.parametrize(("package", "command"), COMMANDS)
def test_a_command_without_its_package(package, command, without, files, trained, capsys):
    without(package)
    before = sorted(files.rglob("*"))
    code = cli.main([word.format(run=trained) for word in command.split()])
    _, err = capsys.readouterr()
    assert code == 2 and err.startswith("oche: ") and err.count("\n") == 1, err
    assert f"needs {package}; pip install 'oche[{EXTRAS[package]}]'" in err
    assert sorted(files.rglob("*")) == before


@pytest.mark.parametrize(
    ("package", "call"),
    [
        ("pyarrow", lambda run: oche.data.load("x.parquet")),
        ("pyarrow", lambda run: oche.search("x.parquet")),
        ("pyarrow", lambda run: oche.train("DARTS_V2", "x.parquet")),
        ("pyarrow", lambda run: oche.evaluate(run, "x.parquet")),
        ("pyarrow", lambda run: Table("table.parquet")),
        ("onnxruntime", lambda run: oche.export.export(run)),
        ("datasets", lambda run: oche.data.load("hf:owner/name")),
    ],
)
def test_a_call_without_its_package(package, call, without, files, trained):
    without(package)
    with pytest.raises(OcheError, match=rf"needs {package}; pip install 'oche\[{EXTRAS[package]}\]'"):
        call(trained)


def test_what_needs_no_package_works_without_all_of_them(without, files, trained, quick, capsys):
    """A search, a training, its evaluation and its export as weights, without any optional package."""
    without(*EXTRAS)
    run = small_runs.search(files / "search")
    assert run.state == "complete" and not [*run.path.glob("events*")]
    assert 0 <= oche.evaluate(trained)["test_acc"] <= 1
    words = ["export", str(trained), "--to", "safetensors", "--out", "m.safetensors", "--no-card", "--quiet"]
    assert cli.main(words) == 0 and oche.load("m.safetensors").classes == tuple("0123456789")
    assert capsys.readouterr().err == ""
