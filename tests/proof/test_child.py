"""What the child process finds of single forms, in this process."""

import json

import pytest

from failing_steps import FORMS, make, step
from oche.proof import child
from oche.proof.values import FLOAT32


@pytest.fixture
def reference(tmp_path):
    task = {"settings": {}, "steps": 3, "plain": True}
    return child._reference(make, task, tmp_path)


def test_the_reference_is_kept_for_the_next_child(tmp_path, reference):
    assert len(reference["states"]) == len(reference["evidence"]) == 3 and reference["seconds"] >= 0.02

    def never(settings, form):
        raise AssertionError("it was kept")

    again = child._reference(never, {}, tmp_path)
    assert again["seconds"] == reference["seconds"]
    assert (again["evidence"][2]["gradients"]["w"] == reference["evidence"][2]["gradients"]["w"]).all()


def test_the_plain_form_is_the_reference_where_both_are_the_same(reference):
    proof, _ = child._prove(make, {}, FORMS["plain"], reference, FLOAT32, {})
    assert proof.agrees and proof.seconds == reference["seconds"] and proof.errors == {}


@pytest.mark.parametrize(("noise", "agrees"), [(0.0, False), (0.02, False), (0.04, True)])
def test_errors_of_the_plain_form_widen_the_bounds(reference, noise, agrees):
    proof, _ = child._prove(make, {}, FORMS["wrong gradient"], reference, FLOAT32, {"gradients": noise})
    assert proof.agrees is agrees and abs(proof.errors["gradients"] - 0.1) < 0.01


def run(folder, monkeypatch, *names):
    """Run the child in this process; return the forms that began, and the answers."""
    task = {
        "maker": "failing_steps:make", "settings": {}, "steps": 2, "plain": False, "bounds": {}, "sys_path": [],
        "forms": [{"name": name} for name in names],
    }  # fmt: skip
    (folder / "step.json").write_text(json.dumps(task))
    monkeypatch.setattr(child, "_end_with_parent", lambda parent: None)
    child.main(folder)
    lines = [json.loads(line) for line in (folder / "found.jsonl").read_text().splitlines()]
    return [line["begin"] for line in lines if "begin" in line], [
        line["proof"]["agrees"] for line in lines if "proof" in line
    ]


def test_all_forms_go_to_the_file(tmp_path, monkeypatch):
    assert step().steps == 3
    names = ["good", "refuses", "wrong loss", "plain"]
    assert run(tmp_path, monkeypatch, *names) == (["reference", *names], [True, False, False, True])


@pytest.mark.parametrize("fault", ["raises", "no memory"])
def test_an_error_ends_the_process_because_it_may_have_harmed_the_device(tmp_path, monkeypatch, fault):
    assert run(tmp_path, monkeypatch, "good", fault, "plain") == (["reference", "good", fault], [True, False])
