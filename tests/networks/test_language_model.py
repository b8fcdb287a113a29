"""Language models: sizes, windows, dropout masks."""

import math

import torch

from oche.networks.language_model import Dropouts
from oche.spaces.darts_rnn import RecurrentNetwork
from recurrent_cells import network, words

CLOSE = dict(rtol=1e-11, atol=1e-12)


def test_darts_model_has_the_published_number_of_weights():
    with torch.device("meta"):
        net = RecurrentNetwork("DARTS_RNN_V2", 10_000)
    assert sum(p.numel() for p in net.parameters()) == 22_960_000  # tied weights once


def test_a_text_in_two_windows_is_the_text():
    net, tokens = network("DARTS_RNN_V1").eval(), words()
    whole = net(tokens)
    first = net(tokens[:1])
    rest = net(tokens[1:], first.hidden)
    torch.testing.assert_close(torch.cat([first.logits, rest.logits]), whole.logits, **CLOSE)
    torch.testing.assert_close(rest.hidden, whole.hidden, **CLOSE)


def test_masks_keep_their_share_and_the_mean():
    net = network("DARTS_RNN_V1", dropouts=Dropouts(0.75, 0.25, 0.5, 0.0, 0.1))
    net = RecurrentNetwork("DARTS_RNN_V1", 1000, 300, net.dropouts)
    drawn = net.masks(64, torch.Generator().manual_seed(0))
    assert drawn.embedding is None
    for mask, rate in ((drawn.output, 0.75), (drawn.hidden, 0.25), (drawn.input, 0.5), (drawn.words, 0.1)):
        assert mask is not None and set(mask.unique().tolist()) == {0.0, torch.tensor(1 / (1 - rate)).item()}
        assert abs((mask == 0).float().mean() - rate) < 5 * math.sqrt(rate * (1 - rate) / mask.numel())


def test_training_draws_and_evaluation_does_not():
    net, tokens = network("DARTS_RNN_V1"), words()
    torch.manual_seed(0)
    one, other = net(tokens).logits, net(tokens).logits
    assert not torch.equal(one, other)
    torch.manual_seed(0)
    assert torch.equal(net(tokens).logits, one)
    net.eval()
    assert torch.equal(net(tokens).logits, net(tokens).logits)
