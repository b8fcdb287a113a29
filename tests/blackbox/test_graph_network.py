"""Graphs of operations, and the layers of the graph network, written out by hand."""

import numpy as np
import torch

import oche
from made_scores import moves, score
from oche.blackbox.graph_network import GraphNetwork, fit_graph_network, graph_of
from oche.blackbox.nasbench201_moves import BenchmarkMoves
from oche.core.nasbench201 import OPERATIONS


def test_the_graph_of_a_benchmark_cell():
    cell = BenchmarkMoves(OPERATIONS).build((3, 0, 2, 1, 4, 3))
    code = graph_of(cell, 1, OPERATIONS)
    features, arrows = code[:, :7], code[:, 7:]
    assert code.shape == (8, 15)
    assert features.argmax(1).tolist() == [0, 5, 2, 4, 3, 6, 5, 1] and (features.sum(1) == 1).all()
    # vertices: input, edges 01 02 12 03 13 23, output
    want = {(0, 1), (0, 2), (0, 4), (1, 3), (1, 5), (2, 6), (3, 6), (4, 7), (5, 7), (6, 7)}
    assert {*map(tuple, np.argwhere(arrows).tolist())} == want


def test_the_graph_of_two_darts_cells():
    space = oche.spaces.darts()
    cell = oche.genotypes.DARTS_V2
    ops = tuple(op for op in space.candidates if op != "none")
    code = graph_of(cell, 2, ops)
    arrows = code[:, -22:]
    assert code.shape == (22, 2 + 7 + 22)
    assert not arrows[:11, 11:].any() and not arrows[11:, :11].any()  # cells are apart
    assert arrows[:11, 10].sum() == 8 and arrows[10].sum() == 0  # every operation ends at an output node


def test_a_layer_averages_both_directions():
    torch.manual_seed(0)
    net = GraphNetwork(3, width=4, layers=1).eval()
    v, a = torch.rand(1, 3, 3), torch.tensor([[[0.0, 1, 1], [0, 0, 1], [0, 0, 0]]])
    along = torch.tensor([[1 / 3, 1 / 3, 1 / 3], [0, 1 / 2, 1 / 2], [0, 0, 1]])
    against = torch.tensor([[1, 0, 0], [1 / 2, 1 / 2, 0], [1 / 3, 1 / 3, 1 / 3]])
    hidden = (
        0.5 * (along @ v[0] @ net.along[0].weight.T).relu() + 0.5 * (against @ v[0] @ net.against[0].weight.T).relu()
    )
    want = (hidden.mean(0) @ net.out.weight[0] + net.out.bias[0]).sigmoid()
    torch.testing.assert_close(net(v, a)[0], want)


def test_it_learns_scores_and_repeats():
    small = moves()
    cells = small.everything()[::9]
    x, y = np.stack([small.encode(c, "graph") for c in cells]), np.array([score(c) for c in cells])
    before = torch.random.get_rng_state()
    first, second = (fit_graph_network(x[:60], y[:60], 3, epochs=40)(x[60:]) for _ in range(2))
    assert np.array_equal(first, second) and first.shape == (1, len(cells) - 60)
    assert np.corrcoef(first[0], y[60:])[0, 1] > 0.6
    assert torch.equal(before, torch.random.get_rng_state())
