"""The relaxations beyond the softmax against their formulas, in float64."""

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammainc, gammaincinv
from torch import nn

from oche.core.architecture import Dag, DeviceChoice, PathDag, all_alive
from oche.core.config.command_line import read_options
from oche.core.config.serialize import from_dict, to_dict
from oche.core.errors import OcheError
from oche.methods.hypergradients import FiniteDifference, SgdStep, exact, first_order
from oche.methods.relaxations import EdgeNormalised, NodeSoftmax, Relaxation, Sigmoid, Softmax
from oche.methods.stochastic_relaxations import Concrete, Dirichlet, GumbelHard, TwoPaths, UniformPath, concentration
from oche.spaces import darts
from small_searches import RELAXATIONS

DAG = Dag(nodes=3)  # 2 + 3 + 4 edges
CLOSE = dict(rtol=1e-12, atol=1e-15)
every = pytest.mark.parametrize("relax", RELAXATIONS, ids=repr)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def normal(shape, seed):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def mask(shape, seed, share=0.7):
    return torch.rand(shape, generator=seeded(seed)) < share


def logits_for(relax, candidates=4, seed=0, scale=1.0, dag=DAG):
    return relax.init(dag, candidates, scale, seeded(seed)).double()


# --- what holds for all of them ---------------------------------------------------------------------------------------


@every
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.booleans())
def test_the_dead_weigh_nothing_and_get_no_gradient(relax, seed, share, progress, quiet):
    alive = mask((len(DAG), 4), seed, share)
    a = logits_for(relax, seed=seed, scale=2.0).requires_grad_()
    noise = None if quiet else relax.noise(DAG, 4, seeded(seed + 1))
    mix = relax(a, alive, DAG, noise, progress)
    assert mix.ops.shape == alive.shape and (mix.ops[~alive] == 0).all()
    assert mix.ops.isfinite().all() and (mix.ops >= 0).all() and (mix.ops <= 1 + 1e-12).all()
    assert all(set(on) <= {o for o in range(4) if alive[e, o]} for e, on in enumerate(mix.active))
    strength = mix.strength()
    (gradient,) = torch.autograd.grad((strength * normal(strength.shape, seed)).sum(), a)
    assert gradient.isfinite().all() and (gradient[:, :4][~alive] == 0).all()
    if mix.edges is not None:
        assert (mix.edges[~alive.any(1)] == 0).all() and (gradient[:, 4][~alive.any(1)] == 0).all()


@every
def test_equal_arguments_give_equal_mixtures_in_the_precision_of_the_logits(relax):
    a, alive = logits_for(relax).float(), mask((len(DAG), 4), 3)
    noise, other = (relax.noise(DAG, 4, seeded(seed)) for seed in (1, 2))
    before = a.clone()
    one, two = (relax(a, alive, DAG, noise, 0.5) for _ in range(2))
    assert torch.equal(one.ops, two.ops) and one.active == two.active and torch.equal(a, before)
    assert one.ops.dtype is torch.float32
    if noise is not None:
        same = relax.noise(DAG, 4, seeded(1))
        assert torch.equal(noise, same) and not torch.equal(noise, other)
        assert not torch.equal(relax(a, all_alive(DAG, 4), DAG, noise, 0.0).ops,
                               relax(a, all_alive(DAG, 4), DAG, other, 0.0).ops)  # fmt: skip


@every
def test_without_noise_every_living_candidate_is_active(relax):
    alive = mask((len(DAG), 4), 5)
    mix = relax(logits_for(relax), alive, DAG, None, 0.3)
    assert mix.active == tuple(tuple(o for o in range(4) if alive[e, o]) for e in range(len(DAG)))


