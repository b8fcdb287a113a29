"""Perturbed mixtures against SDARTS' released steps written out over plain lists."""

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import tiny_images
from oche.bilevel.search import frozen_statistics
from oche.core.architecture import Mix, alive_candidates, all_alive
from oche.core.errors import OcheError
from oche.methods.perturbations import Adversarial, RandomNoise
from oche.methods.relaxations import EdgeNormalised, NodeSoftmax, Sigmoid, Softmax

seeds = st.integers(0, 10_000)


def gen(seed):
    return torch.Generator().manual_seed(seed)


def mixes(seed, share=0.8, groups=("normal", "reduce")):
    g, found = gen(seed), {}
    for name in groups:
        alive = torch.rand(5, 4, generator=g) < share
        logits = torch.randn(5, 4, generator=g, dtype=torch.float64)
        found[name] = Softmax()(logits.requires_grad_(), alive, tiny_images.space().dag, None, 0.0)
    return found


def nothing(mixes):
    raise AssertionError("noise asks for no loss")


def naive_mixture(row, living):
    """The released clip() on one row: [0, 1], then to sum 1; all clipped away: the largest."""
    clipped = [min(max(w, 0.0), 1.0) if on else 0.0 for w, on in zip(row, living, strict=True)]
    if sum(clipped) == 0.0 and any(living):
        clipped[max((o for o in range(len(row)) if living[o]), key=lambda o: row[o])] = 1.0
    return [w / sum(clipped) if sum(clipped) else 0.0 for w in clipped]


# --- random noise -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@given(seeds, st.floats(0, 1))
def test_random_noise_is_uniform_clipped_and_a_mixture_again(seed, progress):
    before = mixes(seed)
    after = RandomNoise()(nothing, before, progress, gen(seed + 1))
    g, eps = gen(seed + 1), 0.03 + 0.27 * progress
    for name in ("normal", "reduce"):
        noise = eps * (2 * torch.rand(5, 4, generator=g, dtype=torch.float64) - 1)
        living = [[o in on for o in range(4)] for on in before[name].active]
        noisy = (before[name].ops.detach() + noise).tolist()
        want = [naive_mixture(*pair) for pair in zip(noisy, living, strict=True)]
        torch.testing.assert_close(after[name].ops, torch.tensor(want, dtype=torch.float64))
        assert after[name].active == before[name].active and not after[name].ops.requires_grad


@given(seeds, st.sampled_from([Softmax(), NodeSoftmax(), Sigmoid(), EdgeNormalised()]))
def test_rows_keep_their_sum_and_the_dead_stay_at_zero(seed, relax):
    g, dag = gen(seed), tiny_images.space().dag
    alive = torch.rand(5, 4, generator=g) < 0.7
    a = relax.init(dag, 4, 1.0, g)
    before = {"normal": relax(a.requires_grad_(), alive, dag, None, 0.0)}
    objective = lambda m: (m["normal"].ops * torch.arange(4)).sum()  # noqa: E731
    for perturb in (RandomNoise(), Adversarial()):
        after = perturb(objective, before, 1.0, gen(seed))["normal"]
        torch.testing.assert_close(after.ops.sum(1), before["normal"].ops.detach().sum(1))
        assert (after.ops[~alive] == 0).all() and (after.ops >= 0).all()
        assert (after.edges is None) == (before["normal"].edges is None)
        if after.edges is not None:
            assert torch.equal(after.edges, before["normal"].edges.detach()) and not after.edges.requires_grad


def test_settled_edges_do_not_move():
    alive = torch.zeros(5, 4, dtype=torch.bool)
    alive[:, 2] = True
    alive[4] = False
    mix = Softmax()(torch.randn(5, 4), alive, tiny_images.space().dag, None, 0.0)
    for perturb in (RandomNoise((1.0, 1.0)), Adversarial((1.0, 1.0))):
        after = perturb(lambda m: -m["normal"].ops.sum(), {"normal": mix}, 0.5, gen(0))
        assert torch.equal(after["normal"].ops, mix.ops)


def test_a_row_that_is_clipped_away_becomes_its_largest():
    mix = Mix(torch.full((1, 3), 1 / 3, dtype=torch.float64), None, ((0, 1, 2),))
    for seed in range(200):
        noise = 2 * torch.rand(1, 3, generator=gen(seed), dtype=torch.float64) - 1
        if (mix.ops + 4 * noise < 0).all():
            after = RandomNoise((4.0, 4.0))(nothing, {"normal": mix}, 0.0, gen(seed))["normal"].ops
            assert after.argmax() == noise.argmax() and after.sum() == 1 and (after > 0).sum() == 1
            return
    raise AssertionError("no draw clips everything")


