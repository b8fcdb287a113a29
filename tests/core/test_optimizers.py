"""The two optimisers against their update rules written out, in float64."""

import math

import pytest
import torch

import oche
from oche.core.errors import OcheError
from oche.core.optimizers import Adam, Sgd, largest_logit_step
from oche.core.schedules import OneCycle


def normal(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("clip", [0.0, 0.5, 5.0, 1e6])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_clips_decays_and_keeps_momentum(clip, momentum):
    settings = Sgd(lr=0.1, lr_min=0.01, momentum=momentum, decay=0.03, clip=clip)
    weights = [torch.nn.Parameter(normal((3, 2), 1)), torch.nn.Parameter(normal(4, 2))]
    optimizer = settings.optimizer(weights)
    want, buffers = [w.detach().clone() for w in weights], None
    for step in range(4):
        gradients = [3 * normal((3, 2), 10 + step), 3 * normal(4, 20 + step)]
        for w, g in zip(weights, gradients, strict=True):
            w.grad = g.clone()
        rate = settings.rate(step / 4)
        settings.update(optimizer, weights, rate)
        norm = math.sqrt(sum((g**2).sum().item() for g in gradients))
        scale = min(1.0, clip / (norm + 1e-6)) if clip else 1.0  # torch's own guard against a norm of zero
        moved = [scale * g + 0.03 * w for g, w in zip(gradients, want, strict=True)]
        buffers = moved if buffers is None else [momentum * b + m for b, m in zip(buffers, moved, strict=True)]
        want = [w - rate * b for w, b in zip(want, buffers, strict=True)]
        for w, expected in zip(weights, want, strict=True):
            torch.testing.assert_close(w.detach(), expected, rtol=1e-12, atol=1e-14)


def test_a_weight_without_a_gradient_rests():
    settings = Sgd(lr=0.1, decay=0.5)
    weights = [torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))]
    weights[0].grad = torch.ones(2)
    settings.update(settings.optimizer(weights), weights, 0.1)
    assert torch.equal(weights[1], torch.ones(2)) and not torch.equal(weights[0], torch.ones(2))


def test_a_weight_may_have_its_first_gradient_late():
    """One that a drawn path reaches only then: its momentum begins there, and the others' go on."""
    settings = Sgd(lr=0.1, momentum=0.9, decay=0.03, clip=0.0)
    weights = [torch.nn.Parameter(normal(3, 1)), torch.nn.Parameter(normal(4, 2)), torch.nn.Parameter(normal(2, 3))]
    optimizer = settings.optimizer(weights)
    want, buffers = [w.detach().clone() for w in weights], [0.0] * 3
    for step, reached in enumerate([(0,), (0, 1), (1,), (0, 1)]):
        for i, w in enumerate(weights):
            w.grad = normal(w.shape, 10 * i + step) if i in reached else None
            if i in reached:
                buffers[i] = 0.9 * buffers[i] + w.grad + 0.03 * want[i]
                want[i] = want[i] - 0.1 * buffers[i]
        settings.update(optimizer, weights, 0.1)
        for w, expected in zip(weights, want, strict=True):
            torch.testing.assert_close(w.detach(), expected, rtol=1e-12, atol=1e-14)
    assert "momentum_buffer" not in optimizer.state[weights[2]]


def test_gradients_and_momenta_may_be_laid_out_otherwise_than_their_weights():
    """As gradients of channels_last networks may be, and momenta that come from a file."""
    settings, shape = Sgd(lr=0.1, momentum=0.9, decay=0.03, clip=0.0), (4, 3, 5, 2)
    last = torch.channels_last
    w = torch.nn.Parameter(normal(shape, 1).to(memory_format=last))
    optimizer = settings.optimizer([w])
    want, buffer = w.detach().clone(), 0.0
    for step in range(4):
        w.grad = normal(shape, 10 + step) if step % 2 else normal(shape, 10 + step).to(memory_format=last)
        buffer = 0.9 * buffer + w.grad + 0.03 * want
        want = want - 0.1 * buffer
        settings.update(optimizer, [w], 0.1)
        torch.testing.assert_close(w.detach(), want, rtol=1e-12, atol=1e-14)
        state = optimizer.state[w]
        state["momentum_buffer"] = state["momentum_buffer"].contiguous()


