"""The Hessian of the validation loss with respect to the architecture: exact products, and its dominant eigenvalue.

Shapes: a, a tuple of logits of any shapes, n numbers in all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from oche.core.errors import OcheError

Tensors = tuple[Tensor, ...]
Multiply = Callable[[np.ndarray], np.ndarray]  # v (n,) -> H v (n,)

DENSE = 32  # logits up to which all eigenvalues cost hardly more than the largest
BASIS = 20  # vectors that Lanczos' method keeps between two restarts


def hessian_product(loss: Callable[[Tensors], Tensor], a: Tensors) -> Callable[[Tensor], Tensor]:
    """Return the function v (n,) → ∇²loss(a) · v (n,), exact, by differentiating twice. The first derivative is computed
    once.

    ``loss`` must be a deterministic function of ``a``. Nothing is accumulated into ``.grad``. Raises `OcheError` if the
    loss is not finite.
    """
    with torch.enable_grad():
        leaves = tuple(t.detach().requires_grad_() for t in a)
        value = loss(leaves)
        if not torch.isfinite(value):
            raise OcheError(f"the loss is {value.item()}, which has no curvature; lower the learning rates")
        if not value.requires_grad:  # the loss uses no logits
            return torch.zeros_like
        slope = torch.autograd.grad(value, leaves, create_graph=True, materialize_grads=True)
        flat = torch.cat([s.flatten() for s in slope])

    def product(v: Tensor) -> Tensor:
        if not flat.requires_grad:  # the loss is linear
            return torch.zeros_like(v)
        rows = torch.autograd.grad(flat, leaves, v, retain_graph=True, materialize_grads=True)
        return torch.cat([r.flatten() for r in rows])

    return product


def dominant_eigenvalue(
    loss: Callable[[Tensors], Tensor],
    a: Tensors,
    which: Literal["algebraic", "magnitude"] = "algebraic",
    tolerance: float = 1e-6,
) -> float:
    """Return the dominant eigenvalue of the Hessian of ``loss`` with respect to all logits together.

    This is RobustDARTS' measure of sharpness (1909.09656 §4), by Lanczos' method on exact products
    (`scipy.sparse.linalg.eigsh`). ``which="algebraic"`` gives the largest eigenvalue, as the paper does (its released code
    from the dense spectrum). ``which="magnitude"`` gives the one farthest from zero, of either sign, which power iteration
    would find. ``tolerance`` is relative to the result or, if that is larger, to the typical size of the eigenvalues.

    Deviation 1: the released code adds the logits' weight decay to the diagonal, and so to the result.

    Raises `OcheError` if the loss or its second derivatives are not finite.
    """
    product = hessian_product(loss, a)
    n, like = sum(t.numel() for t in a), a[0]

    def multiply(v: np.ndarray) -> np.ndarray:
        found = product(torch.as_tensor(v, dtype=like.dtype, device=like.device)).detach().double().cpu().numpy()
        if not np.isfinite(found).all():
            raise OcheError("the second derivatives of the loss are not finite; lower the learning rates")
        return found

    tolerance = max(tolerance, torch.finfo(like.dtype).eps ** 0.5)  # products are no more precise than that
    values = _spectrum(multiply, n) if n <= DENSE else _lanczos(multiply, n, which, tolerance)
    return float(max(values, key=abs if which == "magnitude" else float))


def _spectrum(multiply: Multiply, n: int) -> np.ndarray:
    """Return all eigenvalues (n,), by n products."""
    return np.linalg.eigvalsh(np.stack([multiply(e) for e in np.eye(n)]))


def _lanczos(multiply: Multiply, n: int, which: str, tolerance: float) -> np.ndarray:
    """Return the dominant eigenvalue (1,); or all eigenvalues (n,) if about n products have not found it."""
    from scipy.sparse import linalg  # slow to import

    start = np.random.default_rng(0).standard_normal(n)  # scipy would draw it, and the last digits would vary
    image = multiply(start)
    if not image.any():  # no curvature at all, which ARPACK refuses
        return np.zeros(1)
    # ARPACK searches the range of H, which misses eigenvalue 0. H has it, since a softmax does not change when all its logits
    # shift, and at a maximum it is the largest. So the typical size of an eigenvalue is added to the diagonal of H.
    shift = 0.0 if which == "magnitude" else float(np.linalg.norm(image) / np.linalg.norm(start))
    solve: Any = linalg.eigsh
    try:
        found = solve(
            linalg.LinearOperator((n, n), matvec=lambda v: multiply(v) + shift * v, dtype=np.float64),  # pyright: ignore
            k=1,
            which="LM" if which == "magnitude" else "LA",
            tol=tolerance,
            v0=start,
            ncv=BASIS,
            maxiter=n // (BASIS - 1),
            return_eigenvectors=False,
        )
    except linalg.ArpackNoConvergence:
        return _spectrum(multiply, n)
    return found - shift