def test_eps_grows_with_progress_and_nothing_moves_at_zero():
    before = mixes(1, share=1.0)
    shift = [
        (RandomNoise()(nothing, before, q, gen(3))["normal"].ops - before["normal"].ops).abs().max().item()
        for q in (0.0, 0.5, 1.0)
    ]
    assert 0 < shift[0] < shift[1] < shift[2]
    still = RandomNoise((0.0, 0.0))(nothing, before, 0.5, gen(3))
    torch.testing.assert_close(still["normal"].ops, before["normal"].ops.detach())


def test_mixtures_may_lie_elsewhere_than_the_generator():
    """The device "meta" computes nothing, but refuses to mix devices as a GPU does."""
    dag = tiny_images.space().dag
    mix = Softmax()(torch.zeros(5, 4, device="meta"), all_alive(dag, 4), dag, None, 0.0)
    assert RandomNoise()(nothing, {"normal": mix}, 0.5, gen(3))["normal"].ops.device.type == "meta"


def test_draws_are_made_where_the_generator_is_whatever_the_default_device():
    before, one, two = mixes(1), gen(3), gen(3)
    want = RandomNoise()(nothing, before, 0.5, one)
    with torch.device("meta"):
        found = RandomNoise()(nothing, before, 0.5, two)
    assert all(torch.equal(found[name].ops, mix.ops) for name, mix in want.items())


# --- the adversary ----------------------------------------------------------------------------------------------------


def quadratic(seed):
    """A loss that is not monotone in the weights, of both groups together."""
    g = gen(seed)
    target = {name: torch.rand(5, 4, generator=g, dtype=torch.float64) for name in ("normal", "reduce")}
    slope = {name: torch.randn(5, 4, generator=g, dtype=torch.float64) for name in target}

    def value(ops):
        return sum(((ops[n] - target[n]) ** 2 * slope[n]).sum() + (ops[n] * slope[n]).sum() ** 2 for n in target)

    def gradient(ops):
        return {n: 2 * (ops[n] - target[n]) * slope[n] + 2 * (ops[n] * slope[n]).sum() * slope[n] for n in target}

    return value, gradient


@pytest.mark.slow
@given(seeds, st.floats(0, 1))
def test_the_adversary_takes_the_released_steps_and_keeps_the_worst(seed, progress):
    before, eps = mixes(seed), 0.03 + 0.27 * progress
    value, gradient = quadratic(seed)
    asked = []

    def objective(m):
        asked.append({name: mix.ops.detach().clone() for name, mix in m.items()})
        return value({name: mix.ops for name, mix in m.items()})

    after = Adversarial()(objective, before, progress, gen(seed + 1))

    centre = {name: mix.ops.detach() for name, mix in before.items()}
    living = {name: [[o in on for o in range(4)] for on in mix.active] for name, mix in before.items()}
    g = gen(seed + 1)
    point, seen = {}, [centre]

    def project(name, w):
        pairs = zip(w.tolist(), living[name], strict=True)
        return torch.tensor([naive_mixture(*pair) for pair in pairs], dtype=torch.float64)

    for name in centre:
        noise = eps * (2 * torch.rand(5, 4, generator=g, dtype=torch.float64) - 1)
        point[name] = project(name, centre[name] + noise)
    seen.append(point)
    for _ in range(7):
        slopes = gradient(point)
        point = {
            name: project(
                name,
                torch.max(torch.min(w + 2 * eps / 7 * slopes[name].sign(), centre[name] + eps), centre[name] - eps),
            )
            for name, w in point.items()
        }
        seen.append(point)
    assert len(asked) == len(seen) == 9
    for got, want in zip(asked, seen, strict=True):
        for name in centre:
            torch.testing.assert_close(got[name], want[name], rtol=1e-9, atol=1e-12)
    worst = max(seen, key=lambda ops: value(ops).item())
    for name in centre:
        torch.testing.assert_close(after[name].ops, worst[name], rtol=1e-9, atol=1e-12)
    assert value({n: m.ops for n, m in after.items()}) >= value(centre)


def test_a_maximum_is_left_as_it_is():
    before = mixes(2, share=1.0)
    peak = {name: mix.ops.detach() for name, mix in before.items()}
    after = Adversarial()(lambda m: -sum(((m[n].ops - peak[n]) ** 2).sum() for n in peak), before, 0.5, gen(0))
    assert all(torch.equal(after[name].ops, peak[name]) for name in peak)


def test_a_group_that_the_loss_does_not_use_may_be_anything_near():
    before = mixes(4)
    after = Adversarial()(lambda m: m["normal"].ops[:, 2].sum(), before, 0.5, gen(0))
    assert after["normal"].ops[:, 2].sum() > before["normal"].ops[:, 2].sum()
    torch.testing.assert_close(after["reduce"].ops.sum(1), before["reduce"].ops.detach().sum(1))


