"""The LSTM baseline against torch's own LSTM in float64, its dropouts, its size."""

import pytest
import torch

from oche.networks.language_model import DropoutMasks, Dropouts
from oche.networks.lstm import LSTMNetwork, width_for_weights

T, B, V, H = 6, 3, 11, 5
TOKENS = torch.arange(T * B).view(T, B) % V


def make(**rates):
    torch.manual_seed(1)
    none = dict.fromkeys(("output", "hidden", "input", "embedding", "words"), 0.0)
    return LSTMNetwork(V, H, Dropouts(**{**none, **rates})).double()


def test_against_torch():
    net, state = make(), torch.randn(2, B, H, dtype=torch.float64)
    theirs = torch.nn.LSTM(H, H).double()
    theirs.load_state_dict({
        "weight_ih_l0": net.cell.inner.weight, "bias_ih_l0": net.cell.inner.bias,
        "weight_hh_l0": net.cell.outer.weight, "bias_hh_l0": torch.zeros(4 * H, dtype=torch.float64),
    })  # fmt: skip
    for start in (None, state):
        ours = net(TOKENS, start)
        begun = None if start is None else (state[:1], state[1:])
        raw, (h, c) = theirs(net.embedding(TOKENS), begun)
        torch.testing.assert_close(ours.raw, raw)
        torch.testing.assert_close(ours.hidden, torch.cat([h, c]))
        torch.testing.assert_close(ours.logits, raw @ net.embedding.weight.t() + net.bias)


def test_two_windows_are_one_long_one():
    net = make()
    whole, first = net(TOKENS), net(TOKENS[:2])
    second = net(TOKENS[2:], first.hidden)
    torch.testing.assert_close(torch.cat([first.logits, second.logits]), whole.logits)
    torch.testing.assert_close(second.hidden, whole.hidden)


def test_masks_written_out():
    net = make(output=0.5, hidden=0.4, input=0.3, embedding=0.2, words=0.1).train()
    masks = net.masks(B)
    out = net(TOKENS, None, masks)
    h = c = torch.zeros(B, H, dtype=torch.float64)
    for t in range(T):
        x = net.embedding.weight[TOKENS[t]] * masks.words[TOKENS[t]][:, None] * masks.embedding * masks.input
        gates = x @ net.cell.inner.weight.t() + net.cell.inner.bias + (h * masks.hidden) @ net.cell.outer.weight.t()
        i, f, g, o = gates.view(B, 4, H).unbind(1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        torch.testing.assert_close(out.raw[t], h)
        torch.testing.assert_close(out.dropped[t], h * masks.output)
    torch.testing.assert_close(out.logits, out.dropped @ net.embedding.weight.t() + net.bias)


def test_nothing_is_dropped_in_evaluation_and_masks_are_drawn_in_training():
    net = make(output=0.5, hidden=0.5, input=0.5, embedding=0.5, words=0.5)
    plain = net.eval()(TOKENS).logits
    assert torch.equal(plain, net(TOKENS, None, net.masks(B)).logits)
    torch.testing.assert_close(plain, net.train()(TOKENS, None, DropoutMasks()).logits)
    assert not torch.equal(net(TOKENS).logits, net(TOKENS).logits)


@pytest.mark.parametrize(("vocabulary", "weights"), [(10_000, 22_960_000), (10_000, 500_000), (50, 3_000), (50, 1)])
def test_the_width_of_equal_size_is_the_nearest(vocabulary, weights):
    def size(width):
        return sum(w.numel() for w in LSTMNetwork(vocabulary, width).parameters())

    width = width_for_weights(weights, vocabulary)
    gap = abs(size(width) - weights)
    assert all(gap <= abs(size(other) - weights) for other in (max(1, width - 1), width + 1))
