"""Models that predict scores from encodings: a random forest of scikit-learn, and an ensemble of small networks.

Shapes: N architectures of F features, M members of an ensemble.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import numpy as np
import torch

from oche.blackbox.moves import Encoding, Moves
from oche.core.architecture import Genotype

Model = Literal["forest", "mlp"]


Surrogate = Callable[[list[Genotype]], np.ndarray]
"""A fitted model: returns (M, N) the prediction of each member for genotypes."""


def encoded(moves: Moves, cells: list[Genotype], encoding: Encoding | None) -> np.ndarray:
    """Return (N, F) the encodings of ``cells``; None: the default encoding of the space."""
    return np.stack([moves.encode(cell, encoding or moves.default_encoding) for cell in cells])


def fit(
    model: Model, moves: Moves, cells: list[Genotype], scores: list[float], seed: int, encoding: Encoding | None = None
) -> Surrogate:
    """Fit a model to (N,) ``scores`` of ``cells``. Scores that are not finite count as the lowest finite one."""
    x, y = encoded(moves, cells, encoding), np.array(scores, dtype=np.float64)
    finite = np.isfinite(y)
    y[~finite] = y[finite].min() if finite.any() else 0.0
    predict = _forest(x, y, seed) if model == "forest" else _networks(x, y, seed)
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
