"""Training-free scores of a network at its initialisation, from one batch of images.

All but the count of weights and FLOPs depend on the draw of the weights. A score uses a copy of the network in training
mode, so it changes neither weights, precision nor running statistics.

Shapes: B images x (B, C, H, W), labels y (B,), P weights.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oche.core.errors import OcheError, did_you_mean
from oche.cost.module_cost import flops as count_flops
from oche.cost.module_cost import parameters as count_parameters


@dataclass(frozen=True)
class Score:
    """A score: its function of (net, x, y), and where it comes from. Larger is better."""

    of: Callable[[nn.Module, Tensor, Tensor], float]
    paper: str
    what: str


SCORES: dict[str, Score] = {}


def _listed(name: str, paper: str, what: str):
    def enter(of: Callable[[nn.Module, Tensor, Tensor], float]):
        SCORES[name] = Score(of, paper, what)
        return of

    return enter


def find_score(name: str) -> Score:
    """Return the score with this name. Raises `OcheError` for an unknown one."""
    if name not in SCORES:
        raise OcheError(f"unknown score {name!r}{did_you_mean(name, [*SCORES])}; known: {', '.join(SCORES)}")
    return SCORES[name]


def evaluate_score(name: str, net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return score ``name`` of ``net``, which is not changed. Raises `OcheError` for an unknown name."""
    score = find_score(name)
    return float(score.of(copy.deepcopy(net).train(), x, y))


@_listed("weights", "a count", "number of weights: the control of every other score")
def weights(net: nn.Module, x: Tensor, y: Tensor) -> float:
    return float(count_parameters(net))


@_listed("flops", "a count", "FLOPs of one image: the control of every other score")
def flops(net: nn.Module, x: Tensor, y: Tensor) -> float:
    return float(count_flops(net, lambda: net(x[:1])))


# --- gradients of the loss --------------------------------------------------------------------------------------------


