"""Every hypergradient against a closed form, or against differentiating through the unrolled step, in float64."""

import pytest
import torch

from oche.core.errors import OcheError
from oche.methods.hypergradients import FiniteDifference, Neumann, SgdStep, exact, first_order, fixed, joint

SHAPES_W, SHAPES_A = [(3, 2), (4,)], [(2, 3), (2,)]
TIGHT = dict(rtol=1e-8, atol=1e-12)


def normal(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem(seed):
    """Smooth losses, curved in w and a, that mix all variables."""
    w = tuple(normal(s, 10 * seed + i) for i, s in enumerate(SHAPES_W))
    a = tuple(normal(s, 10 * seed + 5 + i) for i, s in enumerate(SHAPES_A))
    n_w, n_a = sum(t.numel() for t in w), sum(t.numel() for t in a)
    mix, target, bend = normal((n_w, n_a), seed + 100), normal(n_w, seed + 101), normal((n_w, n_w), seed + 102)

    def flat(tensors):
        return torch.cat([t.reshape(-1) for t in tensors])

    def inner(w, a):
        x = flat(w)
        return (torch.tanh(bend @ x) * (mix @ flat(a)).sin()).sum() + 0.3 * (x**4).sum()

    def outer(w, a):
        return ((flat(w) - target) ** 2 * torch.exp(0.1 * (mix @ flat(a)))).mean()

    return inner, outer, w, a


def unrolled(inner, outer, w, a, step):
    """Oracle: differentiate outer(w'(a), a) by autograd through w' itself."""
    a = tuple(t.clone().requires_grad_() for t in a)
    w = tuple(t.clone().requires_grad_() for t in w)
    slope = torch.autograd.grad(inner(w, a), w, create_graph=True)
    buffers = step.buffers or [torch.zeros_like(t) for t in w]
    ahead = [t - step.lr * (step.momentum * b + g + step.decay * t) for t, b, g in zip(w, buffers, slope, strict=True)]
    return torch.autograd.grad(outer(ahead, a), a)


def steps():
    buffers = tuple(normal(s, 50 + i) for i, s in enumerate(SHAPES_W))
    return [
        SgdStep(0.05),
        SgdStep(0.1, decay=0.01),
        SgdStep(0.03, momentum=0.9, decay=3e-4, buffers=buffers),
        SgdStep(0.0),
    ]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("step", steps(), ids=["plain", "decay", "momentum", "zero"])
def test_exact_equals_differentiating_through_the_unrolled_step(seed, step):
    inner, outer, w, a = problem(seed)
    for got, want in zip(exact(inner, outer, w, a, step), unrolled(inner, outer, w, a, step), strict=True):
        torch.testing.assert_close(got, want, **TIGHT)


@pytest.mark.parametrize("seed", range(3))
def test_finite_differences_approach_exact_to_second_order(seed):
    inner, outer, w, a = problem(seed)
    step = steps()[2]
    want = torch.cat([t.flatten() for t in exact(inner, outer, w, a, step)])

    def error(epsilon):
        got = FiniteDifference(epsilon)(inner, outer, w, a, step)
        return (torch.cat([t.flatten() for t in got]) - want).norm().item()

    coarse, fine = error(0.02), error(0.01)
    assert 3.8 < coarse / fine < 4.2  # central differences: half the step, a quarter of the error
    assert fine < 1e-3 * want.norm()


def test_finite_differences_are_exact_where_the_mixed_derivative_is_constant_in_w():
    inner, outer, w, a, _ = quadratic()
    step = SgdStep(0.1, momentum=0.9, decay=0.01, buffers=(normal(4, 3),))
    (got,) = FiniteDifference()(inner, outer, w, a, step)
    (want,) = unrolled(inner, outer, w, a, step)
    torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-10)


def quadratic(decay=0.0):
    """inner = wᵀAw/2 − wᵀBa, outer = ‖w − t‖²/2 + cᵀa, and dL/da at the lower optimum in closed form."""
    root = normal((4, 4), 1)
    A = root @ root.T + torch.eye(4, dtype=torch.float64)
    B, t, c, a = normal((4, 3), 2), normal(4, 3), normal(3, 4), normal(3, 5)
    inverse = torch.linalg.inv(A + decay * torch.eye(4, dtype=torch.float64))
    w = inverse @ B @ a
    want = c + B.T @ inverse @ (w - t)

    def inner(w, a):
        return 0.5 * w[0] @ A @ w[0] - w[0] @ B @ a[0]

    def outer(w, a):
        return 0.5 * (w[0] - t) @ (w[0] - t) + c @ a[0]

    return inner, outer, (w,), (a,), want


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_neumann_converges_to_the_implicit_gradient_in_closed_form(decay):
    inner, outer, w, a, want = quadratic(decay)
    (got,) = Neumann(terms=400, scale=0.1)(inner, outer, w, a, SgdStep(0.05, momentum=0.9, decay=decay))
    torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-10)


