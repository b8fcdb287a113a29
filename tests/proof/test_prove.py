"""Forms that fail in every way end in a verdict, and the forms after them are still tried."""

import os
import time

import pytest

from failing_steps import FORMS, step
from oche.proof.prove import Stopped, prove

pytestmark = pytest.mark.slow  # processes


@pytest.fixture(scope="module")
def verdict():
    """One verdict on all forms; the hanging one waits for the whole patience."""
    return prove(step(), [*FORMS.values()], patience=25.0)


WHY = {
    "raises": "RuntimeError: no kernel image is available",
    "refuses": "this form takes no regressions",
    "no memory": "out of memory",
    "wrong loss": "losses differ from the plain float32 step by 0.01 of their size (allowed: 0.001)",
    "wrong gradient": "gradients differ from the plain float32 step by",
    "wrong small gradient": "those of one tensor of the gradients differ from the plain float32 step by",
    "wrong statistics": "statistics of BatchNorms differ from the plain float32 step by 0.01",
    "later wrong": "gradients differ from the plain float32 step by",
    "nan": "gradients differ from the plain float32 step by inf",
    "falls back": "a sum is read on the host",
    "exits": "the process ended with code 7",
    "killed": "the process was ended by SIGKILL",
    "segfault": "the process was ended by SIGSEGV",
    "hangs": "did not end within 25 s",
}


@pytest.mark.parametrize("name", WHY)
def test_a_form_that_fails_is_not_accepted_and_says_why(verdict, name):
    proof = verdict.of(name)
    assert not proof.agrees and proof.seconds is None
    assert proof.why.startswith(WHY[name]) and "\n" not in proof.why


def test_only_what_may_pass_is_tried_again(verdict):
    assert {proof.form.name for proof in verdict.proofs if proof.passing} == {"hangs", "no memory"}
    assert verdict.passing


def test_forms_that_agree_are_timed(verdict):
    assert [*map(lambda proof: proof.form.name, verdict.proofs)] == [*FORMS] and not verdict.obstacle
    good, slow, plain = (verdict.of(name) for name in ("good", "slow", "plain"))
    assert all(proof.agrees and not proof.why for proof in (good, slow, plain))
    assert good.errors == {"loss": 0.0, "statistics": 0.0, "gradients": 0.0, "tensor": 0.0}
    assert good.memory == 1 << 20
    assert good.seconds < plain.seconds < slow.seconds and slow.seconds >= 0.2
    assert verdict.fastest() is good and verdict.speedup(good) > 1 > verdict.speedup(slow)


def test_a_reference_that_does_not_run_is_an_obstacle():
    found = prove(step(broken=True), [FORMS["good"], FORMS["plain"]])
    assert found.obstacle == "the process ended with code 1 (RuntimeError: no reference today)"
    assert found.proofs == () and found.fastest() is None


def test_a_process_that_ends_quietly_ends_the_proof():
    found = prove(step(quits=True), [FORMS["good"], FORMS["plain"]])
    assert found.obstacle == "the process ended without a result"


def test_the_deadline_ends_all():
    began = time.monotonic()
    found = prove(step(silent=True), [FORMS["good"]], deadline=0.5)
    assert found.obstacle == "did not end within its part of the time" and time.monotonic() - began < 10


def test_the_user_may_stop_it(tmp_path):
    answers = iter([False, False, True])
    with pytest.raises(Stopped):
        prove(step(silent=True), [FORMS["good"]], stopped=lambda: next(answers))


def test_without_processes_nothing_is_proved(monkeypatch):
    monkeypatch.setattr("oche.proof.prove.sys.executable", os.devnull + "/python")
    found = prove(step(), [FORMS["good"]])
    assert found.obstacle.startswith("no child process can be started") and found.passing