def _layers(net: nn.Module) -> list[nn.Module]:
    """Return the convolutions and linear layers, whose weights the scores sum over."""
    return [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def _weights(net: nn.Module) -> list[Tensor]:
    return [layer.weight for layer in _layers(net)]  # pyright: ignore[reportReturnType]


def _loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(_logits(net, x), y)


def _logits(net: nn.Module, x: Tensor) -> Tensor:
    out = net(x)
    return out[0] if isinstance(out, tuple) else out  # the second is of an auxiliary tower


def _gradients(value: Tensor, of: list[Tensor], again: bool = False) -> tuple[Tensor, ...]:
    """Return the gradients of ``value``, zero where it does not depend on a tensor."""
    if not value.requires_grad:
        return tuple(map(torch.zeros_like, of))
    return torch.autograd.grad(value, of, create_graph=again, materialize_grads=True)


@_listed("grad_norm", "Abdelfattah et al., 2101.08134", "sum over layers of the norm of the loss' gradient")
def grad_norm(net: nn.Module, x: Tensor, y: Tensor) -> float:
    return sum(float(g.norm()) for g in _gradients(_loss(net, x, y), _weights(net)))


@_listed("plain", "Abdelfattah et al., 2101.08134", "sum of gradient times weight")
def plain(net: nn.Module, x: Tensor, y: Tensor) -> float:
    of = _weights(net)
    return sum(float((g * w.detach()).sum()) for g, w in zip(_gradients(_loss(net, x, y), of), of, strict=True))


@_listed("snip", "Lee et al., 1810.02340", "sum of |gradient times weight|")
def snip(net: nn.Module, x: Tensor, y: Tensor) -> float:
    of = _weights(net)
    return sum(float((g * w.detach()).abs().sum()) for g, w in zip(_gradients(_loss(net, x, y), of), of, strict=True))


@_listed("grasp", "Wang et al., 2002.07376", "sum of -(Hessian times gradient) times weight")
def grasp(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Deviation 1 from the paper: the sign is that of 2101.08134, since accuracy correlates so."""
    of = _weights(net)
    first = _gradients(_loss(net, x, y), of, again=True)
    product = sum((g * g.detach()).sum() for g in first)
    assert isinstance(product, Tensor)
    return -sum(float((h * w).detach().sum()) for h, w in zip(_gradients(product, of), of, strict=True))


@_listed("fisher", "Turner et al., 1906.04113", "sum over channels of the squared saliency of activations")
def fisher(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return Σ_channels ½ mean_n (Σ_hw a · ∂L/∂a)² over the outputs a of all convolutions and linear layers.

    Deviation 2: each channel counts once. The released code of 2101.08134 repeats it for each weight of the channel.
    """
    outputs: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, out: Tensor) -> None:
        outputs.append(out)

    hooks = [layer.register_forward_hook(keep) for layer in _layers(net)]
    loss = _loss(net, x, y)
    for hook in hooks:
        hook.remove()
    of = [out for out in outputs if out.requires_grad]
    total = 0.0
    for a, g in zip(of, _gradients(loss, of), strict=True):
        saliency = (a * g).detach()
        saliency = saliency.flatten(2).sum(2) if a.dim() > 2 else saliency
        total += float(0.5 * saliency.square().mean(0).sum())
    return total


@_listed("synflow", "Tanaka et al., 2006.05467", "log of the sum of |weight| times gradient through |weights|; no data")
def synflow(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return ``log Σ |W ⊙ ∂R/∂W|`` with ``R = Σ f(1; |W|)``, in float64; −inf where R is 0.

    BatchNorms are left out. Deviation 3 from the released code: the logarithm, because the sum reaches 1e61.
    """
    net = _without_batchnorm(net.double())
    with torch.no_grad():
        for p in net.parameters():
            p.abs_()
    of = _weights(net)
    total = _logits(net, torch.ones(1, *x.shape[1:], dtype=torch.float64, device=x.device)).sum()
    score = sum(float((w.detach() * g).abs().sum()) for w, g in zip(of, _gradients(total, of), strict=True))
    return math.log(score) if score > 0 else -math.inf


def _without_batchnorm(net: nn.Module) -> nn.Module:
    for module in net.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
    return net


# --- how a batch is told apart ----------------------------------------------------------------------------------------


@_listed("jacob_cov", "Mellor et al., 2006.04647v1", "correlation of the input gradients of a batch")
def jacob_cov(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return −Σ_i [log(λ_i + k) + 1/(λ_i + k)], λ the eigenvalues of the correlation (B, B) of ∂Σf/∂x, k = 1e-5."""
    x = x.detach().clone().requires_grad_()
    rows = _gradients(_logits(net, x).sum(), [x])[0].flatten(1).double()
    correlation = torch.corrcoef(rows)
    if not bool(correlation.isfinite().all()):  # an image without influence
        return math.nan
    values = torch.linalg.eigvalsh(correlation) + 1e-5
    return -float((values.log() + 1 / values).sum())


def relu_codes(net: nn.Module, x: Tensor) -> Tensor:
    """Return (B, U) bool: which of the U ReLU units of the network are above 0, for each image."""
    found: list[Tensor] = []
    hooks = [
        m.register_forward_hook(lambda m, i, out: found.append((out > 0).flatten(1)))
        for m in net.modules()
        if isinstance(m, nn.ReLU)
    ]
    with torch.no_grad():
        _logits(net, x)
    for hook in hooks:
        hook.remove()
    return torch.cat(found, 1)


@_listed("naswot", "Mellor et al., 2006.04647", "log determinant of how many ReLU units agree between images")
def naswot(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return log det K, K_ij = number of ReLU units in the same state for images i and j; −inf where K is singular."""
    code = relu_codes(net, x).double()
    kernel = code @ code.T + (1 - code) @ (1 - code).T
    sign, value = torch.linalg.slogdet(kernel)
    return float(value) if sign > 0 else -math.inf


@_listed("regions", "TE-NAS, Chen et al., 2102.11535", "number of distinct ReLU patterns in the batch")
def regions(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """It is at most the number of images, and saturates there.

    Deviation 4: the network and the images are those of the other scores. The paper has a network of one channel and 1,000
    random inputs of 1 × 3 × 3.
    """
    return float(len(torch.unique(relu_codes(net, x), dim=0)))


@_listed(
    "zen", "Lin et al., 2102.01063", "log of the change of the last map under noise, with Gaussian weights; no data"
)
def zen(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return mean log ‖f(x + ε δ) − f(x)‖ + Σ log σ over BatchNorms (2102.01063 algorithm 1), ε = 0.01, x and δ Gaussian.

    f is the network before its pooling, with weights from N(0, 1). σ² is the mean over channels of the variance that a
    BatchNorm divides by. Adding log σ undoes the scaling. The draw follows from the weights of the network as it is given.

    Deviation 5: the mean is over the images of one batch, of the norms' logarithms. The released code takes the logarithm of the
    mean over 32 batches.
    """
    g = torch.Generator().manual_seed(
        int(sum(float(p.detach().double().abs().sum()) for p in net.parameters()) * 1e6) % 2**62
    )
    with torch.no_grad():
        for weight in _weights(net):
            weight.copy_(torch.randn(weight.shape, generator=g))
    inputs = torch.randn(x.shape, generator=g)
    moved = inputs + 0.01 * torch.randn(x.shape, generator=g)
    scales: list[float] = []

    def note(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        variance = given[0].double().var((0, 2, 3), unbiased=False).mean()
        scales.append(0.5 * math.log(float(variance) + 1e-5))

    norms = [m.register_forward_pre_hook(note) for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    first = _before_pooling(net, inputs.to(x.device, x.dtype))
    for hook in norms:
        hook.remove()
    change = (_before_pooling(net, moved.to(x.device, x.dtype)) - first).double().flatten(1).norm(dim=1)
    return float(change.log().mean()) + sum(scales)


def _before_pooling(net: nn.Module, x: Tensor) -> Tensor:
    """Return the input (B, C, H, W) of the network's last pooling to one value, or of its last flattening."""
    ends = [m for m in net.modules() if isinstance(m, nn.AdaptiveAvgPool2d)]
    ends = ends or [m for m in net.modules() if isinstance(m, nn.Flatten)]
    if not ends:
        raise OcheError("zen looks at the map before the last pooling, and this network has none; use another score")
    found: list[Tensor] = []
    hook = ends[-1].register_forward_pre_hook(lambda module, given: found.append(given[0]))
    with torch.no_grad():
        net(x)
    hook.remove()
    return found[-1]


def ntk(net: nn.Module, x: Tensor) -> Tensor:
    """Return the neural tangent kernel (B, B) of the sum of the logits: J Jᵀ, J_i = ∂ Σ logits_i / ∂ weights."""
    of = [p for p in net.parameters() if p.requires_grad]
    logits = _logits(net, x)
    rows = []
    for i in range(len(x)):
        gradients = torch.autograd.grad(logits[i].sum(), of, retain_graph=True, materialize_grads=True)
        rows.append(torch.cat([g.flatten() for g in gradients]))
    jacobian = torch.stack(rows).double()
    return jacobian @ jacobian.T


@_listed("ntk", "TE-NAS, Chen et al., 2102.11535", "minus the condition number of the neural tangent kernel")
def ntk_condition(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return −λ_max/λ_min of `ntk`; −inf where it is singular. BatchNorm normalises by the batch, as in the released code."""
    kernel = ntk(net, x)
    if not bool(kernel.isfinite().all()):
        return math.nan
    values = torch.linalg.eigvalsh(kernel)
    return -float(values[-1] / values[0]) if values[0] > 0 else -math.inf


def controls(net: nn.Module, x: Tensor) -> dict[str, Any]:
    """Return weights and FLOPs, which stand beside every training-free score."""
    return {"weights": count_parameters(net), "flops": count_flops(net, lambda: net(x[:1]))}
