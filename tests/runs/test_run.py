"""What a finished run holds."""

import json

import pytest

from oche.core.errors import OcheError
from oche.runs.checkpoint import load_weights


def test_its_weights_are_the_supernets_and_its_logits(searched):
    tensors = load_weights(searched.path / "weights.safetensors")
    logits = {name.removeprefix("logits."): tensors.pop(name) for name in [*tensors] if name.startswith("logits.")}
    assert searched.config.space.genotype(logits) == searched.genotype
    searched.config.space.supernet().load_state_dict(tensors)
    space = json.loads((searched.path / "space.json").read_text())
    parameters = sum(p.numel() for p in searched.config.space.supernet().parameters())
    assert space["parameters"] == searched.summary["parameters"] == parameters and space["flops"] > 0
    assert [tuple(e) for e in space["groups"]["normal"]["edges"]] == list(searched.config.space.dag.edges)


def test_a_damaged_status_is_one_clear_error(copied):
    (copied.path / "status.json").write_text("{")
    with pytest.raises(OcheError, match=r"status\.json"):
        _ = copied.state