@pytest.mark.parametrize("perturb", [RandomNoise(), Adversarial(steps=3)])
def test_a_supernet_and_its_logits_are_as_they_were(perturb):
    space = tiny_images.space()
    net = space.supernet().double()
    g = gen(6)
    logits = {name: torch.randn(5, 4, generator=g, dtype=torch.float64).requires_grad_() for name in space.groups}
    x, y = torch.randn(4, 1, 8, 8, generator=g, dtype=torch.float64), torch.tensor([0, 1, 2, 0])
    relaxed = {n: Softmax()(a, all_alive(space.dag, 4), space.dag, None, 0.0) for n, a in logits.items()}
    calls = Counter()

    def loss(m):
        calls["loss"] += 1
        return F.cross_entropy(net(x, m), y)

    state = {k: v.clone() for k, v in net.state_dict().items()}
    start = {name: a.detach().clone() for name, a in logits.items()}
    with frozen_statistics(net):
        after = perturb(loss, relaxed, 0.7, gen(1))
        again = perturb(loss, relaxed, 0.7, gen(1))
        plain, perturbed = loss(relaxed), loss(after)
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert all(torch.equal(a, start[name]) and a.grad is None for name, a in logits.items())
    assert all(p.grad is None for p in net.parameters())
    assert all(torch.equal(after[n].ops, again[n].ops) for n in after)
    assert any(not torch.allclose(after[n].ops, relaxed[n].ops) for n in after)
    assert relaxed["normal"].ops.requires_grad and not after["normal"].ops.requires_grad
    if isinstance(perturb, Adversarial):
        assert perturbed > plain and calls["loss"] == 2 * (3 + 2) + 2


def test_works_where_gradients_are_switched_off():
    before = mixes(8)
    with torch.no_grad():
        off = Adversarial()(lambda m: (m["normal"].ops ** 2).sum(), before, 0.5, gen(0))
    on = Adversarial()(lambda m: (m["normal"].ops ** 2).sum(), before, 0.5, gen(0))
    assert torch.equal(off["normal"].ops, on["normal"].ops)


def test_a_hard_choice_is_not_perturbed():
    ops = torch.eye(4)[[0, 1, 2, 3, 1]]
    hard = Mix(ops, None, alive_candidates(ops.bool()))  # GDAS: one candidate evaluated on each edge
    assert torch.equal(RandomNoise()(nothing, {"normal": hard}, 1.0, gen(0))["normal"].ops, ops)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: RandomNoise((-0.1, 0.3)), r"^eps=\(-0\.1, 0\.3\) is not a schedule.*both >= 0"),
        (lambda: Adversarial(steps=0), r"^Adversarial: steps=0 takes no step of the ascent; use steps >= 1"),
        (lambda: Adversarial((0.1, float("inf"))), r"^eps=\(0\.1, inf\)"),
    ],
)
def test_impossible_values_are_refused(build, said):
    with pytest.raises(OcheError, match=said):
        build()


def told(losses):
    """An objective that says these numbers one after the other, whatever it is asked about."""
    left = iter(losses)
    return lambda m: (m["normal"].ops * 0).sum() + next(left)


LARGEST = torch.finfo(torch.float64).max
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("losses", "worst"),  # of: unperturbed, random start, after one step; the start takes a gradient and is a point too
    [((3.0, 2.0, 1.0), 0), ((1.0, 3.0, 2.0), 1), ((1.0, 2.0, 3.0), 2), ((2.0, 2.0, 2.0), 0), ((-2.0, NAN, NAN), 0),
     ((-2.0, NAN, -1.0), 2), ((NAN, -2.0, -3.0), 1), ((1.0, INF, 2.0), 1), ((LARGEST, INF, 2.0), 1), ((-INF, -INF, -1.0), 2)],
)  # fmt: skip
def test_one_step_and_the_worst_of_three_points(losses, worst):
    """A loss that is no number is never the worst; an infinite one is. The slope is zero, so the
    step only goes back into the ball around the mixture."""
    before = mixes(4, share=1.0, groups=("normal",))
    after = Adversarial((0.1, 0.1), steps=1)(told(losses), before, 0.0, gen(5))["normal"].ops
    start = RandomNoise((0.1, 0.1))(nothing, before, 0.0, gen(5))["normal"].ops
    centre = before["normal"].ops.detach()
    step = [naive_mixture(row, [True] * 4) for row in start.clamp(centre - 0.1, centre + 0.1).tolist()]
    points = torch.stack([centre, start, torch.tensor(step, dtype=torch.float64)])
    torch.testing.assert_close(after, points[worst], rtol=0, atol=1e-12)
    assert min((points[i] - points[i - 1]).abs().max() for i in range(3)) > 0.01
