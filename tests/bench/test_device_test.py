"""A convolution that tells whether a device computes what the CPU computes."""

import pytest

from oche.bench.device_test import make, try_devices
from oche.proof.compare import errors
from oche.proof.values import StepForm


def test_the_convolution_agrees_with_itself():
    one, other = make({}, None), make({}, StepForm("cpu"))
    one.take(0)
    other.take(0)
    assert errors(one.evidence(), other.evidence()) == {"loss": 0, "statistics": 0, "gradients": 0, "tensor": 0}


@pytest.mark.slow  # a child process
def test_devices_are_tried_in_a_child_process():
    verdict = try_devices(["cpu", "cuda:99"])
    assert not verdict.obstacle and verdict.of("cpu").agrees and verdict.of("cpu").seconds > 0
    assert not verdict.of("cuda:99").agrees and verdict.of("cuda:99").why
