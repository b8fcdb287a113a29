"""Derivatives of a mixed recurrent cell, against its plain modules."""

import pytest
import torch

from oche.core.architecture import alive_candidates, all_alive
from oche.methods.relaxations import EdgeNormalised, Softmax
from oche.methods.stochastic_relaxations import GumbelHard
from oche.networks.language_model import DropoutMasks
from oche.spaces import recurrent
from oche.training.text_batches import word_loss
from recurrent_networks import both, compare, masks, normal, tokens
from tiny_text import space

T, B, V, H = 4, 3, 6, 5
CLOSE = dict(rtol=1e-11, atol=1e-12)


def mixture(kind, a, dag, alive):
    if kind == "softmax":
        return Softmax()(a, alive, dag, None, 0.0)
    if kind == "edges":
        return EdgeNormalised()(torch.cat([a, a[:, :1]], 1), alive, dag, None, 0.0)
    relax = GumbelHard(evaluate="chosen" if kind == "chosen" else "all")
    return relax(a, alive, dag, relax.noise(dag, 5, torch.Generator().manual_seed(5)).double(), 0.5)


@pytest.mark.parametrize("drop", [True, False])
@pytest.mark.parametrize("kind", ["softmax", "edges", "chosen", "all", "some dead"])
def test_supernets(kind, drop):
    wide = recurrent(nodes=4, width=H, vocabulary=V)
    torch.manual_seed(0)
    net, state = wide.supernet().double(), normal(1, B, H).requires_grad_()
    a, alive = normal(len(wide.dag), 5, seed=3).requires_grad_(), all_alive(wide.dag, 5)
    if kind == "some dead":
        alive[1] = False  # an edge without candidates
        alive[2, 1:4] = False
        alive[:, 3] = False  # a candidate that no edge has
        kind = "softmax"
    assert net.cell.can_fuse(mixture(kind, a, wide.dag, alive))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    statistics = []

    def run(net):
        net.load_state_dict(before)
        mix = mixture(kind, a, wide.dag, alive)
        out = net(tokens(), {"recurrent": mix}, state, masks() if drop else DropoutMasks())
        statistics.append({k: v.clone() for k, v in net.state_dict().items() if "norm" in k})
        return out

    slopes = compare(net, run, [a, state, *net.parameters()])
    assert slopes[0].abs().max() > 1e-6
    plain, fused = statistics
    assert {k.rpartition(".")[2] for k in plain} == {"running_mean", "running_var", "num_batches_tracked"}
    for name in plain:
        torch.testing.assert_close(fused[name], plain[name], **CLOSE)
    assert fused["cell.norm.num_batches_tracked"] == T * 5


def test_statistics_rest_where_they_are_told_to():
    from oche.training.losses import frozen_statistics

    tiny = space()
    net = tiny.supernet()
    net.apply_form("auto")
    mix = Softmax()(torch.zeros(6, 5), all_alive(tiny.dag, 5), tiny.dag, None, 0.0)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with frozen_statistics(net):
        net(tokens(), {"recurrent": mix})
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_evaluation_and_sparse_cells_are_left_to_the_plain_modules():
    tiny = space()
    net = tiny.supernet()
    whole = Softmax()(torch.zeros(6, 5), all_alive(tiny.dag, 5), tiny.dag, None, 0.0)
    assert net.cell.can_fuse(whole) and not net.eval().cell.can_fuse(whole)
    few = torch.zeros(6, 5, dtype=torch.bool)
    few[[0, 1, 3], 1] = True
    sparse = whole._replace(active=alive_candidates(few))
    assert not net.train().cell.can_fuse(sparse)


def test_a_supernet_differentiates_twice():
    """As exact hypergradients and curvature ask."""
    wide = recurrent(nodes=3, width=H, vocabulary=V)
    torch.manual_seed(0)
    net, a = wide.supernet().double(), normal(6, 5, seed=3).requires_grad_()
    found = []
    for form in both(net):
        mix = Softmax()(a, all_alive(wide.dag, 5), wide.dag, None, 0.0)
        loss = word_loss(form(tokens(), {"recurrent": mix}, None, masks()), tokens())
        slope = torch.autograd.grad(loss, [a, *net.parameters()], create_graph=True)
        found.append(torch.autograd.grad(sum(s.pow(2).sum() for s in slope), [a, *net.parameters()]))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-12)