@every
def test_on_its_simplices_the_noise_free_weights_sum_to_one(relax):
    alive = mask((len(DAG), 4), 6)
    alive[4] = False
    a = logits_for(relax, seed=3)
    mix, simplices = relax(a, alive, DAG, None, 0.0), relax.simplices(alive, DAG)
    if simplices is None:
        assert "Sigmoid" in repr(relax) or isinstance(relax, Dirichlet)
        return
    assert simplices.shape == a.shape and simplices.dtype is torch.int64
    weights = mix.ops if mix.edges is None else torch.cat([mix.ops, mix.edges[:, None]], 1)
    assert (weights[simplices < 0] == 0).all() and (weights[simplices >= 0] > 0).all()
    for number in simplices[simplices >= 0].unique():
        members = simplices == number
        torch.testing.assert_close(weights[members], a[members].softmax(0), **CLOSE)


@pytest.mark.parametrize("relax", [*RELAXATIONS, UniformPath()], ids=repr)
def test_logits_may_lie_elsewhere_than_masks(relax):
    """The device "meta" computes nothing, but refuses to mix devices as a GPU does."""
    a, alive = logits_for(relax).to("meta"), mask((len(DAG), 4), 5)
    mix = relax(a, alive, DAG, None, 0.3)
    assert mix.ops.device == a.device and (mix.edges is None or mix.edges.device == a.device)


@pytest.mark.parametrize("relax", [Concrete(), GumbelHard(evaluate="all")], ids=repr)
def test_noise_lies_where_the_logits_do(relax):
    a, noise = logits_for(relax).to("meta"), relax.noise(DAG, 4, seeded(1)).to("meta")
    assert relax(a, mask((len(DAG), 4), 5), DAG, noise, 0.3).ops.device == a.device


@dataclass(frozen=True)
class Holder:
    relax: Relaxation = Softmax()


@every
def test_configurations_hold_them(relax):
    tree = to_dict(Holder(relax))
    assert from_dict(Holder(), tree) == Holder(relax)


@pytest.mark.parametrize(
    ("words", "want"),
    [
        ("--relax GumbelHard --relax.tau 5 0.5 --relax.evaluate all", GumbelHard((5.0, 0.5), "all")),
        ("--relax EdgeNormalised --relax.ops Concrete", EdgeNormalised(Concrete())),
        ("--relax EdgeNormalised --relax.ops Dirichlet", EdgeNormalised(Dirichlet())),
        ("--relax NodeSoftmax", NodeSoftmax()),
    ],
)
def test_command_lines_name_them(words, want):
    tree = read_options(Holder(), words.split(), "oche search")
    assert from_dict(Holder(), tree, None) == Holder(want)


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: GumbelHard(tau=(10.0, 0.0)), r"tau=\(10.0, 0.0\).* both > 0"),
        (lambda: Concrete(tau=(-1.0, 1.0)), r"tau=\(-1.0, 1.0\)"),
        (lambda: Concrete(tau=(math.inf, 1.0)), r"tau=\(inf, 1.0\)"),
        (lambda: Concrete(tau=(1.0, math.nan)), r"tau=\(1.0, nan\)"),
        (lambda: EdgeNormalised(NodeSoftmax()), r"NodeSoftmax.* weigh edges twice.* use ops=Softmax"),
        (lambda: EdgeNormalised(EdgeNormalised()), r"weigh edges twice"),
    ],
)
def test_impossible_settings_are_refused(make, found):
    with pytest.raises(OcheError, match=found):
        make()


