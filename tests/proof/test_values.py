"""The choice among proofs, and verdicts as files have them."""

import pytest

from oche.proof.values import Proof, StepForm, Verdict


def proof(name, seconds=None, agrees=True, **rest):
    return Proof(StepForm(name), agrees, seconds, **rest)


def verdict(*proofs, **rest):
    return Verdict("a step", proofs, **rest)


def test_the_fastest_that_agrees():
    found = verdict(proof("plain", 1.0), proof("graph", 0.5), proof("triton", 0.1, agrees=False), proof("shared", 0.7))
    assert found.fastest().form.name == "graph" and found.speedup(found.of("graph")) == 2.0
    assert found.refusals() == ["triton: "]


@pytest.mark.parametrize(("seconds", "name"), [(0.96, "plain"), (0.94, "graph")])
def test_a_small_difference_prefers_the_earlier_form(seconds, name):
    assert verdict(proof("plain", 1.0), proof("graph", seconds)).fastest(0.05).form.name == name


def test_nothing_agrees():
    assert verdict(proof("plain", 1.0, agrees=False)).fastest() is None
    assert verdict().speedup(proof("graph", 1.0)) is None


def test_what_may_pass():
    assert not verdict(proof("plain", 1.0)).passing
    assert verdict(proof("graph", agrees=False, passing=True)).passing and verdict(obstacle="no child").passing


def test_there_and_back():
    whole = verdict(proof("plain", 1.0, errors={"loss": 0.1}), machine={"gpu": "H200"}, took=2.0, time=3.0)
    assert Verdict.from_dict(whole.to_dict()) == whole


@pytest.mark.parametrize(
    "damage", [{"proofs": [{}]}, {"proofs": 3}, {"machine": "H200"}, {"title": None}, {"took": "long"}, {"time": None}]
)
def test_a_damaged_tree_is_no_verdict(damage):
    with pytest.raises((ValueError, TypeError, KeyError)):
        Verdict.from_dict(verdict(proof("plain", 1.0)).to_dict() | damage)


def test_a_damaged_proof_is_none():
    tree = verdict(proof("plain", 1.0)).to_dict()
    tree["proofs"][0]["agrees"] = "yes"
    with pytest.raises(TypeError):
        Verdict.from_dict(tree)
