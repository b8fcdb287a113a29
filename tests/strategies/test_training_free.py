"""Training-free scores against formulas written out by hand."""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import oche
from oche.core.errors import OcheError
from oche.strategies import training_free as scores

G = torch.Generator().manual_seed(0)
X, Y = torch.randn(6, 3, 4, 4, generator=G), torch.tensor([0, 1, 2, 0, 1, 2])
CELL = oche.Genotype.parse(
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"
)


def linear(*sizes):
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), *(nn.Linear(a, b, bias=False) for a, b in pairwise(sizes)))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return oche.build(CELL, classes=3, channels=4, cells=1, image=8)


def batch():
    return torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(3)), Y


def test_synflow_of_linear_layers():
    net = linear(48, 5, 4, 3)
    product = torch.ones(48, dtype=torch.float64)
    for layer in list(net)[1:]:
        product = layer.weight.detach().double().abs() @ product
    assert scores.evaluate_score("synflow", net, X, Y) == pytest.approx(math.log(3 * product.sum().item()))


def test_gradient_scores_of_one_linear_layer():
    net = linear(48, 3)
    w = net[1].weight.detach()
    p = (X.flatten(1) @ w.T).softmax(1) - F.one_hot(Y, 3)
    gradient = p.T @ X.flatten(1) / 6
    assert scores.evaluate_score("snip", net, X, Y) == pytest.approx((gradient * w).abs().sum().item(), rel=1e-5)
    assert scores.evaluate_score("plain", net, X, Y) == pytest.approx((gradient * w).sum().item(), rel=1e-4)
    assert scores.evaluate_score("grad_norm", net, X, Y) == pytest.approx(gradient.norm().item(), rel=1e-5)


def test_grasp_against_the_hessian():
    net = linear(48, 3)
    w = net[1].weight.detach()

    def loss(flat):
        return F.cross_entropy(X.flatten(1) @ flat.view(3, 48).T, Y)

    hessian = torch.autograd.functional.hessian(loss, w.flatten())
    gradient = torch.autograd.functional.jacobian(loss, w.flatten())
    assert scores.evaluate_score("grasp", net, X, Y) == pytest.approx(
        -(hessian @ gradient @ w.flatten()).item(), rel=1e-4
    )


def test_fisher_of_one_linear_layer():
    net = linear(48, 3)
    out = net(X).detach()
    gradient = (out.softmax(1) - F.one_hot(Y, 3)) / 6
    want = 0.5 * (out * gradient).square().mean(0).sum()
    assert scores.evaluate_score("fisher", net, X, Y) == pytest.approx(want.item(), rel=1e-4)


def test_the_kernel_of_a_linear_model():
    rows = X.flatten(1).double()
    assert torch.allclose(scores.ntk(linear(48, 3), X), 3 * rows @ rows.T)
    values = torch.linalg.eigvalsh(rows @ rows.T)
    assert scores.evaluate_score("ntk", linear(48, 3), X, Y) == pytest.approx(
        -(values[-1] / values[0]).item(), rel=1e-3
    )


def test_codes_of_units_by_hand():
    net = nn.Sequential(nn.Flatten(), nn.ReLU())
    x = torch.tensor([[1.0, -1, 1, 1], [1.0, 1, -1, 1], [1.0, -1, 1, 1]]).view(3, 1, 2, 2)
    assert scores.evaluate_score("regions", net, x, Y[:3]) == 2
    two = x[:2]  # they agree on 2 of 4 units: K = [[4, 2], [2, 4]]
    assert scores.evaluate_score("naswot", net, two, Y[:2]) == pytest.approx(math.log(12))
    assert scores.evaluate_score("naswot", net, x, Y[:3]) == -math.inf  # equal images


def test_jacob_cov_of_a_linear_model():
    net = linear(48, 3)  # all images have the same input gradient: eigenvalues B, 0 …
    k = 1e-5
    want = -(math.log(6 + k) + 1 / (6 + k) + 5 * (math.log(k) + 1 / k))
    assert scores.evaluate_score("jacob_cov", net, X, Y) == pytest.approx(want, rel=1e-2)


def test_weights_follow_from_the_operations():
    net = oche.build(CELL, classes=10)
    assert scores.evaluate_score("weights", net, torch.zeros(2, 3, 32, 32), Y[:2]) == 73_306 + 243_040 * 3 + 28_000


@pytest.mark.parametrize("name", scores.SCORES)
def test_a_score_changes_nothing(name, network):
    before = {k: v.clone() for k, v in network.state_dict().items()}
    network.eval()
    first = scores.evaluate_score(name, network, *batch())
    assert not network.training and math.isfinite(first)
    assert first == scores.evaluate_score(name, network, *batch())
    after = network.state_dict()
    assert all(after[k].dtype == v.dtype and torch.equal(after[k], v) for k, v in before.items())


def test_a_cell_without_a_path():
    torch.manual_seed(0)
    net = oche.build("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|", classes=3, channels=4, cells=1, image=8)
    found = {name: scores.evaluate_score(name, net, *batch()) for name in scores.SCORES}
    assert math.isnan(found["jacob_cov"])  # no image has influence on the logits
    assert found["regions"] == 1 and found["naswot"] == found["synflow"] == -math.inf


def test_an_unknown_score_is_refused():
    with pytest.raises(OcheError, match="did you mean 'naswot'"):
        scores.find_score("naswat")


def test_controls(network):
    assert scores.controls(network, batch()[0])["weights"] == sum(p.numel() for p in network.parameters())


def gaussian(net, *shapes):
    """The draws of a zen score: Gaussian weights, the images and their noise."""
    seed = int(sum(float(p.detach().double().abs().sum()) for p in net.parameters()) * 1e6) % 2**62
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=g) for shape in shapes]


def test_zen_of_one_convolution_by_hand():
    net = nn.Sequential(nn.Conv2d(3, 2, 3, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    w, _, noise = gaussian(net, (2, 3, 3, 3), X.shape, X.shape)
    want = (0.01 * F.conv2d(noise, w)).flatten(1).norm(dim=1).log().mean()
    assert scores.evaluate_score("zen", net, X, Y) == pytest.approx(want.item(), abs=1e-3)


def test_zen_adds_back_what_a_batchnorm_divides_by():
    net = nn.Sequential(nn.Conv2d(3, 2, 3, bias=False), nn.BatchNorm2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    w, images, noise = gaussian(net, (2, 3, 3, 3), X.shape, X.shape)
    maps = [F.conv2d(x, w) for x in (images, images + 0.01 * noise)]
    normal = [F.batch_norm(m, None, None, training=True) for m in maps]
    sigma = maps[0].var((0, 2, 3), unbiased=False).mean().sqrt()
    want = (normal[1] - normal[0]).flatten(1).norm(dim=1).log().mean() + sigma.log()
    assert scores.evaluate_score("zen", net, X, Y) == pytest.approx(want.item(), abs=1e-3)
    with pytest.raises(OcheError, match="last pooling"):
        scores.evaluate_score("zen", nn.Conv2d(3, 3, 3), X, Y)