# --- deterministic ones -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_node_softmax_is_one_softmax_over_all_that_enters_a_node(seed):
    a, alive = normal((len(DAG), 4), seed), mask((len(DAG), 4), seed, [1.0, 0.7, 0.4, 0.1][seed])
    ops = NodeSoftmax()(a, alive, DAG, None, 0.0).ops
    for node in (2, 3, 4):
        pairs = [(e, o) for e, (_, j) in enumerate(DAG.edges) if j == node for o in range(4) if alive[e, o]]
        total = sum(math.exp(a[pair]) for pair in pairs)
        for pair in pairs:
            assert ops[pair].item() == pytest.approx(math.exp(a[pair]) / total, rel=1e-12)
        assert sum(ops[pair].item() for pair in pairs) == pytest.approx(1.0 if pairs else 0.0, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_edge_normalised_is_two_softmaxes(seed):
    a, alive = normal((len(DAG), 5), seed), mask((len(DAG), 4), seed, [1.0, 0.6, 0.2][seed])
    mix = EdgeNormalised()(a, alive, DAG, None, 0.0)
    for e, (_, node) in enumerate(DAG.edges):
        row = [math.exp(a[e, o]) if alive[e, o] else 0.0 for o in range(4)]
        rivals = [i for i, (_, j) in enumerate(DAG.edges) if j == node and alive[i].any()]
        edge = math.exp(a[e, 4]) / sum(math.exp(a[i, 4]) for i in rivals) if e in rivals else 0.0
        want = [r / sum(row) if sum(row) else 0.0 for r in row]
        assert mix.ops[e].tolist() == pytest.approx(want, rel=1e-12)
        assert mix.edges[e].item() == pytest.approx(edge, rel=1e-12)
        assert mix.strength()[e].tolist() == pytest.approx([w * edge for w in want], rel=1e-12)


def test_edge_normalised_starts_with_a_column_for_the_edges():
    a = EdgeNormalised().init(DAG, 4, 1e-3, seeded(1))
    assert a.shape == (len(DAG), 5) and (a != 0).all()
    assert torch.equal(a[:, :4], Softmax().init(DAG, 4, 1e-3, seeded(1)))
    noise = EdgeNormalised(GumbelHard()).noise(DAG, 4, seeded(2))
    assert torch.equal(noise, GumbelHard().noise(DAG, 4, seeded(2)))


def test_sigmoid():
    a, alive = normal((len(DAG), 4), 1), mask((len(DAG), 4), 1)
    ops = Sigmoid()(a, alive, DAG, None, 0.0).ops
    want = [[1 / (1 + math.exp(-x)) if on else 0.0 for x, on in zip(*pair, strict=True)]
            for pair in zip(a.tolist(), alive.tolist(), strict=True)]  # fmt: skip
    torch.testing.assert_close(ops, torch.tensor(want, dtype=torch.float64), **CLOSE)


@pytest.mark.parametrize("relax", [NodeSoftmax(), Sigmoid(), EdgeNormalised(), Concrete(), Dirichlet()], ids=repr)
def test_gradients_by_finite_differences(relax):
    alive = mask((len(DAG), 3), 2)
    noise = None if isinstance(relax, Dirichlet) else relax.noise(DAG, 3, seeded(4))
    a = logits_for(relax, 3, seed=5).requires_grad_()

    def weights(a):
        mix = relax(a, alive, DAG, noise, 0.0)
        return mix.ops if mix.edges is None else (mix.ops, mix.edges)

    assert torch.autograd.gradcheck(weights, a)


# --- Gumbel noise -----------------------------------------------------------------------------------------------------

WIDE = Dag(nodes=60)  # 1,890 edges: as many draws at once


def test_gumbel_noise_has_the_right_moments_and_argmax_frequencies():
    noise = Concrete().noise(WIDE, 8, seeded(0)).double()
    n = noise.numel()
    assert noise.isfinite().all()
    sigma = math.pi / math.sqrt(6)
    assert noise.mean().item() == pytest.approx(0.5772156649, abs=4 * sigma / math.sqrt(n))
    assert noise.var().item() == pytest.approx(sigma**2, rel=4 * math.sqrt(4.4 / n))  # kurtosis 5.4
    row = torch.tensor([0.5, -1.0, 0.0, 1.5, -0.3, 0.2, -2.0, 0.7])
    drawn = GumbelHard()(row.expand(len(WIDE), 8), all_alive(WIDE, 8), WIDE, noise.float(), 0.5).ops
    assert ((drawn == 0) | (drawn == 1)).all()  # no rounding of 1 - p + p
    chosen, p = drawn.mean(0), row.softmax(0)  # the Gumbel-max trick
    assert ((chosen - p).abs() < 4 * (p * (1 - p) / len(WIDE)).sqrt()).all()


@pytest.mark.parametrize(("progress", "tau"), [(0.0, 1.0), (0.5, 0.515), (1.0, 0.03)])
def test_concrete_is_the_softmax_of_perturbed_log_probabilities(progress, tau):
    a, alive = normal((len(DAG), 4), 7), mask((len(DAG), 4), 7)
    noise = Concrete().noise(DAG, 4, seeded(8))
    mix = Concrete()(a, alive, DAG, noise, progress)
    for e in range(len(DAG)):
        on = [o for o in range(4) if alive[e, o]]
        total = sum(math.exp(a[e, o]) for o in on)
        scores = {o: (math.log(math.exp(a[e, o]) / total) + noise[e, o].item()) / tau for o in on}
        powers = {o: math.exp(s - max(scores.values())) for o, s in scores.items()}
        for o in on:
            assert mix.ops[e, o].item() == pytest.approx(powers[o] / sum(powers.values()), rel=1e-9)
        assert mix.active[e] == tuple(on)


@pytest.mark.parametrize("evaluate", ["chosen", "all"])
def test_gumbel_hard_is_exactly_one_hot_at_the_argmax(evaluate):
    relax, alive = GumbelHard(evaluate=evaluate), mask((len(DAG), 4), 9)
    alive[3] = False
    a, noise = logits_for(relax).float(), relax.noise(DAG, 4, seeded(10))
    mix = relax(a, alive, DAG, noise, 0.9)
    for e in range(len(DAG)):
        on = [o for o in range(4) if alive[e, o]]
        best = max(on, key=lambda o: (a + noise)[e, o].item()) if on else None
        assert mix.ops[e].tolist() == [float(o == best) for o in range(4)]
        assert mix.active[e] == (tuple(on) if evaluate == "all" else () if best is None else (best,))


def test_what_is_chosen_is_a_sequence_of_candidates_by_edge():
    choice, alive = torch.tensor([2, 0, 1]), torch.tensor([[True, True, True], [False] * 3, [True, True, False]])
    found = DeviceChoice(choice, alive)
    assert found == ((2,), (), (1,)) == found and list(found) == [(2,), (), (1,)] and len(found) == 3
    same, other = (
        DeviceChoice(choice.clone(), all_alive(Dag(nodes=1, inputs=3), 3)),
        DeviceChoice(choice.roll(1), alive),
    )
    assert (
        found == DeviceChoice(choice.clone(), alive)
        and found != other
        and found != same
        and found != ((2,), (0,), (1,))
    )
    assert hash(found) == hash(((2,), (), (1,))) != hash(other)


def quadratic(mix, outputs):
    """A loss of what the active candidates put out, each a number, and its derivative by every weight."""
    nodes = torch.stack([sum((mix.ops[e, o] * outputs[e, o] for o in on), torch.zeros(())) for e, on in
                         enumerate(mix.active)])  # fmt: skip
    return (nodes**2).sum() + nodes.prod()


@pytest.mark.parametrize("progress", [0.0, 0.6, 1.0])
def test_gumbel_hard_gradients_are_the_straight_through_formula_of_their_form(progress):
    dag, a, outputs = Dag(nodes=2), normal((5, 3), 1).requires_grad_(), normal((5, 3), 2)
    noise, tau = GumbelHard().noise(dag, 3, seeded(3)), 10.0 + (0.1 - 10.0) * progress
    got = {}
    for evaluate in ("chosen", "all"):
        mix = GumbelHard(evaluate=evaluate)(a, all_alive(dag, 3), dag, noise, progress)
        loss = quadratic(mix, outputs)
        (got[evaluate],) = torch.autograd.grad(loss, a)
    scores = [[(a[e, o].item() + noise[e, o].item()) / tau for o in range(3)] for e in range(5)]
    chosen = [max(range(3), key=row.__getitem__) for row in scores]
    through = [outputs[e, c].item() for e, c in enumerate(chosen)]
    for e in range(5):
        powers = [math.exp(s - max(scores[e])) for s in scores[e]]
        p = [x / sum(powers) for x in powers]
        upstream = 2 * through[e] + math.prod(t for i, t in enumerate(through) if i != e)
        g, c = [upstream * outputs[e, o].item() for o in range(3)], chosen[e]
        mean = sum(x * y for x, y in zip(p, g, strict=True))
        for i in range(3):
            skipping = g[c] * p[c] * ((i == c) - p[i]) / tau
            assert got["chosen"][e, i].item() == pytest.approx(skipping, rel=1e-9, abs=1e-12)
            assert got["all"][e, i].item() == pytest.approx(p[i] * (g[i] - mean) / tau, rel=1e-9, abs=1e-12)
    assert (got["chosen"] - got["all"]).abs().max() > 1e-3 * got["all"].abs().max()


@pytest.mark.parametrize("evaluate", ["chosen", "all"])
def test_gdas_runs_exactly_one_candidate_an_edge_in_a_supernet(evaluate):
    names = ("skip_connect", "max_pool_3x3", "sep_conv_3x3")
    space = darts(channels=4, cells=1, nodes=2, image=(8, 8), candidates=names)
    net, relax = space.supernet(), GumbelHard(evaluate=evaluate)
    calls = torch.zeros(5, 3, dtype=torch.int64)

    def counter(e, o):
        def count(*_):
            calls[e, o] += 1

        return count

    for e, edge in enumerate(net.cells[0].edges):
        for o, candidate in enumerate(edge.candidates):
            candidate.register_forward_hook(counter(e, o))
    mixes = {
        name: relax(logits_for(relax, 3, dag=dag).float(), all_alive(dag, 3), dag, relax.noise(dag, 3, seeded(1)), 0.0)
        for name, dag in space.groups.items()
    }
    net(torch.zeros(2, 3, 8, 8), mixes)
    want = mixes[net.cells[0].kind].ops.long() if evaluate == "chosen" else torch.ones_like(calls)
    assert torch.equal(calls, want) and want.sum() == (5 if evaluate == "chosen" else 15)


# --- Dirichlet --------------------------------------------------------------------------------------------------------


def test_concentration_is_elu_plus_one():
    a = torch.linspace(-8, 8, 101, dtype=torch.float64)
    torch.testing.assert_close(concentration(a), nn.functional.elu(a) + 1, rtol=1e-10, atol=0)
    assert (concentration(torch.tensor([-80.0])) > 0).all()  # elu + 1 is 0 there in single precision


def test_dirichlet_without_noise_is_the_mean():
    a, alive = normal((len(DAG), 4), 1), mask((len(DAG), 4), 1)
    ops = Dirichlet()(a, alive, DAG, None, 0.0).ops
    for e in range(len(DAG)):
        c = [(x + 1 if x > 0 else math.exp(x)) if on else 0.0 for x, on in zip(a[e].tolist(), alive[e], strict=True)]
        assert ops[e].tolist() == pytest.approx([x / sum(c) if sum(c) else 0.0 for x in c], rel=1e-12)


def samples(row, alive_row, seed=0):
    """Many rows of weights drawn with the same logits, and the logits they depend on."""
    a = torch.tensor(row, dtype=torch.float64).repeat(len(WIDE), 1).requires_grad_()
    alive = torch.tensor(alive_row).repeat(len(WIDE), 1)
    return Dirichlet()(a, alive, WIDE, torch.tensor(seed), 0.0).ops, a


def test_dirichlet_samples_have_the_moments_of_the_living_sub_vector():
    row, on = [0.4, -1.0, 3.0, -0.2], [True, True, False, True]
    ops, _ = samples(row, on)
    c = torch.where(torch.tensor(on), concentration(torch.tensor(row, dtype=torch.float64)), 0.0)
    mean, total, n = c / c.sum(), c.sum(), len(WIDE)
    variance = mean * (1 - mean) / (total + 1)
    torch.testing.assert_close(ops.sum(1), torch.ones(n, dtype=torch.float64), **CLOSE)
    assert (ops[:, 2] == 0).all()
    assert ((ops.mean(0) - mean).abs() <= 4 * (variance / n).sqrt()).all()
    assert ops.var(0).tolist() == pytest.approx(variance.tolist(), rel=0.15)


def test_dirichlet_gradients_are_derivatives_at_fixed_quantiles():
    a, alive, noise = normal((5, 4), 3), mask((5, 4), 1), torch.tensor(11)
    dag, cotangent = Dag(nodes=2), normal((5, 4), 4)
    leaf = a.clone().requires_grad_()
    ops = Dirichlet()(leaf, alive, dag, noise, 0.0).ops
    (got,) = torch.autograd.grad((ops * cotangent).sum(), leaf)
    c = concentration(a).masked_fill(~alive, 1).numpy()
    draws = torch._standard_gamma(torch.from_numpy(c), torch.Generator().manual_seed(11)).numpy()
    quantiles = gammainc(c, draws)

    def at(a):
        parts = torch.from_numpy(gammaincinv(concentration(a).masked_fill(~alive, 1).numpy(), quantiles)) * alive
        return parts / parts.sum(1, keepdim=True).clamp_min(1e-300)

    torch.testing.assert_close(at(a), ops.detach(), rtol=1e-9, atol=1e-12)
    want, step = torch.zeros_like(a), 1e-5
    for e in range(5):
        for o in range(4):
            shift = torch.zeros_like(a)
            shift[e, o] = step
            want[e, o] = ((at(a + shift) - at(a - shift)) * cotangent).sum() / (2 * step)
    assert alive.sum() > 10 and want.abs().max() > 0.1
    torch.testing.assert_close(got, want, rtol=2e-3, atol=2e-4)  # torch's own series is good to 5e-4


def test_dirichlet_gradients_are_right_on_average():
    row = [0.4, -1.0, -0.2]
    ops, a = samples(row, [True] * 3, seed=5)
    price = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    (each,) = torch.autograd.grad((ops**2 @ price).sum(), a)
    logits = torch.tensor(row, dtype=torch.float64, requires_grad=True)
    c = concentration(logits)
    expected = (price * c * (c + 1)).sum() / (c.sum() * (c.sum() + 1))  # of sum of price · w²
    (want,) = torch.autograd.grad(expected, logits)
    assert ((each.mean(0) - want).abs() < 4 * each.std(0) / math.sqrt(len(WIDE))).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [-300.0, -60.0, -10.0, -5.0, 50.0])