def test_neumann_without_terms_is_one_plain_look_ahead_evaluated_at_w():
    inner, outer, w, a, _ = quadratic()
    lr = 0.05
    (got,) = Neumann(terms=0)(inner, outer, w, a, SgdStep(lr))
    v = torch.autograd.functional.jacobian(lambda x: outer((x,), a), w[0])
    mixed = torch.autograd.functional.hessian(lambda x, y: inner((x,), (y,)), (w[0], a[0]))[0][1]
    direct = torch.autograd.functional.jacobian(lambda y: outer(w, (y,)), a[0])
    torch.testing.assert_close(got, direct - lr * v @ mixed, **TIGHT)


def test_first_order_and_joint_are_plain_gradients():
    inner, outer, w, a = problem(0)
    leaves = tuple(t.clone().requires_grad_() for t in a)
    for function, loss in ((first_order, outer), (joint, inner)):
        want = torch.autograd.grad(loss(w, leaves), leaves)
        for got, expected in zip(function(inner, outer, w, a, SgdStep(0.1)), want, strict=True):
            torch.testing.assert_close(got, expected, rtol=0, atol=0)
    assert joint.one_level and not first_order.one_level


ALL = [joint, first_order, FiniteDifference(), exact, Neumann(3)]


@pytest.mark.parametrize("function", ALL, ids=lambda f: type(f).__name__)
def test_arguments_stay_as_they_were_and_nothing_accumulates(function):
    inner, outer, w, a = problem(1)
    w, a = (tuple(t.clone().requires_grad_() for t in ts) for ts in (w, a))
    before = [t.detach().clone() for t in w + a]
    out = function(inner, outer, w, a, steps()[2])
    assert all(g.shape == t.shape and not g.requires_grad for g, t in zip(out, a, strict=True))
    assert all(t.grad is None for t in w + a)
    assert all(torch.equal(t, b) for t, b in zip(w + a, before, strict=True))


@pytest.mark.parametrize("function", ALL, ids=lambda f: type(f).__name__)
def test_what_a_loss_does_not_use_has_gradient_zero(function):
    w, a = (normal(3, 1), normal(2, 2)), (normal(2, 3), normal(2, 4))

    def loss(w, a):
        return (w[0] ** 2).sum() * (a[0] ** 2).sum()

    used, unused = function(loss, loss, w, a, SgdStep(0.1))
    assert used.abs().sum() > 0
    assert torch.equal(unused, torch.zeros(2, dtype=torch.float64))


def test_a_loss_linear_in_the_weights_and_one_that_ignores_them():
    w, a = (normal(3, 1),), (normal(3, 2),)
    for function in (FiniteDifference(), exact, Neumann(2)):
        (got,) = function(lambda w, a: w[0].sum(), lambda w, a: (w[0] * a[0]).sum(), w, a, SgdStep(0.1))
        ahead = w[0] if isinstance(function, Neumann) else w[0] - 0.1
        torch.testing.assert_close(got, ahead, **TIGHT)
        (got,) = function(lambda w, a: (w[0] * a[0]).sum(), lambda w, a: (a[0] ** 2).sum(), w, a, SgdStep(0.1))
        torch.testing.assert_close(got, 2 * a[0], **TIGHT)


def test_the_look_ahead_is_the_step_that_torch_takes():
    w = torch.nn.Parameter(normal((3, 2), 1))
    optimizer = torch.optim.SGD([w], lr=0.1, momentum=0.9, weight_decay=0.01)
    for i in range(3):
        buffer = optimizer.state[w].get("momentum_buffer")
        step = SgdStep(0.1, 0.9, 0.01, [None if buffer is None else buffer.clone()])
        w.grad = normal((3, 2), 10 + i)
        (want,) = step((w.detach().clone(),), (w.grad,))
        optimizer.step()
        torch.testing.assert_close(w.detach(), want, rtol=1e-14, atol=1e-15)


