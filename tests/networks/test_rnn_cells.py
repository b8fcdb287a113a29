"""Recurrent cells and their language models against naive ones, word by word and unit by unit, in float64."""

import math

import pytest
import torch

from oche.core import genotypes
from oche.core.architecture import Genotype
from oche.core.errors import OcheError
from oche.networks.language_model import DropoutMasks, Dropouts
from oche.spaces.darts_rnn import RecurrentNetwork
from recurrent_cells import network, words

T, B, V, H = 4, 3, 7, 5
CLOSE = dict(rtol=1e-11, atol=1e-12)
ACTIVATIONS = {
    "tanh": math.tanh,
    "relu": lambda h: max(h, 0.0),
    "sigmoid": lambda h: 1 / (1 + math.exp(-h)),
    "identity": lambda h: h,
}


def sigmoid(c):
    return 1 / (1 + math.exp(-c))


def masks(seed=0):
    """Masks that differ in every entry."""
    g = torch.Generator().manual_seed(seed)
    drawn = {
        name: torch.rand(V if name == "words" else (B, H), generator=g).double() + 0.5 for name in DropoutMasks._fields
    }
    return DropoutMasks(**drawn)


def ones():
    return DropoutMasks(*(torch.ones(V if name == "words" else (B, H)).double() for name in DropoutMasks._fields))


def product(row, matrix):
    return [sum(r * m for r, m in zip(row, column, strict=True)) for column in zip(*matrix, strict=True)]


def by_hand(net, cell, tokens, state, m):
    """Logits [T][B][V] and states [T][B][H] in plain Python."""
    embedding, bias = net.embedding.weight.tolist(), net.bias.tolist()
    first, nodes = net.cell.first.tolist(), net.cell.nodes.tolist()
    m = {k: v.tolist() for k, v in m._asdict().items()}
    states, logits = [list(map(list, state))], []
    for t in range(T):
        states.append([])
        logits.append([])
        for b in range(B):
            word, before = int(tokens[t, b]), states[t][b]
            x = [embedding[word][i] * m["words"][word] * m["embedding"][b][i] * m["input"][b][i] for i in range(H)]
            out = product(x + [before[i] * m["hidden"][b][i] for i in range(H)], first)
            h = [[before[i] + sigmoid(out[i]) * (math.tanh(out[H + i]) - before[i]) for i in range(H)]]
            for node, (name, source, _) in enumerate(cell.edges):
                s = h[source]
                out = product([s[i] * m["hidden"][b][i] for i in range(H)], nodes[node])
                h.append([s[i] + sigmoid(out[i]) * (ACTIVATIONS[name](out[H + i]) - s[i]) for i in range(H)])
            mean = [sum(h[node][i] for node in cell.concat) / len(cell.concat) for i in range(H)]
            states[-1].append(mean)
            dropped = [mean[i] * m["output"][b][i] for i in range(H)]
            logits[-1].append([sum(d * e for d, e in zip(dropped, row, strict=True)) for row in embedding])
            logits[-1][-1] = [a + c for a, c in zip(logits[-1][-1], bias, strict=True)]
    return torch.tensor(logits, dtype=torch.float64), torch.tensor(states[1:], dtype=torch.float64)


@pytest.mark.parametrize("name", ["DARTS_RNN_V1", "DARTS_RNN_V2", "ENAS_RNN"])
def test_final_network(name):
    net, tokens, m = network(name), words(), masks()
    state = torch.randn(1, B, H, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        net.bias.normal_(generator=torch.Generator().manual_seed(2))
        got = net(tokens, state, m)
        logits, states = by_hand(net, net.genotype.recurrent, tokens, state[0].tolist(), m)
        torch.testing.assert_close(got.logits, logits, **CLOSE)
        torch.testing.assert_close(got.raw, states, **CLOSE)
        torch.testing.assert_close(got.hidden, states[-1:], **CLOSE)
        torch.testing.assert_close(got.dropped, states * m.output, **CLOSE)
        plain = net.eval()(tokens, state, m)  # dropouts play no part in evaluation
        torch.testing.assert_close(
            plain.logits, by_hand(net, net.genotype.recurrent, tokens, state[0].tolist(), ones())[0], **CLOSE
        )


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: RecurrentNetwork("DARTS_V2", V, H), "normal, reduce.*DARTS_RNN_V2"),
        (lambda: RecurrentNetwork("Genotype(recurrent=[('tan', 0)], concat=[1])", V, H), "did you mean 'tanh'"),
        (lambda: RecurrentNetwork("Genotype(recurrent=[('tanh', 0, 1), ('relu', 0, 1)], concat=[1])", V, H), "several"),
        (lambda: RecurrentNetwork("Genotype(recurrent=[('tanh', 0, 2)], concat=[2])", V, H), "number them from 1"),
        (lambda: RecurrentNetwork("DARTS_RNN_V1", 0, H), "vocabulary=0"),
        (lambda: Dropouts(hidden=1.0), "hidden=1.0"),
    ],
)
def test_impossible_networks_are_refused(make, words):
    with pytest.raises(OcheError, match=words) as caught:
        make()
    assert len(str(caught.value).splitlines()) == 1


def test_text_form_gives_the_cell_back():
    for name in ("DARTS_RNN_V1", "ENAS_RNN"):
        assert Genotype.parse(str(genotypes.get(name))) == genotypes.get(name)
