"""Replayed steps of searches on images against eager ones, bit for bit, by a stand-in for CUDA graphs
(helpers/recorded_graphs.py).
"""

import copy
from dataclasses import replace

import pytest
import torch

from oche.bilevel.cuda_graph_obstacles import DeviceMask
from oche.bilevel.cuda_graph_replay import replay
from oche.devices.engine import Engine
from oche.kernels.cuda_graphs import WARM_UP_STEPS, capturable
from oche.methods.hypergradients import FiniteDifference, Neumann, exact, joint
from oche.methods.recipe import SearchRecipe
from oche.methods.regularizers import BetaDecay, Cost, ZeroOne
from oche.methods.relaxations import EdgeNormalised, NodeSoftmax, Sigmoid, Softmax
from oche.methods.stochastic_relaxations import Concrete, GumbelHard
from oche.spaces.edge_variants import PartialEdge
from recorded_graphs import Plain, Tape
from replayed_searches import CHANGES, STEPS, Crossing, W, differing, make, run, silent, state

pytestmark = pytest.mark.slow  # whole searches

METHODS = {
    "first order": SearchRecipe(),
    "second order": SearchRecipe(hypergrad=FiniteDifference()),
    "exact": SearchRecipe(hypergrad=exact),
    "neumann": SearchRecipe(hypergrad=Neumann(2)),
    "one level, node softmax": SearchRecipe(hypergrad=joint, relax=NodeSoftmax()),
    "noise, temperature": SearchRecipe(relax=Concrete((1.0, 0.1)), hypergrad=FiniteDifference()),
    "all candidates of a hard choice": SearchRecipe(relax=GumbelHard((5.0, 0.1), "all")),
    "partial channels": SearchRecipe(relax=EdgeNormalised(), edge=PartialEdge(2), hypergrad=FiniteDifference()),
    "penalty that grows": SearchRecipe(penalty=BetaDecay() + Cost((0.0, 1.0, 2.0, 3.0), 0.1)),
    "sigmoid, zero-one": SearchRecipe(relax=Sigmoid(), penalty=ZeroOne()),
    "no clipping, no momentum": SearchRecipe(weight_optimizer=replace(W, clip=0, momentum=0.0)),
}
SINGLE = "noise, temperature"  # in float32


@pytest.mark.parametrize("name, dtype", [*((name, torch.float64) for name in METHODS), (SINGLE, torch.float32)])
def test_replayed_steps_are_the_eager_ones(name, dtype):
    engine = Engine("cpu", dtype=dtype, fused="plain")
    stock, plain, taped = (make(METHODS[name], engine) for _ in range(3))
    tape = Tape()
    assert replay(plain, silent, Plain()) and replay(taped, silent, tape)
    for task in (stock, plain, taped):
        run(task)
    assert (tape.recorded, tape.warmed, tape.replayed) == (1, WARM_UP_STEPS, STEPS - WARM_UP_STEPS)
    assert not differing(state(plain), state(taped))
    # Torch's fused optimisers round in another order than its plain ones.
    assert not differing(state(stock), state(taped), 1e-10 if dtype is torch.float64 else 2e-3)


def test_a_number_of_the_host_would_be_stale():
    """What makes the test above one: the tape repeats Python's numbers as they were when it was recorded."""
    out, scale = torch.zeros(2), [1.0]
    repeat = Tape().record(lambda: out.add_(scale[0]))
    assert out.tolist() == [0, 0]
    scale[0] = 5.0
    repeat()
    assert out.tolist() == [1, 1]


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_the_kernels_makes_a_new_graph(change):
    plain, taped = (make(replace(METHODS[SINGLE], **CHANGES[change])) for _ in range(2))
    tape = Tape()
    assert replay(plain, silent, Plain()) and replay(taped, silent, tape)
    for task in (plain, taped):
        run(task, range(8), narrow={4: change})
    assert (tape.recorded, tape.warmed) == (2, 2 * WARM_UP_STEPS)
    assert not differing(state(plain), state(taped))


def test_masks_made_anew_with_the_same_values_keep_the_graph():
    taped, tape = make(SearchRecipe()), Tape()
    replay(taped, silent, tape)
    run(taped, narrow={4: lambda task: task._narrow({n: m.clone() for n, m in task.alive.items()})})
    assert tape.recorded == 1


def test_checkpoints_do_not_tell_the_difference():
    """A run goes on eagerly from a replayed one's state; settings of the optimisers are numbers and as they were."""
    stock, taped = make(SearchRecipe()), make(SearchRecipe())
    replay(taped, silent, Tape())
    run(taped, range(4))
    for opt in ("w_opt", "a_opt"):
        ours, theirs = (task.state()[opt]["param_groups"] for task in (taped, stock))
        for one, other in zip(ours, theirs, strict=True):
            assert all(one[k] == other[k] for k in one.keys() - {"lr", "simplices"}) and one.keys() == other.keys()
        assert all(isinstance(g["lr"], float) for g in ours)
    stock.load(copy.deepcopy(taped.state()))
    for name, meter in taped.meters.items():
        stock.meters[name].sums.copy_(meter.sums)
    for task in (stock, taped):
        run(task, range(4, STEPS))
    assert not differing(state(taped), state(stock), 1e-10)


def test_state_is_laid_out_as_the_weights_are():
    weight = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last).requires_grad_()
    twin = weight.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    steps, momentum = [torch.optim.SGD([w], lr=0.1, momentum=0.9) for w in (weight, twin)], torch.randn(4, 3, 2, 2)
    for opt, w in zip(steps, (weight, twin), strict=True):
        opt.state[w]["momentum_buffer"] = momentum.clone()  # contiguous, as a file gives it back
        w.grad = torch.ones_like(w)
    steps[0].step()
    with capturable(steps[1]):
        steps[1].step()
    assert torch.allclose(weight, twin, rtol=1e-6)


class Asking(Softmax):
    """A user's relaxation that asks for a number."""

    def __call__(self, a, alive, dag, noise, progress):
        mix = super().__call__(a, alive, dag, noise, progress)
        return mix._replace(ops=mix.ops * (1.0 if float(a.detach().sum()) > -1e9 else 0.0))


def test_a_failed_recording_goes_on_eagerly_without_losing_a_step():
    stock, taped, said = make(SearchRecipe(relax=Asking())), make(SearchRecipe(relax=Asking())), []
    assert replay(taped, said.append, Tape())
    run(stock)
    run(taped)
    assert len(said) == 1 and "recording a step failed (operation not permitted" in said[0] and "\n" not in said[0]
    assert not differing(state(stock), state(taped), 1e-10)


@pytest.mark.parametrize(
    "relax", [Softmax(), NodeSoftmax(), Sigmoid(), EdgeNormalised(), Concrete(), GumbelHard(evaluate="all")]
)
def test_mixtures_of_placed_masks_stay_on_the_device(relax):
    task = make(SearchRecipe(relax=relax))
    dag, meta = task.groups["normal"], torch.device("meta")
    mask = task.alive["normal"].clone()
    mask[1, 2] = False
    placed = DeviceMask.of(mask, meta)
    a, progress = torch.empty_like(task.logits[0], device=meta), torch.empty((), dtype=torch.float64, device=meta)
    noise = relax.noise(dag, 4, torch.Generator())
    noise = None if noise is None else noise.to(meta)
    with Crossing():
        mix = relax(a, placed, dag, noise, progress)
    assert mix.ops.device == meta and type(mix.ops) is torch.Tensor
    assert mix.active[1] == (0, 1, 3) and mix.active[0] == (0, 1, 2, 3)
