"""A disk that fills, two processes at one run, a clock that jumps: a slice of what benchmarks/reliability/system.py runs."""

from __future__ import annotations

import errno
import os
import random
import sys

import pytest
import torch

import forked_oche
from paths import ROOT

SCRIPTS = str(ROOT / "benchmarks/reliability")
sys.path.append(SCRIPTS)  # to stay: processes are forked that import from there
import system  # noqa: E402

forked_oche.preload()  # not what the script itself preloads

pytestmark = pytest.mark.slow  # whole runs

kinds = pytest.mark.parametrize("kind", ["search", "training"])


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """Runs that nothing happened to."""
    import small_runs

    with pytest.MonkeyPatch.context() as patch:
        small_runs.no_report(patch)
        made = {kind: tmp_path_factory.mktemp("calm") / kind for kind in system.KINDS}
        for kind, out in made.items():
            system.ended(*system.call([*system.KINDS[kind], "--out", str(out)]), 0)
        return made


@pytest.fixture(autouse=True)
def _one_thread():
    yield
    torch.set_num_threads(1)  # what runs are told lasts


def full_from(patch: pytest.MonkeyPatch, number: int) -> list[int]:
    """Has the disk be full from the flush of so many files on; returns what holds how many were flushed."""
    flush, done = os.fsync, [0]

    def fsync(handle: int) -> None:
        done[0] += 1
        if done[0] >= number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(handle)

    patch.setattr(os, "fsync", fsync)
    return done


@kinds
@pytest.mark.parametrize("number", [1, 3, 8, 21])
def test_a_full_disk_leaves_whole_files_and_the_run_goes_on(kind, number, calm, quick, tmp_path):
    run, words = tmp_path / "run", [*system.KINDS[kind], "--out", str(tmp_path / "run")]
    with pytest.MonkeyPatch.context() as patch:
        done = full_from(patch, number)
        code, said = system.call(words)
    assert done[0] >= number
    system.ended(code, said, 1)
    assert "No space left on device" in said and "what was there before is unchanged" in said
    system.whole(run)
    system.ended(*system.call(["resume", str(run), "--quiet"] if (run / "status.json").exists() else words), 0)
    system.same(run, calm[kind])


@kinds
def test_under_a_clock_that_jumps(kind, calm, quick, tmp_path):
    assert system.jumping_clock(kind, calm[kind], tmp_path, random.Random(0)) == "as undisturbed"


@pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")
def test_two_processes_at_one_run(calm, tmp_path):
    found = system.two_at_once("training", calm["training"], tmp_path / "two", random.Random(0))
    assert found == "one works, one is refused"


def test_what_is_checked_is_noticed(calm, tmp_path):
    """The checks themselves."""
    import shutil

    other = tmp_path / "run"
    shutil.copytree(calm["search"], other)
    system.whole(other)
    system.same(other, calm["search"])
    text = (other / "genotype.txt").read_text()
    (other / "genotype.txt").write_text(text.replace("sep_conv_3x3", "none", 1) + " ")
    with pytest.raises(system.Fault, match="genotype"):
        system.same(other, calm["search"])
    (other / "status.json").write_text('{"state": ')
    with pytest.raises(system.Fault, match="is not whole"):
        system.whole(other)
    with pytest.raises(system.Fault, match="exit code 2"):
        system.ended(2, "oche: no\n", 0)
    with pytest.raises(system.Fault, match="exit code 1"):
        system.ended(1, "oche: a\nTraceback\n", 1)