def test_dirichlet_stays_finite_at_extreme_logits(value, dtype):
    a = torch.full((len(DAG), 4), value, dtype=dtype, requires_grad=True)
    for noise in (None, torch.tensor(1)):
        ops = Dirichlet()(a, all_alive(DAG, 4), DAG, noise, 0.0).ops
        (gradient,) = torch.autograd.grad((ops * normal(ops.shape, 1).to(dtype)).sum(), a)
        assert ops.isfinite().all() and gradient.isfinite().all()
        torch.testing.assert_close(ops.sum(1), torch.ones(len(DAG), dtype=dtype))


# --- noise and hypergradients -----------------------------------------------------------------------------------------


def problem(relax, draw):
    """Losses of a small smooth network whose mixture is drawn by ``draw``, called once an evaluation."""
    dag, hidden = Dag(nodes=2), 3
    x, target = normal((6, hidden), 1), normal((6, hidden), 2)
    w = tuple(0.7 * normal((hidden, hidden), 10 + i) for i in range(len(dag) * 3))
    alive = all_alive(dag, 3)

    def forward(w, a, x):
        mix = relax(a[0], alive, dag, draw(), 0.7)
        states = [x, x.tanh()]
        for incoming in dag.incoming:
            terms = [mix.ops[e, o] * torch.tanh(states[dag.edges[e][0]] @ w[3 * e + o]) for e in incoming
                     for o in mix.active[e]]  # fmt: skip
            states.append(sum(terms, torch.zeros_like(x)))
        return states[-1]

    def inner(w, a):
        return ((forward(w, a, x) - target) ** 2).mean()

    def outer(w, a):
        return ((forward(w, a, x.flip(0)) - target) ** 2).mean()

    return inner, outer, w, (logits_for(relax, 3, seed=20, scale=0.5, dag=dag),), dag


