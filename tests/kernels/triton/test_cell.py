"""Triton kernels and `oche.kernels.triton.cell.flow` in Triton's interpreter against plain torch and the plain modules, in float64."""

import copy
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from paths import ROOT

pytest.importorskip("triton", reason="Triton is not installed: pip install triton")
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip(
        "kernels run in Triton's interpreter here: TRITON_INTERPRET=1, as conftest sets it", allow_module_level=True
    )

from oche.core.architecture import Dag, Mix
from oche.core.errors import OcheError
from oche.kernels.triton import cell as gpu
from oche.kernels.triton import depthwise as depthwise_kernels
from oche.kernels.triton import weighted_sum as sum_kernels
from oche.networks.forms import node_states
from oche.networks.operations import DARTS, FactorizedReduce
from oche.spaces import ConvSpace, nb201
from oche.spaces.mixed_ops import AuxiliarySkip, MixedEdge, PartialEdge, PartialOperation, SkipDropout
from oche.training.losses import frozen_statistics
from tape import Recorder

D = torch.float64
ALL = ((3, 1), (5, 1), (3, 2), (5, 2))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Several tiles a map, where maps are small."""
    monkeypatch.setattr(sum_kernels, "TILE", 512)
    monkeypatch.setattr(depthwise_kernels, "CHUNK", 1)


def normal(*shape, dtype=D):
    return torch.randn(*shape, dtype=dtype)


def oracle(x, norm, weights, kinds, stride):
    """The stage by torch's convolutions: a list of (J, B, H', W', C), one a kernel."""
    outs, row = [], 0
    for size, dilation in kinds:
        members = []
        for j, w in enumerate(weights):
            image = x[min(j, len(x) - 1)]
            if norm is not None:
                image = image * norm[0][min(j, len(x) - 1)] + norm[1][min(j, len(x) - 1)]
            kernel = w[row : row + size * size].t().reshape(-1, 1, size, size)
            pad = dilation * (size // 2)
            y = F.conv2d(image.relu().permute(0, 3, 1, 2), kernel, None, stride, pad, dilation, len(kernel))
            members.append(y.permute(0, 2, 3, 1))
        outs.append(torch.stack(members))
        row += size * size
    return torch.stack(outs)


@pytest.mark.parametrize(
    "kinds, groups, members, stride, normed, size",
    [
        (ALL, 1, 1, 1, False, (3, 7)),
        (((3, 1), (3, 2)), 1, 2, 2, False, (5, 6)),
        (((5, 1),), 2, 2, 1, True, (4, 5)),
        (((3, 2), (1, 1)), 2, 2, 2, True, (1, 9)),
    ],
)
def test_depthwise_stages(kinds, groups, members, stride, normed, size, monkeypatch):
    monkeypatch.setattr(sum_kernels, "TILE", 512 if kinds == ALL else 256)
    monkeypatch.setattr(depthwise_kernels, "CHUNK", 1 if kinds == ALL else 2)
    x = normal(groups, 2, *size, 3)
    norm = (torch.rand(groups, 3, dtype=D) + 0.5, normal(groups, 3)) if normed else None
    w = normal(members, sum(r * r for r, _ in kinds), 3).requires_grad_()
    moved = x if norm is None else x * norm[0][:, None, None, None] + norm[1][:, None, None, None]
    moved.requires_grad_()
    want = oracle(moved, None, w, kinds, stride)
    g = torch.randn_like(want)
    dx, dw = torch.autograd.grad(want, (moved, w), g)
    stage = depthwise_kernels.Depthwise(x, norm, kinds, stride, members)
    torch.testing.assert_close(stage.forward(w.detach()), want, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(stage.input(w.detach(), g), dx, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(stage.weight(g), dw, rtol=1e-12, atol=1e-12)


def test_every_tap_of_a_kernel_is_one_row():
    found = depthwise_kernels.taps(ALL)
    assert len(found) == 41  # of 68 weights: what a pixel reads is read once
    assert sorted(r for tap in found for r in tap[2:] if r >= 0) == list(range(9 + 25 + 9 + 25))
    assert (-4, 2, -1, -1, -1, 9 + 25 + 9 + 3) in found  # first row, fourth column of the dilated 5 × 5


@pytest.mark.parametrize("pixels", [1, 128, 130, 300])
def test_moments_far_from_zero(pixels):
    z = normal(2, 1, 1, pixels, 3) + 1e4
    mean, var = sum_kernels.moments(z)
    torch.testing.assert_close(mean, z.mean((1, 2, 3)), rtol=1e-14, atol=0)
    torch.testing.assert_close(var, z.var((1, 2, 3), unbiased=False), rtol=1e-9, atol=1e-12)


def test_sums_of_maps_and_their_products():
    g, own, shared = normal(2, 3, 7, 5, 3), normal(2, 3, 7, 5, 3), normal(1, 3, 7, 5, 3)
    a, d, mean = normal(3, 2, 3), normal(2, 3), normal(2, 2, 3)
    terms = torch.stack([g, own, shared.expand_as(g)])
    want = (terms * a[:, :, None, None, None]).sum(0) + d[:, None, None, None]
    torch.testing.assert_close(sum_kernels.linear_combination([g, own, shared], a, d), want, rtol=1e-13, atol=1e-13)
    sums, dots = sum_kernels.dot_products(g, [own, shared], mean)
    torch.testing.assert_close(sums, g.sum((1, 2, 3)), rtol=1e-12, atol=1e-12)
    away = terms[1:] - mean[:, :, None, None, None]
    torch.testing.assert_close(dots, (g * away).sum((2, 3, 4)), rtol=1e-12, atol=1e-12)


# --- cells ------------------------------------------------------------------------------------------------------------


class Cell:
    """A cell of two nodes, its inputs, a mixture, and a gradient that comes back to each node."""

    def __init__(
        self, builder=None, stride=1, size=(5, 4), batch=2, channels=2, dtype=D, scale=False, nodes=2, **fields
    ):
        space = ConvSpace(channels=channels, nodes=nodes, cells=3, **fields)
        self.dag, self.stride = space.dag, stride
        builder = builder or MixedEdge()
        self.edges = torch.nn.ModuleList(
            builder(space, channels, stride if source < 2 else 1) for source, _ in self.dag.edges
        ).to(dtype)
        for name, p in self.edges.named_parameters():
            if p.dim() == 1:  # scale and shift
                torch.nn.init.normal_(p, 1.0 if name.endswith("weight") else 0.0, 0.3)
        self.inputs = [normal(batch, channels, *size).to(dtype) for _ in range(2)]
        n = len(space.candidates)
        self.ops = normal(len(self.dag), n).softmax(1).to(torch.promote_types(dtype, torch.float32))
        self.scales = torch.rand(len(self.dag), dtype=self.ops.dtype) + 0.5 if scale else None
        self.active = (tuple(range(n)),) * len(self.dag)
        self.back = None

    def run(self, flow):
        """Outputs, gradients of inputs, mixture and parameters, buffers: everything by name."""
        edges = copy.deepcopy(self.edges)
        inputs = [x.clone().to(memory_format=torch.channels_last).requires_grad_() for x in self.inputs]
        ops = self.ops.clone().requires_grad_()
        scales = None if self.scales is None else self.scales.clone().requires_grad_()
        states = flow(self.dag, edges, inputs[: self.dag.inputs], Mix(ops, scales, self.active), self.stride)
        found = states[self.dag.inputs :]
        if self.back is None:
            self.back = [torch.randn_like(s) for s in found]
        reached = [(s, b) for s, b in zip(found, self.back, strict=True) if s.requires_grad]
        torch.autograd.backward(*zip(*reached, strict=True))
        given = {"ops": ops, "scales": scales, "x0": inputs[0], "x1": inputs[1], **dict(edges.named_parameters())}
        found = {f"node {i}": s.detach() for i, s in enumerate(states)}
        found |= {f"gradient of {k}": t.grad for k, t in given.items() if t is not None}
        return found | dict(edges.named_buffers())

    def check(self, tolerance=1e-9, want=None):
        want = want or self.run(node_states)
        got = self.run(gpu.node_states)
        assert want.keys() == got.keys()
        for name, w in want.items():
            g = got[name]
            assert (w is None) == (g is None), name
            if w is not None:
                assert g.isfinite().all(), name
                torch.testing.assert_close(g, w, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")
        return got


SMALL = ("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3")


@pytest.mark.parametrize(
    "nodes, stride, size, batch, candidates",
    [(1, 2, (5, 4), 2, DARTS), (2, 1, (5, 4), 2, SMALL), (2, 2, (4, 6), 1, ("max_pool_3x3", "sep_conv_3x3"))],
)
def test_a_cell_of_the_darts_space(nodes, stride, size, batch, candidates):
    got = Cell(nodes=nodes, stride=stride, size=size, batch=batch, candidates=candidates).check()
    assert all(v.abs().max() > 0 for k, v in got.items() if k.startswith("gradient") and "candidates" in k)


def test_scale_and_shift_and_pools_as_they_are():
    Cell(candidates=SMALL, affine=True, pool_norm=False, scale=True, nodes=1).check()


def test_dead_candidates_and_empty_edges():
    cell = Cell(candidates=DARTS, scale=True)
    cell.active = ((1, 3), (), (0,), (4, 6), tuple(range(8)))
    cell.check()


def test_a_node_into_which_nothing_flows():
    cell = Cell(candidates=("none", "max_pool_3x3", "sep_conv_3x3"), stride=2)
    cell.active = ((), (0,), (1, 2), (2,), (1, 2))
    cell.check()


def test_one_candidate_an_edge():
    cell = Cell(candidates=DARTS)
    cell.active = ((4,), (7,), (1,), (3,), (5,))
    cell.check()


def test_candidates_that_it_does_not_know():
    Cell(candidates=("none", "skip_connect", "conv_7x1_1x7", "dil_conv_3x3", "nor_conv_3x3"), stride=2).check()


@pytest.mark.parametrize("builder", [PartialEdge(2, SkipDropout()), AuxiliarySkip()])
def test_edges_that_it_does_not_know(builder):
    Cell(builder, candidates=("none", "skip_connect", "sep_conv_3x3"), channels=4).check()


def unused(*args):
    raise AssertionError("a module computed")


PARTIAL = ("none", "max_pool_3x3", "skip_connect", "dil_conv_3x3")


@pytest.mark.parametrize("stride, size, scale", [(1, (4, 3), True), (2, (5, 4), False)])
def test_partial_channels(stride, size, scale, monkeypatch):
    cell = Cell(PartialEdge(2), stride, size, channels=4, scale=scale, candidates=PARTIAL)
    want = cell.run(node_states)
    monkeypatch.setattr(PartialOperation, "forward", unused)
    cell.check(want=want)


def test_partial_channels_where_little_is_alive():
    """A node that only "none" reaches, which still has what bypasses it; an edge without any candidate; one unknown."""
    candidates = ("none", "skip_connect", "conv_7x1_1x7", "dil_conv_3x3")
    cell = Cell(PartialEdge(3), channels=6, scale=True, candidates=candidates)
    cell.active = ((0,), (0,), (), (2, 3), (0, 1))
    cell.check()


DENSE = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


@pytest.mark.parametrize("stride, size, affine", [(1, (4, 3), False), (2, (5, 3), True)])
def test_dense_candidates(stride, size, affine, monkeypatch):
    """Those of NAS-Bench-201, whose pools have no BatchNorm; where the map shrinks a factorised reduction among them."""
    cell = Cell(stride=stride, size=size, affine=affine, pool_norm=False, candidates=DENSE, channels=3)
    assert all(len(gpu.known_of(edge, tuple(range(5)))) == 4 for edge in cell.edges)
    want = cell.run(node_states)
    monkeypatch.setattr(torch.nn.Sequential, "forward", unused)
    monkeypatch.setattr(FactorizedReduce, "forward", unused)
    cell.check(want=want)


def test_a_cell_of_nas_bench_201():
    cell, space = Cell(nodes=1), nb201(channels=2)
    cell.dag = space.dag
    cell.edges = torch.nn.ModuleList(MixedEdge()(space, 2, 1) for _ in space.dag.edges).to(D)
    cell.ops, cell.active = normal(6, 5).softmax(1), (tuple(range(5)),) * 6
    cell.check()


def test_statistics_rest_where_they_are_frozen_and_serve_where_nothing_trains():
    cell = Cell(candidates=("avg_pool_3x3", "sep_conv_3x3"))
    with frozen_statistics(cell.edges):
        cell.edges = copy.deepcopy(cell.edges)
        got = cell.check()
    assert all(v.sum() == 0 for k, v in got.items() if k.endswith(("running_mean", "num_batches_tracked")))
    for m in cell.edges.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(m.running_mean)
            m.track_running_stats = True
    cell.edges.eval()
    cell.check()


def test_float32_against_float64():
    """On inputs whose near-ties are not decided by rounding: the gradients of the two plain forms agree."""
    torch.manual_seed(3)
    cell = Cell(candidates=SMALL, dtype=torch.float32, nodes=1)
    got = cell.run(gpu.node_states)
    double = copy.copy(cell)
    double.edges, double.ops = copy.deepcopy(cell.edges).double(), cell.ops.double()
    double.inputs, double.back = [x.double() for x in cell.inputs], [b.double() for b in cell.back]
    want = double.run(node_states)
    for name, w in want.items():
        if w is not None and w.is_floating_point():
            error = (got[name].double() - w).norm() / w.norm().clamp_min(1e-2)
            assert error < 1e-4, (name, error)


def test_bfloat16_maps_and_float32_weights():
    """Statistics and sums are wide: relative errors are those of rounding the maps, to 8 bits."""
    cell = Cell(candidates=("none", "avg_pool_3x3", "skip_connect", "dil_conv_3x3"), dtype=torch.float32, size=(6, 6))
    cell.inputs = [x.bfloat16() for x in cell.inputs]
    got = cell.run(gpu.node_states)
    double = copy.copy(cell)
    double.edges, double.ops = copy.deepcopy(cell.edges).double(), cell.ops.double()
    double.inputs, double.back = [x.double() for x in cell.inputs], [b.double() for b in cell.back]
    want = double.run(node_states)
    assert got["node 2"].dtype == got["gradient of x0"].dtype == torch.bfloat16
    for name, w in want.items():
        if w is not None and w.is_floating_point():
            assert (got[name].double() - w).norm() < 0.05 * w.norm() + 0.02, name
            if name.startswith("gradient of") and name[-2] != "x":
                assert got[name].dtype == torch.float32, name


def test_a_second_derivative_is_refused_by_name():
    cell = Cell(candidates=("sep_conv_3x3", "skip_connect"))
    x = [t.clone().requires_grad_() for t in cell.inputs]
    out = gpu.node_states(cell.dag, cell.edges, x, Mix(cell.ops, None, cell.active), 1)[-1].sum()
    with pytest.raises(OcheError, match=r"differentiable once.*--engine plain"):
        torch.autograd.grad(out, x, create_graph=True)


def test_one_value_a_channel_is_refused_as_a_batchnorm_does():
    cell = Cell(candidates=("sep_conv_3x3", "skip_connect"), size=(1, 1), batch=1)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        cell.run(gpu.node_states)


@pytest.mark.parametrize("builder", [MixedEdge(), PartialEdge(2)])
def test_the_host_is_not_asked(builder):
    """So that a CUDA graph can record it."""
    candidates = ("avg_pool_3x3", "skip_connect", "dil_conv_3x3", "nor_conv_3x3")
    cell = Cell(builder, nodes=1, scale=True, affine=True, stride=2, channels=4, candidates=candidates)
    with Recorder() as recorder:
        cell.run(gpu.node_states)
    assert recorder.tape


def test_where_the_kernels_cannot_run_it_says_so():
    assert gpu.refusal(torch.device("cpu")) == "Triton's kernels need a CUDA device, this is cpu"


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


@pytest.mark.skipif(sys.platform != "linux", reason="Triton's compiler is that of Linux")
def test_kernels_compile_for_a_gpu():
    script = ROOT / "tests/helpers/compile_kernels.py"
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    done = subprocess.run([sys.executable, script, "quick"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 6