def test_a_step_of_other_weights_than_its_gradients_or_buffers_are_of_is_refused():
    w, step = tuple(normal(s, i) for i, s in enumerate(SHAPES_W)), SgdStep(0.1, clip=0.5)
    for wrong in (
        lambda: step(w, w[:1]),
        lambda: SgdStep(0.1, 0.9, buffers=[None])(w, w),
        lambda: step.pull_back(w, w[:1]),
        lambda: step.pull_back(w[:1], w),
    ):
        with pytest.raises(ValueError, match="zip"):
            wrong()


# --- clipping ---------------------------------------------------------------------------------------------------------

SLOPES = tuple(normal(s, 70 + i) for i, s in enumerate(SHAPES_W))  # of norm 3.2
NORM = torch.cat([t.flatten() for t in SLOPES]).norm().item()
CLIPS = [0.0, 0.1, 0.9 * NORM, 1.5 * NORM, 100.0]


@pytest.mark.parametrize("clip", CLIPS)
def test_gradients_are_clipped_as_torch_does(clip):
    leaves = [torch.nn.Parameter(t.clone()) for t in SLOPES]
    for leaf, slope in zip(leaves, SLOPES, strict=True):
        leaf.grad = slope.clone()
    if clip:
        torch.nn.utils.clip_grad_norm_(leaves, clip)
    for got, leaf in zip(SgdStep(0.1, clip=clip).clipped(SLOPES), leaves, strict=True):
        torch.testing.assert_close(got, leaf.grad, rtol=1e-13, atol=0)


@pytest.mark.parametrize("clip", CLIPS)
def test_what_is_pulled_back_through_the_clipping_is_its_vector_jacobian_product(clip):
    step, v = SgdStep(0.1, clip=clip), tuple(normal(s, 80 + i) for i, s in enumerate(SHAPES_W))
    leaves = tuple(t.clone().requires_grad_() for t in SLOPES)
    want = torch.autograd.grad(step.clipped(leaves), leaves, v)
    for got, expected in zip(step.pull_back(SLOPES, v), want, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("clip", [0.5, 1e3])
def test_a_clipped_look_ahead_is_differentiated_through_its_clipping(clip):
    inner, outer, w, a = problem(2)
    step = SgdStep(
        0.05, momentum=0.9, decay=0.01, buffers=tuple(normal(s, 50 + i) for i, s in enumerate(SHAPES_W)), clip=clip
    )
    leaves, weights = (tuple(t.clone().requires_grad_() for t in ts) for ts in (a, w))
    slope = torch.autograd.grad(inner(weights, leaves), weights, create_graph=True)
    want = torch.autograd.grad(outer(step(weights, slope), leaves), leaves)
    for got, expected in zip(exact(inner, outer, w, a, step), want, strict=True):
        torch.testing.assert_close(got, expected, **TIGHT)
    for got, expected in zip(FiniteDifference(1e-4)(inner, outer, w, a, step), want, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [0.01, 1.0, 100.0])
def test_finite_differences_step_by_epsilon_whatever_the_slope(size):
    """The two points lie ``epsilon`` from w, to either side along the outer slope."""
    w, a, asked = (normal(3, 1),), (normal(3, 2),), []

    def inner(w, a):
        asked.append(w[0].detach().clone())
        return (w[0] * a[0]).sum()

    FiniteDifference(0.02)(inner, lambda w, a: size * w[0].sum(), w, a, SgdStep(0.1))
    start, up, down = asked
    assert torch.equal(start, w[0])
    torch.testing.assert_close(up - w[0], torch.full((3,), 0.02 / 3**0.5, dtype=torch.float64), rtol=1e-9, atol=0)
    torch.testing.assert_close(down - w[0], w[0] - up, rtol=1e-9, atol=0)


@pytest.mark.parametrize("scale", [0.02, 0.3])
def test_the_scale_of_neumann_s_series_is_its_own_where_it_is_given(scale):
    inner, outer, w, a, _ = quadratic()
    (one,) = Neumann(terms=2, scale=scale)(inner, outer, w, a, SgdStep(0.05))
    (other,) = Neumann(terms=2)(inner, outer, w, a, SgdStep(scale))
    torch.testing.assert_close(one, other, **TIGHT)


def test_fixed_gives_zeros_of_the_logits_shapes():
    out = fixed(None, None, (), (normal((2, 3), 1), normal(2, 2)), SgdStep(0.1))  # pyright: ignore[reportArgumentType]
    assert [t.shape for t in out] == [(2, 3), (2,)] and not any(t.any() for t in out)


@pytest.mark.parametrize("make", [lambda: FiniteDifference(0.0), lambda: Neumann(-1), lambda: Neumann(scale=0.0)])
def test_impossible_settings_are_refused(make):
    with pytest.raises(OcheError, match="use "):
        make()