NOISY = [GumbelHard((1.0, 0.5)), GumbelHard((1.0, 0.5), "all"), Concrete((1.0, 0.5)), Dirichlet()]


@pytest.mark.parametrize("relax", NOISY, ids=repr)
def test_finite_differences_agree_with_exact_because_evaluations_share_noise(relax):
    *_, dag = problem(relax, None)
    fixed = relax.noise(dag, 3, seeded(30))
    inner, outer, w, a, _ = problem(relax, lambda: fixed)
    step = SgdStep(0.5, momentum=0.9, decay=3e-4)
    flat = lambda gradients: torch.cat([g.flatten() for g in gradients])  # noqa: E731
    want, got = (flat(kind(inner, outer, w, a, step)) for kind in (exact, FiniteDifference()))
    assert (got - want).norm() < 1e-3 * want.norm()
    assert (
        flat(first_order(inner, outer, w, a, step)) - want
    ).norm() > 0.3 * want.norm()  # what is approximated matters

    source = seeded(31)
    drawn = problem(relax, lambda: relax.noise(dag, 3, source))
    loose = flat(FiniteDifference()(*drawn[:4], step))
    assert (loose - want).norm() > 10 * want.norm()


def test_edge_logits_are_drawn_after_those_of_the_candidates():
    relax = EdgeNormalised()
    found, g = relax.init(DAG, 4, 0.3, seeded(5)), seeded(5)
    assert torch.equal(found[:, :4], Softmax().init(DAG, 4, 0.3, g))
    assert torch.equal(found[:, 4:], 0.3 * torch.randn(len(DAG), 1, generator=g))


