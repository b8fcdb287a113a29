"""What the Triton form keeps for its backward, and derivatives that it refuses."""

import os

import pytest
import torch

from oche.core.architecture import Dag, Mix
from oche.core.errors import OcheError
from oche.kernels.triton import cell as gpu
from oche.kernels.triton import depthwise as depthwise_kernels
from oche.kernels.triton import weighted_sum as sum_kernels
from triton_cells import Cell

pytestmark = pytest.mark.slow  # kernels are interpreted

pytest.importorskip("triton", reason="Triton is not installed: pip install triton")


if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip(
        "kernels run in Triton's interpreter here: TRITON_INTERPRET=1, as conftest sets it", allow_module_level=True
    )


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Several tiles a map, where maps are small."""
    monkeypatch.setattr(sum_kernels, "TILE", 512)
    monkeypatch.setattr(depthwise_kernels, "CHUNK", 1)


def test_a_second_derivative_is_refused_by_name():
    cell = Cell(candidates=("sep_conv_3x3", "skip_connect"))
    x = [t.clone().requires_grad_() for t in cell.inputs]
    out = gpu.node_states(cell.dag, cell.edges, x, Mix(cell.ops, None, cell.active), 1)[-1].sum()
    with pytest.raises(OcheError, match=r"no second derivatives.*--engine plain"):
        torch.autograd.grad(out, x, create_graph=True)


def test_what_is_kept_for_the_backward():
    """Of a separable convolution its input and the two maps behind the 1 × 1 convolutions: nothing else of their size."""
    cell, kept = Cell(candidates=("sep_conv_3x3",), size=(8, 8), channels=4), {}

    def pack(t):
        if t.numel() >= cell.inputs[0].numel():
            kept[t.untyped_storage()._cdata] = t.numel() // cell.inputs[0].numel()
        return t

    cell.dag = Dag(1, 1, 1)
    cell.edges, cell.active, cell.ops = cell.edges[:1], ((0,),), cell.ops[:1].requires_grad_()
    x = cell.inputs[0].requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = gpu.node_states(cell.dag, cell.edges, [x], Mix(cell.ops, None, cell.active), 1)
    assert out[1].requires_grad and sorted(kept.values()) == [1, 1, 1]
