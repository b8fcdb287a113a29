"""The script of mutants names modules and tests that exist; the runs themselves are `make mutants`."""

import runpy

import pytest

from paths import ROOT

MODULES = runpy.run_path(str(ROOT / "benchmarks/reliability/mutants.py"))["MODULES"]


@pytest.mark.parametrize("module", MODULES)
def test_modules_and_their_tests_exist(module):
    assert (ROOT / f"oche/{module}.py").is_file() or (ROOT / "oche" / module).is_dir()
    assert [name for name in MODULES[module] if not (ROOT / f"tests/{name}.py").is_file()] == []