@dataclass(frozen=True)
class Asking(Softmax):
    """A softmax that must be told of the graph, as one of a user's own may."""

    def __call__(self, a, alive, dag, noise, progress):
        assert dag is DAG and progress == 0.25
        return super().__call__(a, alive, dag, noise, progress)

    def simplices(self, alive, dag):
        assert dag is DAG
        return super().simplices(alive, dag)


def test_candidates_within_normalised_edges_are_told_all_that_there_is():
    alive, relax = all_alive(DAG, 4), EdgeNormalised(Asking())
    relax(normal((len(DAG), 5), 1), alive, DAG, None, 0.25)
    assert relax.simplices(alive, DAG) is not None


def test_seeds_of_dirichlet_samples_are_of_62_bits():
    seeds = [int(Dirichlet().noise(DAG, 4, seeded(i))) for i in range(200)]
    assert len({*seeds}) == 200 and 0.4 < sum(seeds) / 200 / 2**62 < 0.6 and max(seeds) < 2**62


# --- two paths --------------------------------------------------------------------------------------------------------

PATH = PathDag(nodes=1)
ONE_ROW = torch.ones(1, 4, dtype=torch.bool)


def gates(a, noise):
    mix = TwoPaths()(a, ONE_ROW, PATH, noise, 0.5)
    pair = mix.active[0]
    return mix, pair, a[0, list(pair)].detach().softmax(0)


