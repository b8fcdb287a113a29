"""Models that predict scores from encodings: a random forest of scikit-learn, an ensemble of small networks, a Gaussian
process. The graph network is in `oche.blackbox.graph_network`.

Shapes: N architectures of F features, M members of an ensemble.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product
from typing import Literal

import numpy as np
import torch

from oche.blackbox.graph_network import fit_graph_network
from oche.blackbox.moves import Encoding, Moves
from oche.core.architecture import Genotype
from oche.core.errors import OcheError

Model = Literal["forest", "mlp", "gp", "gcn"]


Surrogate = Callable[[list[Genotype]], np.ndarray]
"""A fitted model: returns (M, N) the prediction of each member for genotypes."""


def encoded(moves: Moves, cells: list[Genotype], encoding: Encoding | None) -> np.ndarray:
    """Return (N, F) the encodings of ``cells``; None: the default encoding of the space."""
    return np.stack([moves.encode(cell, encoding or moves.default_encoding) for cell in cells])


def fit(
    model: Model, moves: Moves, cells: list[Genotype], scores: list[float], seed: int, encoding: Encoding | None = None
) -> Surrogate:
    """Fit a model to (N,) ``scores`` of ``cells``. Scores that are not finite count as the lowest finite one."""
    if model == "gcn":
        encoding = "graph"
    elif encoding == "graph":
        raise OcheError(
            f"model={model!r} takes vectors, and 'graph' is no vector; use one-hot or paths, or model='gcn'"
        )
    x, y = encoded(moves, cells, encoding), np.array(scores, dtype=np.float64)
    finite = np.isfinite(y)
    y[~finite] = y[finite].min() if finite.any() else 0.0
    predict = _FIT[model](x, y, seed)
    return lambda others: predict(encoded(moves, others, encoding))


def _forest(x: np.ndarray, y: np.ndarray, seed: int):
    """Fit a forest of 100 trees with a third of the features in each split. A member is a tree."""
    from sklearn.ensemble import RandomForestRegressor  # takes half a second, which most commands need not wait

    forest = RandomForestRegressor(100, max_features=1 / 3, random_state=seed % (1 << 32), n_jobs=1).fit(x, y)
    return lambda z: np.stack([tree.tree_.predict(np.ascontiguousarray(z, np.float32))[:, 0] for tree in forest])


_WIDTH, _DEPTH, _MEMBERS, _EPOCHS, _BATCH = 20, 10, 5, 150, 32


def _networks(x: np.ndarray, y: np.ndarray, seed: int):
    """Fit 5 networks of 10 layers of 20 units, with the mean absolute error, by Adam at 0.01 in 150 epochs of batches of 32
    (the released code of 1910.11858).

    Deviation 1: scores are standardised, where the released code divides by their mean.
    """
    g = torch.Generator().manual_seed(seed)
    centre, spread = float(np.median(y)), float(y.std()) or 1.0
    inputs, targets = torch.from_numpy(x).float(), torch.from_numpy((y - centre) / spread).float()
    sizes = [x.shape[1], *[_WIDTH] * _DEPTH, 1]
    weights = [(torch.randn(_MEMBERS, a, b, generator=g) * (2 / a) ** 0.5).requires_grad_() for a, b in pairwise(sizes)]
    biases = [torch.zeros(_MEMBERS, 1, b, requires_grad=True) for b in sizes[1:]]

    def forward(z: torch.Tensor) -> torch.Tensor:  # (M, N, F) -> (M, N)
        for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            z = torch.baddbmm(bias, z, weight)
            z = z.relu() if i < _DEPTH else z
        return z[..., 0]

    adam = torch.optim.Adam([*weights, *biases], lr=0.01)
    for _ in range(_EPOCHS):
        order = torch.stack([torch.randperm(len(y), generator=g) for _ in range(_MEMBERS)])
        for rows in order.split(_BATCH, 1):
            loss = (forward(inputs[rows]) - targets[rows]).abs().mean(1).sum()
            adam.zero_grad()
            loss.backward()
            adam.step()

    def predict(z: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            wide = torch.from_numpy(z).float().expand(_MEMBERS, *z.shape)
            return forward(wide).double().numpy() * spread + centre

    return predict


_LENGTHS, _NOISES = (1.0, 2.0, 4.0, 8.0, 16.0), (0.01, 0.1)


def _gaussian_process(x: np.ndarray, y: np.ndarray, seed: int):
    """Fit a Gaussian process to standardised scores: exp(−d² / 2 l²), with length l and noise of the largest marginal likelihood
    among `_LENGTHS` and `_NOISES`. The two members are mean − sd and mean + sd of the latent function.
    """
    del seed
    centre, spread = float(y.mean()), float(y.std()) or 1.0
    target, own = (y - centre) / spread, _squared_distances(x, x)

    def solved(length: float, noise: float) -> tuple[float, np.ndarray, np.ndarray]:
        """Return the log marginal likelihood, the Cholesky factor (N, N) of the covariance, and its solution (N,) for y."""
        factor = np.linalg.cholesky(np.exp(-own / (2 * length**2)) + noise * np.eye(len(y)))
        alpha = np.linalg.solve(factor.T, np.linalg.solve(factor, target))
        return float(-0.5 * target @ alpha - np.log(np.diag(factor)).sum()), factor, alpha

    tried = {pair: solved(*pair) for pair in product(_LENGTHS, _NOISES)}
    length, noise = max(tried, key=lambda pair: tried[pair][0])
    _, factor, alpha = tried[length, noise]

    def predict(z: np.ndarray) -> np.ndarray:
        cross = np.exp(-_squared_distances(z, x) / (2 * length**2))
        mean = cross @ alpha
        sd = np.sqrt(np.maximum(0.0, 1 - (np.linalg.solve(factor, cross.T) ** 2).sum(0)))
        return np.stack([mean - sd, mean + sd]) * spread + centre

    return predict


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return np.maximum(0.0, (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T)


_FIT = {"forest": _forest, "mlp": _networks, "gp": _gaussian_process, "gcn": fit_graph_network}
