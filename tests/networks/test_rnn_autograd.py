"""The unrolled form of recurrent cells against the plain modules in float64: values, gradients, second derivatives,
running statistics; and whole searches and trainings in both forms."""

import pytest
import torch

from oche.cost import flops
from oche.networks.language_model import DropoutMasks
from oche.networks.lstm import LSTMNetwork
from oche.spaces.darts_rnn import RecurrentNetwork
from oche.training.text_batches import word_loss
from recurrent_networks import both, compare, masks, normal, tokens

T, B, V, H = 4, 3, 6, 5
CLOSE = dict(rtol=1e-11, atol=1e-12)


# --- found cells


@pytest.mark.parametrize("drop", [True, False])
@pytest.mark.parametrize("name", ["DARTS_RNN_V1", "DARTS_RNN_V2", "ENAS_RNN"])
def test_found_cells(name, drop):
    torch.manual_seed(0)
    net, state = RecurrentNetwork(name, V, H).double(), normal(1, B, H).requires_grad_()
    m = masks() if drop else DropoutMasks()
    slopes = compare(net, lambda net: net(tokens(), state, m), [state, *net.parameters()])
    assert all(s.abs().max() > 0 for s in slopes)


def test_a_found_cell_differentiates_twice():
    torch.manual_seed(0)
    net = RecurrentNetwork("DARTS_RNN_V2", V, H).double()
    found = []
    for form in both(net):
        loss = word_loss(form(tokens(), None, masks()), tokens())
        slope = torch.autograd.grad(loss, [*net.parameters()], create_graph=True)
        found.append(torch.autograd.grad(sum(s.pow(2).sum() for s in slope), [*net.parameters()]))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, **CLOSE)


def test_a_found_cell_costs_the_same():
    net = RecurrentNetwork("DARTS_RNN_V2", V, H)
    one, other = [flops(form, lambda form=form: form(tokens())) for form in both(net)]
    assert one == other == 2 * T * B * (2 * H * 2 * H + 8 * H * 2 * H + H * V)


def test_a_network_with_one_form_says_nothing():
    assert LSTMNetwork(V, H).apply_form("auto") == ""
