"""Verdicts that are kept, and those that do not hold any more."""

import errno
import json
import os
import time
from dataclasses import replace

import pytest
import torch

from failing_steps import FORMS, step
from oche.proof import cache
from oche.proof.values import Proof, Verdict

MACHINE = {"oche": "0.1.0", "torch": "2.13.0", "gpu": "NVIDIA H200", "driver": "575.57.08"}
STEP, PAIR = step(), (FORMS["good"], FORMS["plain"])


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("OCHE_CACHE", str(tmp_path / "cache"))


def verdict(**rest):
    proofs = Proof(PAIR[0], True, 0.5, 1 << 20, {"loss": 1e-4}), Proof(PAIR[1], True, 1.0)
    return Verdict(STEP.title, proofs, **{"took": 1.0, "time": time.time(), **rest})


def keep(found=None, machine=MACHINE):
    return cache.remember(STEP, PAIR, machine, found or verdict())


def recall(machine=MACHINE, forms=PAIR, of=STEP):
    return cache.recall(of, forms, machine)


def test_a_verdict_is_kept():
    assert recall() is None
    kept, unkept = keep()
    assert unkept == "" and kept.machine == MACHINE and recall() == kept
    assert [*cache.all_verdicts()] == [kept]


@pytest.mark.parametrize("name", MACHINE)
def test_another_machine_or_version_proves_anew(name):
    keep()
    assert recall({**MACHINE, name: "other"}) is None


def test_another_step_or_form_proves_anew():
    keep()
    assert recall(of=step(batch=2)) is None and recall(forms=PAIR[::-1]) is None and recall(forms=PAIR[:1]) is None


def test_a_file_of_another_version_under_this_name_does_not_count():
    kept, _ = keep()
    file = cache.place(STEP, PAIR, MACHINE)
    file.write_text(json.dumps({**kept.to_dict(), "machine": {**MACHINE, "oche": "0.0.9"}}))
    assert recall() is None


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"proofs": [{"form": 3}]}', "\x00\xff", "[" * 100_000])
def test_a_damaged_file_does_not_count_and_is_replaced(text):
    kept, _ = keep()
    cache.place(STEP, PAIR, MACHINE).write_text(text)
    assert recall() is None and [*cache.all_verdicts()] == []
    keep()
    assert recall().proofs == kept.proofs


def test_a_failure_that_may_pass_holds_for_a_day():
    late = Proof(PAIR[0], False, why="did not end within 90 s", passing=True)
    now = replace(verdict(), proofs=(late, verdict().proofs[1]))
    keep(now)
    assert recall() is not None
    keep(replace(now, time=time.time() - 2 * cache.AGAIN))
    assert recall() is None


def test_a_verdict_without_a_comparison_is_not_kept():
    keep(replace(verdict(), proofs=(), obstacle="no child process"))
    assert not cache.folder().exists()


def test_a_full_disk_is_said_and_harms_nothing(monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    kept, unkept = keep()
    assert kept.proofs == verdict().proofs and recall() is None
    assert unkept.startswith("the proof is made again in the next run (cannot write") and "No space left" in unkept


def test_numbers_that_are_none_are_kept_as_null():
    keep(replace(verdict(), proofs=(Proof(PAIR[0], False, errors={"loss": float("inf")}), verdict().proofs[1])))
    assert recall().proofs[0].errors == {"loss": None}


def test_the_machine(monkeypatch, tmp_path):
    found = cache.describe_machine(torch.device("cpu"))
    assert found["torch"] == torch.__version__ and set(found) == {"oche", "kernels", "torch", "cpu", "instructions"}
    monkeypatch.setattr(cache, "DRIVER", tmp_path / "version")
    assert cache.driver() is None
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  575.57.08  Sat May 24 2026\n")
    assert cache.driver() == "575.57.08"
