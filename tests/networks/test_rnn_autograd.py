"""The unrolled form of recurrent cells against the plain modules in float64: values, gradients, second derivatives,
running statistics; and whole searches and trainings in both forms."""

from dataclasses import replace

import pytest
import torch

from oche.bilevel.search import search
from oche.core.architecture import alive_candidates, all_alive
from oche.cost import flops
from oche.devices.engine import Engine
from oche.methods import published as methods
from oche.methods.relaxations import EdgeNormalised, Softmax
from oche.methods.stochastic_relaxations import GumbelHard
from oche.networks.language_model import DropoutMasks
from oche.networks.lstm import LSTMNetwork
from oche.spaces import recurrent
from oche.spaces.darts_rnn import RecurrentNetwork
from oche.training.text_batches import word_loss
from tiny import Kept
from tiny_text import corpus, space

T, B, V, H = 4, 3, 6, 5
CLOSE = dict(rtol=1e-11, atol=1e-12)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def masks(seed=0):
    g = torch.Generator().manual_seed(seed)
    return DropoutMasks(
        *(torch.rand(V if n == "words" else (B, H), generator=g).double() + 0.5 for n in DropoutMasks._fields)
    )


def both(net):
    """``net`` in its plain and in its fused form, with the same weights."""
    assert net.apply_form("plain") == "as plain modules, as asked" and not net.cell.fused
    yield net
    assert net.apply_form("auto").startswith("fused") and net.cell.fused
    yield net


def tokens():
    return torch.randint(V, (T, B), generator=torch.Generator().manual_seed(1))


def compare(net, run, leaves, **close):
    """Outputs and gradients of ``run(net)`` in both forms."""
    found = []
    for form in both(net):
        out = run(form)
        probe = normal(*out.raw.shape, seed=2)
        scalar = (out.raw * probe).sum() + word_loss(out, tokens()) + out.hidden.square().sum()
        found.append((out, torch.autograd.grad(scalar, leaves, allow_unused=True, materialize_grads=True)))
    (plain, slopes), (fused, fast) = found
    for one, other in ((plain.raw, fused.raw), (plain.logits, fused.logits)):
        torch.testing.assert_close(other, one, **{**CLOSE, **close})
    for one, other in zip(slopes, fast, strict=True):
        torch.testing.assert_close(other, one, **{**CLOSE, **close})
    return slopes


# --- found cells


@pytest.mark.parametrize("drop", [True, False])
@pytest.mark.parametrize("name", ["DARTS_RNN_V1", "DARTS_RNN_V2", "ENAS_RNN"])
def test_found_cells(name, drop):
    torch.manual_seed(0)
    net, state = RecurrentNetwork(name, V, H).double(), normal(1, B, H).requires_grad_()
    m = masks() if drop else DropoutMasks()
    slopes = compare(net, lambda net: net(tokens(), state, m), [state, *net.parameters()])
    assert all(s.abs().max() > 0 for s in slopes)


def test_a_found_cell_differentiates_twice():
    torch.manual_seed(0)
    net = RecurrentNetwork("DARTS_RNN_V2", V, H).double()
    found = []
    for form in both(net):
        loss = word_loss(form(tokens(), None, masks()), tokens())
        slope = torch.autograd.grad(loss, [*net.parameters()], create_graph=True)
        found.append(torch.autograd.grad(sum(s.pow(2).sum() for s in slope), [*net.parameters()]))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, **CLOSE)


def test_a_found_cell_costs_the_same():
    net = RecurrentNetwork("DARTS_RNN_V2", V, H)
    one, other = [flops(form, lambda form=form: form(tokens())) for form in both(net)]
    assert one == other == 2 * T * B * (2 * H * 2 * H + 8 * H * 2 * H + H * V)


def test_a_network_with_one_form_says_nothing():
    assert LSTMNetwork(V, H).apply_form("auto") == ""


# --- supernets


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


@pytest.mark.parametrize("name", ["darts-2nd", "gdas", "exact", "robust-darts", "sgas-1"])
def test_searches_are_the_same_in_both_forms(name):
    made = replace(space().suited(methods.METHODS[name].make()), batch=4, steps=5, warmup=0.0)
    made = replace(
        made,
        batch_growth=min(1, made.method.batch_growth),
        weight_optimizer=replace(made.method.weight_optimizer, lr=0.5, lr_min=0.5),
    )
    found = []
    for engine in ("plain", "fused"):
        session = Kept()
        task, _ = search(
            space(), made, corpus(), seed=0, engine=Engine("cpu", dtype=torch.float64, fused=engine), session=session
        )
        found.append((task, session.history))
    (plain, history), (fused, quick) = found
    assert plain.computes != fused.computes
    for one, other in zip(plain.weights + plain.logits, fused.weights + fused.logits, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-7, atol=1e-9)
    assert quick[-1]["val_loss"] == pytest.approx(history[-1]["val_loss"], rel=1e-9)
    if name == "robust-darts":
        assert quick[-1]["eigenvalue"] == pytest.approx(history[-1]["eigenvalue"], rel=1e-5)
