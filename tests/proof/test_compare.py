"""Relative errors of evidence against hand-made cases."""

from math import inf, nan

import pytest
import torch

from oche.proof.compare import disagreement, errors, largest
from oche.proof.values import Bounds


def evidence(loss=2.0, statistics=(3.0, 4.0), big=(6.0, 8.0), small=(0.01,), logits=()):
    gradients = {"big": torch.tensor(big), "small": torch.tensor(small)}
    return {
        "loss": {"train": torch.tensor(loss)}, "statistics": {"mean": torch.tensor(statistics)}, "gradients": gradients,
        "logits": {"normal": torch.tensor(logits)} if logits else {},
    }  # fmt: skip


def test_the_same_has_no_errors():
    assert errors(evidence(), evidence()) == {"loss": 0, "statistics": 0, "gradients": 0, "tensor": 0}


def test_errors_are_relative():
    found = errors(evidence(loss=2.2, statistics=(3.0, 4.5), big=(6.0, 9.0)), evidence())
    assert found["loss"] == pytest.approx(0.1)
    assert found["statistics"] == pytest.approx(0.1)  # 0.5 of a norm of 5
    assert found["gradients"] == pytest.approx(0.1, rel=1e-4) and found["tensor"] == pytest.approx(0.1)


def test_a_small_loss_is_compared_absolutely():
    assert errors(evidence(loss=0.02), evidence(loss=0.01))["loss"] == pytest.approx(0.01)


def test_a_small_tensor_is_measured_by_a_hundredth_of_all():
    found = errors(evidence(small=(0.06,)), evidence())
    assert found["tensor"] == pytest.approx(0.5, rel=1e-4)  # 0.05 of 0.1, a hundredth of 10


def test_a_gradient_that_is_left_out_is_zero():
    less = evidence()
    del less["gradients"]["small"]
    assert errors(less, evidence())["tensor"] == pytest.approx(0.1, rel=1e-4)
    assert errors(evidence(), less)["tensor"] == pytest.approx(0.1, rel=1e-4)


@pytest.mark.parametrize("bad", [nan, inf])
def test_what_is_no_number_is_an_infinite_error(bad):
    assert errors(evidence(loss=bad), evidence())["loss"] == inf
    assert errors(evidence(big=(bad, 8.0)), evidence())["gradients"] == inf


def test_other_shapes_are_an_infinite_error():
    assert errors(evidence(big=(6.0, 8.0, 1.0)), evidence())["tensor"] == inf


def test_a_loss_that_is_missing_is_an_infinite_error():
    assert errors(evidence() | {"loss": {}}, evidence())["loss"] == inf


def test_gradients_that_should_be_zero():
    zero = evidence(big=(0.0, 0.0), small=(0.0,))
    assert errors(zero, zero)["gradients"] == 0 and errors(evidence(), zero)["gradients"] == inf


def test_bounds():
    bounds = Bounds(loss=0.01, gradients=0.2, noise=3.0)
    assert disagreement({"loss": 0.01, "gradients": 0.2}, bounds, {}) == ""
    assert disagreement({"loss": 0.011}, bounds, {}).startswith("losses differ from the plain float32 step by 0.011 ")
    assert disagreement({"loss": 0.011}, bounds, {"loss": 0.004}) == ""
    assert "allowed: 0.015" in disagreement({"loss": 0.02}, bounds, {"loss": 0.005})
    assert "allowed: 0.5" in disagreement({"gradients": 0.6}, bounds, {"gradients": 0.4})  # no wider than bfloat16
    assert disagreement({"loss": inf}, bounds, {"loss": inf}) and disagreement({"loss": nan}, bounds, {})


def test_the_largest():
    assert largest({"a": 1.0, "b": 2.0}, {"b": 3.0, "c": 4.0}) == {"a": 1.0, "b": 3.0, "c": 4.0}
