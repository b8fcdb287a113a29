"""bfloat16: near float32 where it is right, refused where it is not."""

import pytest
import torch
from torch import nn

import oche
from image_training import CELL, PLAIN, make, recipe, steps
from oche.core.errors import OcheError
from oche.devices.engine import Engine
from oche.devices.mixed_precision import precision_context, with_precision
from oche.kernels.cpu.build import Unavailable
from oche.training.gradient_check import check_bf16_gradients
from tiny_images import dataset

CPU = Engine("cpu")


@pytest.fixture
def no_bf16_kernels(monkeypatch):
    """A processor that multiplies no bfloat16 numbers."""

    def refuse():
        raise Unavailable("no such instructions")

    monkeypatch.setattr("oche.devices.mixed_precision.check_native_bf16", refuse)


def test_steps_in_bf16_are_near_those_in_float32(no_bf16_kernels):
    tasks = [make(recipe(precision=p, **PLAIN), dataset(side=16), CPU) for p in ("float32", "bf16")]
    assert "plain" in tasks[1].computes or not tasks[1].computes
    losses = []
    for task in tasks:
        for _ in steps(task, 4, 8):
            pass
        losses.append(task.meters["train"].means()[0])
        assert all(p.dtype == torch.float32 and p.grad.dtype == torch.float32 for p in task.weights)
    assert losses[0] == pytest.approx(losses[1], rel=0.03) and losses[0] != losses[1]


def test_forwards_compute_in_bf16():
    with precision_context("bf16", torch.device("cpu")):
        assert nn.Conv2d(1, 1, 1)(torch.zeros(1, 1, 2, 2)).dtype == torch.bfloat16
    with precision_context("float32", torch.device("cpu")):
        assert nn.Conv2d(1, 1, 1)(torch.zeros(1, 1, 2, 2)).dtype == torch.float32


def test_kernels_that_take_none_are_refused():
    assert with_precision(CPU, "bf16").fused == "plain" and with_precision(CPU, "float32") is CPU
    with pytest.raises(OcheError, match="use engine='auto' or 'plain'"):
        with_precision(Engine("cpu", fused="fused"), "bf16")


def test_final_networks_take_kernels_that_multiply_bf16(monkeypatch):
    monkeypatch.setattr("oche.devices.mixed_precision.check_native_bf16", lambda: None)
    assert with_precision(CPU, "bf16", mixed=False) is CPU
    assert with_precision(Engine("cpu", fused="plain"), "bf16", mixed=False).fused == "plain"
    assert with_precision(Engine("cpu", dtype=torch.float64), "bf16", mixed=False).fused == "plain"


def test_final_networks_without_such_kernels_are_plain(no_bf16_kernels):
    assert with_precision(CPU, "bf16", mixed=False).fused == "plain"


def test_wrong_gradients_are_found(monkeypatch):
    """On whatever device and version: the wrong kernel is put in by hand."""
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    check_bf16_gradients(net, (4, 3, 8, 8), CPU)
    conv2d = torch.nn.functional.conv2d

    def wrong(x, w, *args):
        y = conv2d(x, w, *args)
        dilated = len(args) > 3 and args[3] == (2, 2)
        return y + y.detach() * w.sum() * 1e-2 if dilated and y.dtype == torch.bfloat16 else y

    monkeypatch.setattr("oche.training.gradient_check.F.conv2d", wrong)
    with pytest.raises(OcheError, match=r"dilated depthwise 3x3 convolution on maps of 8x8 .* use precision='float32'"):
        check_bf16_gradients(net, (4, 3, 8, 8), CPU)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())  # nothing moved


def test_the_measured_fault_is_found():
    """Where this torch and processor have it: the weight gradient is not that of float32."""
    net = nn.Conv2d(16, 16, 3, padding=2, dilation=2, groups=16, bias=False).to(memory_format=torch.channels_last)
    x = torch.randn(8, 16, 32, 32, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    gradients = []
    for precision in ("bf16", "float32"):
        with precision_context(precision, x.device):
            y = net(x)
        gradients.append(torch.autograd.grad(y.float().square().sum(), net.weight)[0])
    if torch.allclose(*gradients, rtol=0.05, atol=0.05 * gradients[1].abs().max().item()):
        pytest.skip("this torch computes it right on this processor")
    with pytest.raises(OcheError, match="32x32"):
        check_bf16_gradients(net, (8, 16, 32, 32), CPU)


def test_what_cannot_be_trusted_leaves_no_run(tmp_path, monkeypatch, no_bf16_kernels):
    def refuse(net, shape, engine):
        assert shape == (16, 1, 8, 8) and engine.fused == "plain"
        raise OcheError("wrong")

    monkeypatch.setattr("oche.training.image_recipes.check_bf16_gradients", refuse)
    made = recipe(precision="bf16", batch=16, **PLAIN)
    with pytest.raises(OcheError, match="wrong"):
        oche.train("DARTS_V2", "digits", recipe=made, out=tmp_path / "x")
    with pytest.raises(OcheError, match="plain modules"):
        oche.train("DARTS_V2", "digits", recipe=made, out=tmp_path / "x", engine="fused")
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_a_run_in_bf16_is_saved_in_float32(tmp_path):
    made = recipe(precision="bf16", batch=16, steps=2, **PLAIN)
    run = oche.train(str(CELL), "digits", recipe=made, out=tmp_path / "x", limit=64)
    assert run.state == "complete" and run.summary["test_acc"] > 0
    weights = oche.load(run).net.state_dict().values()
    assert all(t.dtype == torch.float32 for t in weights if t.is_floating_point())
