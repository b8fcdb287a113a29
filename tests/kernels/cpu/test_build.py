"""The compiled library: built where there is a compiler, and done without where there is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from oche.kernels.cpu import build as native
from oche.networks.operations import OPERATIONS
from oche.spaces import operation

pytestmark = pytest.mark.slow  # processes, and a compiler

try:
    native.load()
except native.Unavailable as reason:
    pytest.skip(f"no compiled kernels here: {reason}", allow_module_level=True)


@pytest.fixture(scope="module", autouse=True)
def own_operation():
    """A candidate that no fused form knows."""

    @operation("swish")
    def swish(channels, stride, affine):
        return nn.Sequential(nn.SiLU(), nn.Conv2d(channels, channels, 3, stride, 1, groups=channels))

    yield
    del OPERATIONS["swish"]


def in_process(code: str, **env: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **env})
    return done.stdout + done.stderr


CHOOSE = (
    "import torch; from oche.kernels.choose import choose; "
    "c = choose('auto', torch.device('cpu'), torch.float32); print(c.form.name, c.why)"
)


def test_without_a_compiler_it_is_pure_torch(tmp_path: Path):
    said = in_process(CHOOSE, CXX="no-such-compiler", XDG_CACHE_HOME=str(tmp_path))
    assert said.startswith("shared") and "CXX=no-such-compiler is no program" in said and len(said.splitlines()) == 1


def test_a_compiler_that_fails_leaves_nothing_behind(tmp_path: Path):
    said = in_process(CHOOSE, CXX="false", XDG_CACHE_HOME=str(tmp_path))
    assert said.startswith("shared") and "does not compile" in said
    assert not list((tmp_path / "oche/native").glob("*.so"))


def test_a_file_that_is_no_library(tmp_path: Path):
    code = (
        "from oche.kernels.cpu import build; t = build._library_path(build._compiler()); "
        "t.parent.mkdir(parents=True); t.write_text('x'); "
    )
    said = in_process(code + CHOOSE, XDG_CACHE_HOME=str(tmp_path))
    assert said.startswith("shared") and "delete the file" in said