@pytest.mark.parametrize("seed", range(6))
def test_the_gradient_of_two_paths_is_the_published_double_sum(seed):
    """∂L/∂a[i] = Σ_j (∂L/∂g[j]) p[j] (δ_ij − p[i]) over the two, with y the output of the active one."""
    a = normal((1, 4), seed).requires_grad_()
    noise, outputs = TwoPaths().noise(PATH, 4, seeded(seed)).double(), normal((4, 7), seed + 9)
    mix, pair, p = gates(a, noise)
    y = (mix.ops[0, :, None] * outputs).sum(0)
    (gradient,) = torch.autograd.grad((y**3).sum(), a)
    active = TwoPaths().for_weights(a, ONE_ROW, PATH, noise, 0.5).active[0][0]
    torch.testing.assert_close(y, outputs[active], **CLOSE)  # in value one candidate alone
    by_gate = (3 * outputs[active] ** 2 * outputs[list(pair)]).sum(1)
    want = torch.zeros(1, 4, dtype=torch.float64)
    for i, o in enumerate(pair):
        want[0, o] = sum(by_gate[j] * p[j] * (float(i == j) - p[i]) for j in range(2))
    torch.testing.assert_close(gradient, want, rtol=1e-10, atol=1e-12)


def test_weights_train_under_the_active_path_alone():
    a = normal((3, 4), 0).requires_grad_()
    dag, alive = PathDag(nodes=3), torch.tensor([[1, 1, 1, 1], [0, 0, 1, 0], [0, 0, 0, 0]]).bool()
    noise = TwoPaths().noise(dag, 4, seeded(2)).double()
    both, one = (f(a, alive, dag, noise, 0.0) for f in (TwoPaths(), TwoPaths().for_weights))
    assert [len(row) for row in both.active] == [2, 1, 0] and [len(row) for row in one.active] == [1, 1, 0]
    assert set(one.active[0]) < set(both.active[0]) and one.active[1] == (2,)
    assert torch.equal(both.ops.detach(), one.ops) and not one.ops.requires_grad
    assert one.ops.sum(1).tolist() == [1, 1, 0]


