"""The Triton form of a cell in Triton's interpreter against plain torch and the plain modules, in float64."""

import copy
import os
import subprocess
import sys

import pytest
import torch

from oche.core.architecture import Shape
from oche.kernels.triton import cell as gpu
from oche.kernels.triton import depthwise as depthwise_kernels
from oche.kernels.triton import weighted_sum as sum_kernels
from oche.networks.forms import node_states
from oche.networks.operations import DARTS_CANDIDATES
from oche.spaces import nb201
from oche.spaces.edge_variants import PartialEdge
from oche.spaces.mixed_ops import MixedEdge
from oche.training.losses import frozen_statistics
from paths import ROOT
from recorded_graphs import Recorder
from triton_cells import Cell, normal

pytestmark = pytest.mark.slow  # kernels are interpreted

pytest.importorskip("triton", reason="Triton is not installed: pip install triton")


if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip(
        "kernels run in Triton's interpreter here: TRITON_INTERPRET=1, as conftest sets it", allow_module_level=True
    )


D = torch.float64


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Several tiles a map, where maps are small."""
    monkeypatch.setattr(sum_kernels, "TILE", 512)
    monkeypatch.setattr(depthwise_kernels, "CHUNK", 1)


SMALL = ("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3")


@pytest.mark.parametrize(
    "nodes, stride, size, batch, candidates",
    [
        (1, 2, (5, 4), 2, DARTS_CANDIDATES),
        (2, 1, (5, 4), 2, SMALL),
        (2, 2, (4, 6), 1, ("max_pool_3x3", "sep_conv_3x3")),
    ],
)
def test_a_cell_of_the_darts_space(nodes, stride, size, batch, candidates):
    got = Cell(nodes=nodes, stride=stride, size=size, batch=batch, candidates=candidates).check()
    assert all(v.abs().max() > 0 for k, v in got.items() if k.startswith("gradient") and "candidates" in k)


def test_scale_and_shift_and_pools_as_they_are():
    Cell(candidates=SMALL, affine=True, pool_norm=False, scale=True, nodes=1).check()


def test_dead_candidates_and_empty_edges():
    cell = Cell(candidates=DARTS_CANDIDATES, scale=True)
    cell.active = ((1, 3), (), (0,), (4, 6), tuple(range(8)))
    cell.check()


def test_a_node_into_which_nothing_flows():
    cell = Cell(candidates=("none", "max_pool_3x3", "sep_conv_3x3"), stride=2)
    cell.active = ((), (0,), (1, 2), (2,), (1, 2))
    cell.check()


def test_one_candidate_an_edge():
    cell = Cell(candidates=DARTS_CANDIDATES)
    cell.active = ((4,), (7,), (1,), (3,), (5,))
    cell.check()


def test_candidates_that_it_does_not_know():
    Cell(candidates=("none", "skip_connect", "conv_7x1_1x7", "dil_conv_3x3", "nor_conv_3x3"), stride=2).check()


def test_a_cell_of_nas_bench_201():
    cell, space = Cell(nodes=1), nb201(channels=2)
    cell.dag = space.dag
    cell.edges = torch.nn.ModuleList(MixedEdge()(space, Shape.same(2)) for _ in space.dag.edges).to(D)
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


pytest.importorskip("triton", reason="Triton is not installed: pip install triton")


if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip(
        "kernels run in Triton's interpreter here: TRITON_INTERPRET=1, as conftest sets it", allow_module_level=True
    )


@pytest.mark.skipif(sys.platform != "linux", reason="Triton's compiler is that of Linux")
def test_kernels_compile_for_a_gpu():
    script = ROOT / "tests/helpers/compile_kernels.py"
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    done = subprocess.run([sys.executable, script, "quick"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 6
