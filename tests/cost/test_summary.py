"""`oche cost`: what it counts against hand-made sums, what it writes, what it refuses."""

import pytest
import torch

import oche
from cost_cases import BY_HAND
from oche.cost import flops, parameters
from oche.cost import module_cost as clock
from oche.cost.summary import summarise_costs
from oche.devices.engine import Engine


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Two runs are enough where the time itself is not looked at."""
    monkeypatch.setattr(clock, "MIN_RUNS", 2)
    monkeypatch.setattr(clock, "MIN_SECONDS", 0.0)


def test_candidates_by_hand():
    space = oche.spaces.darts(channels=4, cells=3, classes=3, in_channels=1, image=(8, 8))
    genotype = oche.genotypes.DARTS_V2
    net = oche.build(genotype, classes=3, channels=4, cells=3, in_channels=1, image=8)
    found = summarise_costs(net, genotype, space, Engine("cpu", 1))
    places = [(c.place.channels, c.place.stride, c.place.size) for c in found.candidates]
    assert {*places} == {(4, 1, (8, 8)), (8, 2, (8, 8)), (8, 1, (4, 4)), (16, 2, (4, 4)), (16, 1, (2, 2))}
    assert len(places) == 5 * 8
    for c in found.candidates:
        (h, w), s = c.place.size, c.place.stride
        assert (c.cost.parameters, c.cost.macs) == BY_HAND[c.operation](c.place.channels, s, (h // s) * (w // s)), c
        assert c.cost.flops == 2 * c.cost.macs and c.cost.time.median > 0
    assert found.parts > 0 and found.network.parameters == sum(p.numel() for p in net.parameters())


def darts_v2(c=48, cells=14, classes=1000):
    """Weights and multiply-adds of DARTS_V2's network for ImageNet at 224 x 224, layer by layer (1806.09055 §A.3)."""
    conv = lambda a, b, k, n: (a * b * k * k, n * a * b * k * k)  # noqa: E731
    rows = [conv(3, c // 2, 3, 112**2), conv(c // 2, c, 3, 56**2), conv(c, c, 3, 28**2)]
    norms, previous, last, side = c // 2 + c + c, c, c, 28
    for i in range(cells):
        reduce = i in (cells // 3, 2 * cells // 3)
        c *= 2 if reduce else 1
        rows += [conv(previous, c, 1, side**2), conv(last, c, 1, side**2)]
        norms += 2 * c
        out = side // 2 if reduce else side
        cell = oche.genotypes.DARTS_V2.cells["reduce" if reduce else "normal"]
        for op, source, _ in cell.edges:
            w, m = BY_HAND[op](c, 2 if reduce and source < 2 else 1, out**2)
            rows.append((w, m))
        side = out
        previous, last = last, 4 * c
    rows.append((last * classes + classes, last * classes))
    return sum(w for w, _ in rows) + 2 * norms, sum(m for _, m in rows)


def test_a_whole_network_by_hand():
    net = oche.build("DARTS_V2", classes=1000, channels=48, cells=14, stem="imagenet", image=224)
    weights, macs = darts_v2()
    assert parameters(net) == weights == 4718752  # published: 4.7 M
    assert flops(net, lambda: net(torch.zeros(1, 3, 224, 224))) == 2 * macs
    assert macs == 529911552  # published: 574 M, by a way of counting that nobody has found out


def test_published_multiply_adds_of_gdas():
    """581 M and 5.3 M at C = 50 in 1910.04465: the same operations are counted there."""
    net = oche.build("GDAS_V1", classes=1000, channels=50, cells=14, stem="imagenet", image=224)
    assert round(flops(net, lambda: net(torch.zeros(1, 3, 224, 224))) / 2e6) == 581
    assert round(parameters(net) / 1e6, 1) == 5.3
