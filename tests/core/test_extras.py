"""Packages that only some features need."""

from __future__ import annotations

import sys
import tomllib

import pytest

from oche.core.errors import OcheError
from oche.core.extras import EXTRAS, install, need
from paths import ROOT


def test_a_package_that_is_there_is_imported():
    assert need("this", "json", "math").dumps([1]) == "[1]"


def test_missing_packages_are_named_with_the_command_that_installs_them(monkeypatch):
    for name in ("onnx", "onnxruntime", "ray"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(OcheError) as caught:
        need("exporting", "onnx", "json", "onnxruntime")
    assert str(caught.value) == "exporting needs onnx and onnxruntime; pip install 'oche[export]'"
    with pytest.raises(OcheError) as caught:
        need("--on ray", "ray", instead="or leave --on out")
    assert str(caught.value) == "--on ray needs ray; pip install 'oche[study]', or leave --on out"


def test_a_package_that_is_broken_says_why(monkeypatch, tmp_path):
    (tmp_path / "tensorboard.py").write_text("raise ImportError('libssl.so.9:\\n not found')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorboard", raising=False)
    with pytest.raises(
        OcheError, match=r"tensorboard is installed, and cannot be imported: libssl.so.9: not found"
    ) as caught:
        need("this", "tensorboard")
    assert "\n" not in str(caught.value)


def test_every_extra_is_one_of_the_package():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for package, extra in EXTRAS.items():
        assert any(line.startswith(package.replace("_", "-")) for line in extras[extra]), package
    assert install(["onnx", "pyarrow", "onnxruntime"]) == "pip install 'oche[export,parquet]'"
