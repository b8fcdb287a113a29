"""What `oche doctor` finds on machines of every kind, and what it advises."""

import json
import os
from importlib.util import find_spec

import pytest
import torch

from oche.bench import doctor
from oche.bench.facts import advice, exit_code
from oche.cli import main as cli
from oche.kernels.cpu import build, self_test
from oche.proof import cache
from oche.proof.values import Proof, Step, StepForm, Verdict


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OCHE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def kernels(monkeypatch):
    """Kernels that are compiled; their proof finds what this mapping says."""
    given = {"why": "", "obstacle": ""}

    def prove(step, forms):
        if given["obstacle"]:
            return Verdict(step.title, (), given["obstacle"])
        return Verdict(
            step.title, (Proof(forms[0], not given["why"], 0.1, why=given["why"]), Proof(forms[1], True, 0.25))
        )

    monkeypatch.setattr(build, "library", lambda: "native.so")
    monkeypatch.setattr(build, "pending", lambda: False)
    monkeypatch.setattr(self_test, "prove", prove)
    return given


def only(facts, name):
    found = [fact for fact in facts if fact.name == name]
    assert len(found) == 1, [fact.name for fact in facts]
    return found[0]


def test_a_machine_that_works(kernels):
    facts = doctor.examine()
    assert exit_code(facts) == 0
    assert only(facts, "compiled kernels").value == "100 ms a step, 2.5 × plain modules"
    assert only(facts, "torch").value.startswith(torch.__version__)
    assert {"software", "machine", "GPU", "caches", "packages", "proved"} == {fact.part for fact in facts}
    assert only(doctor.examine(quick=True), "compiled kernels").value == "100 ms a step, 2.5 × plain modules"  # kept


@pytest.mark.parametrize(
    ("field", "text"), [("why", "the process was ended by SIGILL"), ("obstacle", "no child process can be started")]
)
def test_kernels_that_fail_are_wrong(kernels, field, text):
    kernels[field] = text
    facts = doctor.examine()
    assert exit_code(facts) == 1 and text in only(facts, "compiled kernels").value


def test_without_a_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    facts = doctor.examine()
    assert only(facts, "compiler").level == only(facts, "compiled kernels").level == "note"
    assert exit_code(facts) == 0 and any(text.startswith("install g++") for text in advice(facts))


def test_quick_compiles_nothing(monkeypatch):
    def never():
        raise AssertionError("it was to be quick")

    monkeypatch.setattr(build, "library", never)
    monkeypatch.setattr(build, "pending", lambda: True)
    assert only(doctor.examine(quick=True), "compiled kernels").value.startswith("not compiled yet")


def test_a_cache_that_cannot_be_written_is_wrong(monkeypatch, kernels, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("OCHE_CACHE", str(tmp_path / "file" / "cache"))
    fact = only([*doctor._caches()], "oche")
    assert fact.level == "wrong" and "is no folder" in fact.value and "OCHE_CACHE" in fact.install


def test_packages_that_are_missing(monkeypatch):
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name in ("scipy", "ray") else find_spec(name))
    facts = [*doctor._packages()]
    assert only(facts, "scipy").level == "wrong" and only(facts, "scipy").install == "pip install scipy"
    assert only(facts, "ray").level == "note" and only(facts, "ray").install == "pip install 'oche[study]'"


def test_a_gpu_that_torch_cannot_use_is_wrong(monkeypatch, tmp_path):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H200'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (fact,) = doctor._gpus()
    assert fact.level == "wrong" and fact.value.startswith("sees NVIDIA H200, and torch ")
    program.write_text("#!/bin/sh\nexit 9\n")
    assert [fact.level for fact in doctor._gpus()] == ["note"]


def test_gpus_are_described_and_tried(monkeypatch):
    class Facts:
        name, total_memory, major, minor = "NVIDIA H200", 139 * 2**30, 9, 0

    def try_devices(names):
        assert names == ["cuda:0", "cuda:1"]
        forms = [*map(StepForm, names)]
        bad = Proof(forms[1], False, why="the process was ended by SIGKILL")
        return Verdict("a convolution", (Proof(forms[0], True, 0.002), bad))

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: Facts)
    monkeypatch.setattr(doctor, "refusal", lambda device: None)
    monkeypatch.setattr(doctor, "try_devices", try_devices)
    assert [fact.value for fact in doctor._gpus()][1:] == ["NVIDIA H200, 139 GiB, compute capability 9.0"] * 2
    good, bad = doctor._devices(lambda line: None)
    assert good.value == "a convolution as the CPU does, in 2 ms"
    assert bad.name == "cuda:1 computes" and bad.level == "wrong" and bad.value == "the process was ended by SIGKILL"


def test_kept_verdicts_are_shown():
    forms = StepForm("native"), StepForm("plain")
    step, machine = Step("a:b", {}, "search (darts), batch 64, 32x32"), cache.describe_machine(torch.device("cpu"))
    proofs = Proof(forms[0], True, 0.5), Proof(forms[1], True, 2.0), Proof(StepForm("odd"), False, why="it is odd")
    cache.remember(step, forms, machine, Verdict(step.title, proofs))
    cache.remember(step, forms, {"gpu": "another"}, Verdict("elsewhere", proofs))
    (fact,) = doctor._proved()
    assert (fact.name, fact.value) == (step.title, "native: 500 ms a step, 4.0 × plain modules; odd: it is odd")


def test_the_command(capsys, kernels):
    assert cli.main(["doctor", "--quick"]) == 0
    out = capsys.readouterr().out
    assert "compiled, not proved yet" in out.replace("\n" + " " * 19, " ") and max(map(len, out.splitlines())) <= 80
    kernels["why"] = "gradients differ"
    assert cli.main(["doctor", "--json"]) == 1
    tree = json.loads(capsys.readouterr().out)
    assert tree["works"] is False and tree["install"][0].startswith("please report")
