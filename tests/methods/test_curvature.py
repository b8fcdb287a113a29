"""Curvature against dense Hessians, and the rule that stops by it against hand-made histories."""

import pytest
import torch
import torch.nn.functional as F
from torch.func import hessian

import tiny_images
from oche.bilevel.search import frozen_statistics
from oche.core.architecture import all_alive
from oche.core.errors import OcheError
from oche.methods import curvature as module
from oche.methods.curvature import dominant_eigenvalue, hessian_product
from oche.methods.relaxations import Softmax

F64 = torch.float64


def gen(seed):
    return torch.Generator().manual_seed(seed)


def dense(loss, a):
    """(n, n) the Hessian by torch.func, over all logits together."""
    shapes = [t.shape for t in a]

    def flat(v):
        parts = v.split([s.numel() for s in shapes])
        return loss(tuple(p.view(s) for p, s in zip(parts, shapes, strict=True)))

    return hessian(flat)(torch.cat([t.detach().flatten() for t in a]))


def quadratic(eigenvalues, seed=0):
    """A loss whose Hessian has exactly these eigenvalues, over two tensors of logits."""
    n = len(eigenvalues)
    q, _ = torch.linalg.qr(torch.randn(n, n, generator=gen(seed), dtype=F64))
    matrix = q @ torch.diag(torch.tensor(eigenvalues, dtype=F64)) @ q.T

    def loss(a):
        v = torch.cat([t.flatten() for t in a])
        return v @ matrix @ v / 2

    half = n // 2
    return loss, (torch.randn(half, generator=gen(1), dtype=F64), torch.randn(1, n - half, generator=gen(2), dtype=F64))


