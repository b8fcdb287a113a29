"""The compiled library: built where there is a compiler, and done without where there is none."""

from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from forked_oche import run_code
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


@pytest.fixture
def in_process(tmp_path: Path) -> Callable[..., str]:
    """Runs code in a process that has not loaded the library; returns what it wrote."""
    return lambda code, **env: run_code(code, tmp_path / "said", **env)[1]


CHOOSE = (
    "import torch; from oche.kernels.choose import choose; "
    "c = choose('auto', torch.device('cpu'), torch.float32); print(c.form.name, c.why)"
)


def test_without_a_compiler_it_is_pure_torch(tmp_path: Path, in_process):
    said = in_process(CHOOSE, CXX="no-such-compiler", XDG_CACHE_HOME=str(tmp_path))
    assert said.startswith("shared") and "CXX=no-such-compiler is no program" in said and len(said.splitlines()) == 1


def test_a_compiler_that_fails_leaves_nothing_behind(tmp_path: Path, in_process):
    said = in_process(CHOOSE, CXX="false", XDG_CACHE_HOME=str(tmp_path))
    assert said.startswith("shared") and "does not compile" in said
    assert not list((tmp_path / "oche/native").glob("*.so"))


def test_a_file_that_is_no_library(tmp_path: Path, in_process):
    code = (
        "from oche.kernels.cpu import build; t = build._library_path(build.compiler()); "
        "t.parent.mkdir(parents=True); t.write_text('x'); "
    )
    said = in_process(code + CHOOSE, XDG_CACHE_HOME=str(tmp_path))
    assert said.startswith("shared") and "delete the file" in said


# --- disks that do not take the library -------------------------------------------------------------------------------

FLAGS = (
    "import os; from types import SimpleNamespace as N; facts = N(f_flag={flags}, f_bavail={blocks}, f_frsize=4096); "
    "os.statvfs = lambda path: facts; "
)
DISKS = {
    "noexec": (
        FLAGS.format(flags="os.ST_NOEXEC", blocks=10**6),
        "its disk is mounted without the right to execute (noexec)",
    ),
    "read-only": (FLAGS.format(flags="os.ST_RDONLY", blocks=10**6), "its disk is read-only"),
    "full": (FLAGS.format(flags=0, blocks=10), "its disk is full"),
    "a file in the way": ("", "/native/file is no folder"),
}


@pytest.mark.parametrize("disk", DISKS)
def test_the_reason_and_the_variable_that_moves_the_folder(disk, tmp_path: Path, in_process):
    code, why = DISKS[disk]
    folder = tmp_path / "native"
    if disk == "a file in the way":
        folder.mkdir()
        (folder / "file").write_text("")
        folder = folder / "file"
    said = in_process(
        code + "from oche.kernels.cpu import build; assert not build.pending(); " + CHOOSE, OCHE_CACHE=str(folder)
    )
    assert said.startswith(f"shared fused, in pure torch (compiled kernels cannot be kept in {folder}/native: ")
    assert why in said and said.endswith("; set OCHE_CACHE to a folder on another disk)\n") and said.count("\n") == 1


def test_a_library_that_was_compiled_before_its_disk_lost_the_right(tmp_path: Path, in_process):
    code = (
        "from oche.kernels.cpu import build; t = build._library_path(build.compiler()); "
        "t.parent.mkdir(parents=True); t.write_text('x'); "
    )
    said = in_process(DISKS["noexec"][0] + code + CHOOSE, OCHE_CACHE=str(tmp_path))
    assert said.startswith("shared") and DISKS["noexec"][1] in said and "OCHE_CACHE" in said and "delete" not in said


def test_a_compiler_without_space_names_both_folders():
    full = "x.cpp:3: fatal error: error writing to /tmp/ccA.s: No space left on device\ncompilation terminated.\n"
    assert native._first_error(full).endswith(
        "No space left on device; set OCHE_CACHE, and TMPDIR, to folders on a disk with space"
    )
    assert native._first_error("x.cpp:3: error: a mistake\n") == "x.cpp:3: error: a mistake"