def test_rate_is_annealed_from_lr_to_lr_min():
    settings = Sgd(lr=0.025, lr_min=0.001)
    rates = [settings.rate(p / 10) for p in range(11)]
    assert rates[0] == 0.025 and rates[10] == pytest.approx(0.001) and rates[5] == pytest.approx(0.013)
    assert rates == sorted(rates, reverse=True)


def test_nesterov_without_decay_of_vectors():
    """g' = g + decay · w (matrices only), b = 0.9 b + g', w -= rate · (g' + 0.9 b): Sutskever's form, as torch has it."""
    settings = Sgd(lr=0.1, decay=0.03, clip=0.0, nesterov=True, decay_norms=False)
    weights = [torch.nn.Parameter(normal(4, 1)), torch.nn.Parameter(normal((3, 2), 2))]
    optimizer = settings.optimizer(weights)
    want, buffers = [w.detach().clone() for w in weights], [0.0, 0.0]
    for step in range(4):
        rate = settings.rate(step / 4)
        for i, w in enumerate(weights):
            w.grad = normal(w.shape, 10 * i + step)
            g = w.grad + (0.03 * want[i] if w.dim() > 1 else 0.0)
            buffers[i] = 0.9 * buffers[i] + g
            want[i] = want[i] - rate * (g + 0.9 * buffers[i])
        settings.update(optimizer, weights, rate)
        for w, expected in zip(weights, want, strict=True):
            torch.testing.assert_close(w.detach(), expected, rtol=1e-12, atol=1e-14)


def test_a_search_refuses_what_its_look_ahead_does_not_take():
    with pytest.raises(OcheError, match="decay_norms=False is for trainings"):
        oche.methods.darts(weight_optimizer=Sgd(decay_norms=False))
    assert oche.methods.darts(2, weight_optimizer=Sgd(nesterov=True)).method.weight_optimizer.nesterov
    assert oche.methods.darts(weight_optimizer=Sgd(schedule=OneCycle())).method.weight_optimizer.rate(0.25) == 0.025


def test_adam_with_coupled_decay():
    settings = Adam(lr=0.01, betas=(0.5, 0.999), decay=0.1)
    a = normal((3, 2), 1).requires_grad_()
    optimizer = settings.optimizer([a])
    want, m, v = a.detach().clone(), 0.0, 0.0
    for step in range(1, 5):
        a.grad = normal((3, 2), 10 + step)
        g = a.grad + 0.1 * want  # decay is part of the gradient, as in the published code
        optimizer.step()
        m, v = 0.5 * m + 0.5 * g, 0.999 * v + 0.001 * g**2
        want = want - 0.01 * (m / (1 - 0.5**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
        torch.testing.assert_close(a.detach(), want, rtol=1e-12, atol=1e-14)


def test_before_the_first_step_the_rate_is_the_one_at_the_start():
    for settings in (Sgd(lr=0.3), Sgd(lr=0.3, decay_norms=False), Adam(lr=0.3)):
        assert largest_logit_step(settings.optimizer([normal((3, 2), 1).requires_grad_()])) == 0.3


def test_published_settings():
    assert Sgd() == Sgd(lr=0.025, lr_min=0.0, momentum=0.9, decay=3e-4, clip=5.0)
    assert Adam() == Adam(lr=3e-4, betas=(0.5, 0.999), decay=1e-3, init=1e-3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Sgd(lr=0),
        lambda: Sgd(lr=float("nan")),
        lambda: Sgd(lr=float("inf")),
        lambda: Sgd(lr=0.1, lr_min=0.2),
        lambda: Sgd(lr_min=-1e-3),
        lambda: Sgd(momentum=1.0),
        lambda: Sgd(momentum=-0.1),
        lambda: Sgd(decay=-1e-4),
        lambda: Sgd(decay=float("nan")),
        lambda: Sgd(clip=-1),
        lambda: Sgd(clip=float("nan")),
        lambda: Adam(lr=-1),
        lambda: Adam(lr=float("inf")),
        lambda: Adam(betas=(0.5, 1.0)),
        lambda: Adam(betas=(-0.1, 0.9)),
        lambda: Adam(decay=-1),
        lambda: Adam(init=-1e-3),
        lambda: Adam(init=float("nan")),
    ],
)
def test_impossible_settings_are_refused(make):
    with pytest.raises(OcheError, match=r"; use .*lr > 0|; use 0 <= momentum"):
        make()
