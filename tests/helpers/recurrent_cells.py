"""Recurrent networks and the same written out by hand."""

import torch

from oche.spaces.darts_rnn import RecurrentNetwork

T, B, V, H = 4, 3, 7, 5


def words(seed=0):
    return torch.randint(V, (T, B), generator=torch.Generator().manual_seed(seed))


def network(name, **fields):
    torch.manual_seed(0)
    return RecurrentNetwork(name, V, H, **fields).double()
