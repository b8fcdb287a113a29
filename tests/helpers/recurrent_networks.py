"""Recurrent networks in two forms, the same function of tokens, masks and state."""

import torch

from oche.networks.language_model import DropoutMasks
from oche.training.text_batches import word_loss

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
