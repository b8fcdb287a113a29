"""Devices, layouts, threads and the global generators."""

import pytest
import torch
from torch import nn

from oche.core.errors import OcheError
from oche.devices.engine import Engine


def test_auto_is_a_gpu_where_there_is_one():
    assert Engine().device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert Engine("cpu").device == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "", "cpu:x", "xla"])
def test_refused_device(name):
    with pytest.raises(OcheError, match=r"is not usable here .*; use auto, cpu or cuda") as caught:
        _ = Engine(name).device
    assert repr(name) in str(caught.value) and "\n" not in str(caught.value)


def test_place_is_channels_last_with_the_same_values():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.Linear(4, 2))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    placed = Engine("cpu").place(net)
    for name, t in placed.state_dict().items():
        assert torch.equal(t, before[name])
        assert t.dim() != 4 or t.is_contiguous(memory_format=torch.channels_last)
    assert placed[0].weight.stride() == (27, 1, 9, 3)
    assert Engine("cpu", dtype=torch.float64).place(net)[0].weight.dtype == torch.float64


def test_images():
    x = torch.randn(2, 3, 4, 5)
    placed = Engine("cpu", dtype=torch.float64).images(x)
    assert placed.is_contiguous(memory_format=torch.channels_last) and placed.dtype == torch.float64
    assert torch.equal(placed, x.double())


@pytest.mark.parametrize("fails", [False, True])
def test_seeded_restores_the_global_generator(fails):
    engine = Engine("cpu")
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    try:
        with engine.seeded(1):
            first = torch.rand(3)
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert torch.equal(torch.rand(3), expected)
    with engine.seeded(1):
        assert torch.equal(torch.rand(3), first)
    with engine.seeded(2):
        assert not torch.equal(torch.rand(3), first)


def test_running_sets_and_restores_threads():
    before = torch.get_num_threads()
    with Engine("cpu", threads=3).using_threads():
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == before
    with pytest.raises(ZeroDivisionError), Engine("cpu", threads=2).using_threads():
        raise ZeroDivisionError
    assert torch.get_num_threads() == before
    with Engine("cpu").using_threads():
        assert torch.get_num_threads() == before