def test_settled_logits_leave_the_other_probabilities():
    before, after = normal((2, 5), 1), normal((2, 5), 2)
    dag, alive = PathDag(nodes=2), torch.tensor([[1, 1, 1, 1, 1], [0, 1, 1, 1, 0]]).bool()
    noise = TwoPaths().noise(dag, 5, seeded(3)).double()
    pairs = TwoPaths()(before, alive, dag, noise, 0.0).active
    moved = torch.zeros_like(alive)
    for e, pair in enumerate(pairs):
        moved[e, list(pair)] = True
    after = torch.where(moved, after, before)  # Adam without momentum moves the drawn ones only
    settled = TwoPaths().settle(before, after, alive, noise)
    old, new = (a.masked_fill(~alive, -torch.inf).softmax(1) for a in (before, settled))
    torch.testing.assert_close(new[~moved], old[~moved], **CLOSE)
    assert not torch.allclose(new[moved], old[moved])
    ratio = (settled - after)[moved].view(2, 2)
    torch.testing.assert_close(ratio[:, 0], ratio[:, 1], **CLOSE)  # both are shifted alike


def test_the_active_path_is_not_distributed_as_the_softmax():
    """For p = (0.8, 0.1, 0.1) the active one is drawn with (0.869, 0.065, 0.065)."""
    count, p = 40_000, torch.tensor([0.8, 0.1, 0.1], dtype=torch.float64)
    dag = PathDag(nodes=count)
    a, alive = p.log().expand(count, 3), torch.ones(count, 3, dtype=torch.bool)
    share = TwoPaths().for_weights(a, alive, dag, TwoPaths().noise(dag, 3, seeded(0)).double(), 0.0).ops.mean(0)
    # P(active = 0) = Σ over the second of P(pair {0, j}) · 0.8 / 0.9
    pair = sum(p[i] * p[j] / (1 - p[i]) for i, j in ((0, 1), (1, 0), (0, 2), (2, 0)))
    assert float(pair * 0.8 / 0.9) == pytest.approx(0.869, abs=5e-4)
    torch.testing.assert_close(share, torch.tensor([0.869, 0.0655, 0.0655], dtype=torch.float64), rtol=0, atol=0.005)


def test_without_noise_two_paths_are_the_softmax():
    a = normal((1, 4), 5)
    for f in (TwoPaths(), TwoPaths().for_weights):
        torch.testing.assert_close(f(a, ONE_ROW, PATH, None, 1.0).ops, a.softmax(1))


def test_a_geometric_temperature():
    a, noise = normal((1, 4), 0), normal((1, 4), 1)
    relax = Concrete(tau=(5.0, 5 * math.exp(-0.045 * 90)), anneal="geometric")
    for epoch in (0, 45, 90):
        want = ((a + noise) / (5 * math.exp(-0.045 * epoch))).softmax(1)
        torch.testing.assert_close(relax(a, ONE_ROW, PATH, noise, epoch / 90).ops, want, rtol=1e-10, atol=1e-12)
