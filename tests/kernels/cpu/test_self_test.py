"""The test of the compiled kernels in a child process, before anything trusts them."""

import pytest
import torch

from oche.kernels import choose
from oche.kernels.cpu import build, self_test
from oche.proof import cache
from oche.proof.compare import errors
from oche.proof.values import Proof, Verdict

try:
    LIBRARY = str(build.library())
except build.Unavailable as reason:
    pytest.skip(f"no compiled kernels here: {reason}", allow_module_level=True)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OCHE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "library", lambda: LIBRARY)
    self_test._refutation.cache_clear()
    yield
    self_test._refutation.cache_clear()


@pytest.fixture
def proves(monkeypatch):
    """`prove` finds what this list says, and is counted."""
    given = {"why": "", "asked": 0}

    def prove(step, forms):
        given["asked"] += 1
        if given["why"] is None:
            return Verdict(step.title, (), "no child process can be started")
        proofs = Proof(forms[0], not given["why"], 0.1, why=given["why"]), Proof(forms[1], True, 0.2)
        return Verdict(step.title, proofs)

    monkeypatch.setattr(self_test, "prove", prove)
    monkeypatch.setenv("OCHE_PROOF", "auto")
    return given


def test_the_kernels_agree_on_every_network():
    plain, native = self_test.SmallNetworks(False), self_test.SmallNetworks(True)
    plain.take(0)
    native.take(0)
    found = errors(native.evidence(), plain.evidence())
    assert max(found.values()) < 0.003 and len(plain.networks) == 6
    assert plain.loss.isfinite() and len(plain.evidence()["gradients"]) > 500


def test_one_proof_serves_all_processes(proves):
    self_test.check_native()
    self_test.check_native()
    assert proves["asked"] == 1
    self_test._refutation.cache_clear()  # another process
    self_test.check_native()
    assert proves["asked"] == 1 and self_test.known_verdict(LIBRARY).of("native").agrees


def test_refuted_kernels_are_not_used(proves):
    proves["why"] = "the process was ended by SIGILL"
    why = r"did not pass their test on this machine \(the process was ended by SIGILL\)"
    with pytest.raises(build.Unavailable, match=why):
        self_test.check_native()
    found = choose.choose("auto", torch.device("cpu"), torch.float32)
    assert found.form.name == "shared" and "SIGILL" in found.why
    assert choose.choose("auto", torch.device("cpu"), torch.float32, mixed=False).form.name == "plain"


def test_a_proof_that_cannot_be_made_refutes_nothing(proves):
    proves["why"] = None
    self_test.check_native()
    assert [*cache.all_verdicts()] == []


def test_never_means_never_but_a_kept_refutation_counts(proves, monkeypatch):
    monkeypatch.setenv("OCHE_PROOF", "never")
    self_test.check_native()
    assert proves["asked"] == 0
    monkeypatch.setenv("OCHE_PROOF", "auto")
    proves["why"] = "gradients differ"
    with pytest.raises(build.Unavailable):
        self_test.check_native()
    self_test._refutation.cache_clear()  # another process
    monkeypatch.setenv("OCHE_PROOF", "never")
    with pytest.raises(build.Unavailable):
        self_test.check_native()


@pytest.mark.slow  # a child process
def test_in_a_child_process(monkeypatch):
    monkeypatch.undo()  # the child finds the file where this process does
    step = self_test.step_for(LIBRARY)
    found = self_test.prove(step, self_test.FORMS)
    assert not found.obstacle and found.of("native").agrees and found.of("plain").agrees
    assert found.of("native").errors["gradients"] < 1e-3
