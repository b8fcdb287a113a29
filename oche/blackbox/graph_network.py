"""The graph network of the neural predictor (Wen et al. 2020, 1912.00848 §3.2), and genotypes as graphs of operations.

Shapes: N architectures, V vertices of a graph, F features of a vertex.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from oche.core.architecture import Genotype

WIDTH, LAYERS, EPOCHS, BATCH = 144, 3, 300, 10


def graph_of(x: Genotype, inputs: int, candidates: tuple[str, ...]) -> np.ndarray:
    """Return (V, F + V) the features and the adjacency of the graph whose vertices are the operations of ``x``.

    A vertex is an input of a cell, an operation on an edge, or the output of a cell. An arrow leads from what ends at a node to
    what starts there. Features are one-hot: input, output, or one of the ``candidates``.
    """
    kinds = {"input": 0, "output": 1} | {op: 2 + o for o, op in enumerate(candidates)}
    vertices: list[tuple[str, int, int, tuple[int, ...]]] = []  # kind, cell, where it starts, where it ends
    for c, cell in enumerate(x.cells.values()):
        vertices += [("input", c, -1, (i,)) for i in range(inputs)]
        vertices += [(op, c, source, (target,)) for op, source, target in cell.edges]
        vertices += [("output", c, -2, tuple(cell.concat))]
    features = np.zeros((len(vertices), len(kinds)), np.float32)
    features[np.arange(len(vertices)), [kinds[kind] for kind, *_ in vertices]] = 1
    arrows = np.zeros((len(vertices), len(vertices)), np.float32)
    for i, (kind, c, _, ends) in enumerate(vertices):
        for j, (other, d, start, outputs) in enumerate(vertices):
            leads = ends[0] in outputs if other == "output" else start == ends[0]
            arrows[i, j] = kind != "output" and c == d and leads
    return np.concatenate([features, arrows], 1)


class GraphNetwork(nn.Module):
    """Three layers V' = ½ ReLU(A V W⁺) + ½ ReLU(Aᵀ V W⁻), the mean over vertices, and a sigmoid.

    A is the adjacency with self loops, its rows scaled to sum 1, and so is that of the reversed arrows.
    """

    def __init__(self, features: int, width: int = WIDTH, layers: int = LAYERS) -> None:
        super().__init__()
        sizes = [features, *[width] * layers]
        self.along = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairwise(sizes))
        self.against = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairwise(sizes))
        self.drop = nn.Dropout(0.1)
        self.out = nn.Linear(width, 1)

    def forward(self, features: Tensor, arrows: Tensor) -> Tensor:
        """Return predictions (N,) in (0, 1) for features (N, V, F) and adjacency (N, V, V)."""
        own = torch.eye(arrows.shape[1])
        along, against = ((a + own) / (a + own).sum(2, keepdim=True) for a in (arrows, arrows.transpose(1, 2)))
        v = features
        for forward, backward in zip(self.along, self.against, strict=True):
            v = self.drop(0.5 * forward(along @ v).relu() + 0.5 * backward(against @ v).relu())
        return self.out(v.mean(1))[:, 0].sigmoid()


def fit_graph_network(x: np.ndarray, y: np.ndarray, seed: int, epochs: int = EPOCHS):
    """Fit the network to codes of `graph_of` (N, V, F + V) by Adam, weight decay 1e-3, 300 epochs of batches of 10.

    Deviation 1: scores are scaled to 0.1 … 0.9, so that the sigmoid suits any score.
    Deviation 2: the rate is 1e-3 and falls along a cosine. The paper has 1e-4 for 172 cells.
    """
    low, span = float(y.min()), float(y.max() - y.min()) or 1.0
    features, arrows = _unpack(x)
    targets = torch.from_numpy(0.1 + 0.8 * (y - low) / span).float()
    g = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = GraphNetwork(features.shape[2])
        adam = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=1e-3)
        batches = epochs * -(-len(y) // BATCH)
        rate = torch.optim.lr_scheduler.CosineAnnealingLR(adam, batches)
        for _ in range(epochs):
            for rows in torch.randperm(len(y), generator=g).split(BATCH):
                loss = (net(features[rows], arrows[rows]) - targets[rows]).square().mean()
                adam.zero_grad()
                loss.backward()
                adam.step()
                rate.step()
    net.eval()

    def predict(z: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            found = torch.cat([net(*_unpack(part)) for part in np.array_split(z, -(-len(z) // 1000))])
        return (found.double().numpy()[None] - 0.1) / 0.8 * span + low

    return predict


def _unpack(x: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return features (N, V, F) and adjacency (N, V, V) of codes (N, V, F + V)."""
    features = x.shape[2] - x.shape[1]
    return torch.from_numpy(x[:, :, :features].copy()), torch.from_numpy(x[:, :, features:].copy())