def mlp(n, seed=0):
    """Logits gate the inputs of a small network with a curved, indefinite loss."""
    g = gen(seed)
    x, y = torch.randn(8, n, generator=g, dtype=F64), torch.tensor([0, 1, 2] * 2 + [0, 1])
    w1, w2 = torch.randn(n, 6, generator=g, dtype=F64) / n**0.5, torch.randn(6, 3, generator=g, dtype=F64)

    def loss(a):
        gate = torch.cat([t.flatten() for t in a]).tanh()
        return F.cross_entropy((x * gate @ w1).tanh() @ w2, y)

    return loss, (torch.randn(2, n // 4, generator=g, dtype=F64), torch.randn(n - 2 * (n // 4), generator=g, dtype=F64))


def supernet(dtype=F64):
    """A tiny supernet's loss of one batch as a function of its logits; BatchNorms by the batch."""
    space = tiny_images.space()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = space.supernet().to(dtype)
    g = gen(4)
    x, y = torch.randn(6, 1, 8, 8, generator=g).to(dtype), torch.tensor([0, 1, 2] * 2)

    def loss(a):
        mixes = {
            name: Softmax()(t, all_alive(space.dag, 4), space.dag, None, 0.0)
            for name, t in zip(space.groups, a, strict=True)
        }
        return F.cross_entropy(net(x, mixes), y)

    return net, loss, tuple(torch.randn(5, 4, generator=g).to(dtype) for _ in space.groups)


# --- eigenvalues ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [5, 32, 33, 48])  # either side of where the whole matrix is taken
@pytest.mark.parametrize("which", ["algebraic", "magnitude"])
def test_equals_the_dense_hessians(n, which):
    loss, a = mlp(n)
    spectrum = torch.linalg.eigvalsh(dense(loss, a))
    assert spectrum.min() < 0 < spectrum.max()
    want = max(spectrum.tolist(), key=abs if which == "magnitude" else float)
    assert dominant_eigenvalue(loss, a, which) == pytest.approx(want, rel=1e-6)


@pytest.mark.slow
def test_equals_the_dense_hessians_on_a_supernet():
    net, loss, a = supernet()
    assert sum(t.numel() for t in a) > 32
    with frozen_statistics(net):
        state = {k: v.clone() for k, v in net.state_dict().items()}
        found = dominant_eigenvalue(loss, a)
        want = torch.linalg.eigvalsh(dense(loss, a))[-1].item()
    assert found == pytest.approx(want, rel=1e-6) and want > 1e-4
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters()) and all(t.grad is None and not t.requires_grad for t in a)
    assert dominant_eigenvalue(loss, a) == found  # to the last digit


@pytest.mark.slow
def test_single_precision_is_enough_to_see_it():
    _, double, a = supernet()
    _, single, b = supernet(torch.float32)
    assert dominant_eigenvalue(single, b) == pytest.approx(dominant_eigenvalue(double, a), rel=1e-3)


@pytest.mark.parametrize("n", [6, 50])
def test_dominant_means_the_largest_unless_asked_for_the_farthest_from_zero(n):
    loss, a = quadratic([-5.0, 2.0, *torch.linspace(-1, 1, n - 2).tolist()])
    assert dominant_eigenvalue(loss, a) == pytest.approx(2.0, rel=1e-8)
    assert dominant_eigenvalue(loss, a, "magnitude") == pytest.approx(-5.0, rel=1e-8)


@pytest.mark.parametrize("n", [6, 50])
def test_a_maximum_has_a_negative_one(n):
    loss, a = quadratic(torch.linspace(-9, -0.5, n).tolist())
    assert dominant_eigenvalue(loss, a) == pytest.approx(-0.5, rel=1e-6)
    assert dominant_eigenvalue(loss, a, "magnitude") == pytest.approx(-9.0, rel=1e-6)


@pytest.mark.parametrize("n", [6, 50])
def test_ties(n):
    loss, a = quadratic([3.0, 3.0, 3.0, -3.0, *torch.linspace(-1, 1, n - 4).tolist()])
    assert dominant_eigenvalue(loss, a) == pytest.approx(3.0, rel=1e-8)
    assert abs(dominant_eigenvalue(loss, a, "magnitude")) == pytest.approx(3.0, rel=1e-8)


def test_zero_is_the_largest_at_a_maximum_of_what_does_not_change_along_some_directions():
    for zeros in (1, 30):
        loss, a = quadratic([0.0] * zeros + torch.linspace(-10, -1, 30).tolist())
        assert dominant_eigenvalue(loss, a) == pytest.approx(0.0, abs=1e-9)
    loss, a = quadratic([1e-6, *torch.linspace(-1e3, -1e-3, 59).tolist()])
    assert dominant_eigenvalue(loss, a) == pytest.approx(1e-6, abs=1e-6)


def test_softmax_logits_at_a_minimum_of_their_own():
    """The loss −log w is convex in the logits; its mirror image has nothing above the zeros of the softmax."""
    a = (torch.randn(12, 5, generator=gen(2), dtype=F64),)

    def convex(a):
        return -a[0].log_softmax(1)[:, 0].sum()

    want = torch.linalg.eigvalsh(dense(convex, a))[-1].item()
    assert dominant_eigenvalue(convex, a) == pytest.approx(want, rel=1e-8)
    assert dominant_eigenvalue(lambda a: -convex(a), a) == pytest.approx(0.0, abs=1e-8)


def test_where_lanczos_does_not_converge_the_whole_matrix_is_taken():
    loss, a = mlp(60)
    product = hessian_product(loss, a)
    values = module._lanczos(lambda v: product(torch.as_tensor(v)).numpy(), 60, "algebraic", 1e-300)
    torch.testing.assert_close(torch.as_tensor(values), torch.linalg.eigvalsh(dense(loss, a)))


@pytest.mark.parametrize("n", [1, 4, 40])
def test_no_curvature(n):
    a = (torch.randn(n, generator=gen(0), dtype=F64),)
    assert dominant_eigenvalue(lambda a: a[0].sum(), a) == 0.0
    assert dominant_eigenvalue(lambda a: torch.tensor(1.0, dtype=F64), a) == 0.0
    assert dominant_eigenvalue(lambda a: 3 * a[0][0] ** 2, a) == pytest.approx(6.0)


def test_logits_that_the_loss_does_not_use_add_zeros():
    a = (torch.ones(2, dtype=F64), torch.ones(3, dtype=F64))
    assert dominant_eigenvalue(lambda a: -(a[0] ** 2).sum(), a) == pytest.approx(0.0, abs=1e-15)


def test_products_are_those_of_the_dense_hessian_even_where_gradients_are_off():
    loss, a = mlp(20)
    matrix = dense(loss, a)
    with torch.no_grad():
        product = hessian_product(loss, a)
    v = torch.randn(20, generator=gen(5), dtype=F64)
    torch.testing.assert_close(product(v), matrix @ v)


def test_far_fewer_products_than_the_whole_matrix_takes():
    loss, a = mlp(400)
    product, calls = hessian_product(loss, a), []
    value = module._lanczos(lambda v: (calls.append(1), product(torch.as_tensor(v)).numpy())[1], 400, "algebraic", 1e-6)
    assert value[0] == pytest.approx(torch.linalg.eigvalsh(dense(loss, a))[-1].item(), rel=1e-6)
    assert len(calls) < 200


def test_a_loss_that_is_not_a_number_is_refused():
    with pytest.raises(OcheError, match="the loss is nan"):
        dominant_eigenvalue(lambda a: a[0].sum() * float("nan"), (torch.ones(3),))


@pytest.mark.parametrize("n", [module.DENSE - 1, module.DENSE, module.DENSE + 1])
def test_few_logits_take_the_whole_matrix_and_many_a_few_products(n, monkeypatch):
    """The whole matrix takes n products; Lanczos' method fewer, where one eigenvalue stands out."""
    values = [0.01 * i for i in range(n - 1)] + [50.0]
    loss, a = quadratic(values)
    product, count = module.hessian_product, []

    def counted(*args):
        multiply = product(*args)
        return lambda v: count.append(1) or multiply(v)

    monkeypatch.setattr(module, "hessian_product", counted)
    assert dominant_eigenvalue(loss, a) == pytest.approx(50.0, rel=1e-6)
    assert len(count) == n if n <= module.DENSE else len(count) < n


@pytest.mark.parametrize("n", [12, module.DENSE + 20])
def test_logits_in_single_precision(n):
    values = [*torch.linspace(-3, 2, n - 1).tolist(), 7.0]
    loss, a = quadratic(values)
    single = tuple(t.float() for t in a)
    found = dominant_eigenvalue(lambda a: loss(tuple(t.double() for t in a)).float(), single)
    assert found == pytest.approx(7.0, rel=1e-3)


def test_single_precision_takes_no_products_for_digits_that_it_does_not_have(monkeypatch):
    loss, a = quadratic(torch.linspace(0, 1, 200).tolist())
    product, counts = module.hessian_product, {}

    def counted(loss, a):
        multiply = product(loss, a)

        def asked(v):
            counts[a[0].dtype] = counts.get(a[0].dtype, 0) + 1
            return multiply(v)

        return asked

    monkeypatch.setattr(module, "hessian_product", counted)
    single = tuple(t.float() for t in a)
    assert dominant_eigenvalue(loss, a) == pytest.approx(1.0, rel=1e-6)
    assert dominant_eigenvalue(lambda a: loss(tuple(t.double() for t in a)).float(), single) == pytest.approx(
        1.0, rel=1e-3
    )
    assert counts[torch.float32] < 0.8 * counts[F64] < 0.8 * 200


def test_by_magnitude_a_slightly_smaller_positive_one_does_not_win():
    """-5 among values up to 4.5, of more logits than the whole matrix is taken for."""
    n = module.DENSE + 10
    loss, a = quadratic([-5.0, 4.5, *torch.linspace(-1, 1, n - 2).tolist()])
    assert dominant_eigenvalue(loss, a, which="magnitude") == pytest.approx(-5.0, rel=1e-5)
    assert dominant_eigenvalue(loss, a, which="algebraic") == pytest.approx(4.5, rel=1e-5)
