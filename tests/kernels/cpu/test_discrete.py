"""Discrete cells on the compiled kernels against the plain modules, in float64: outputs, all gradients, running statistics."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from oche.core.genotypes import GENOTYPES
from oche.kernels.choose import set_form
from oche.kernels.cpu import build as native
from oche.kernels.cpu import discrete
from oche.kernels.cpu.cell import NATIVE
from oche.kernels.cpu.self_test import SmallNetworks
from oche.networks.build import build
from oche.networks.forms import PLAIN, DiscreteCell
from oche.proof.compare import errors
from oche.proof.values import BF16

try:
    native.load()
except native.Unavailable as reason:
    pytest.skip(f"no compiled kernels here: {reason}", allow_module_level=True)

TOLERANCE = 1e-9
CELLS = [name for name, published in GENOTYPES.items() if not {"recurrent", "chain"} & {*published.genotype.cells}]
ONE_BY_ONE = "|nor_conv_1x1~0|+|avg_pool_3x3~0|nor_conv_1x1~1|+|skip_connect~0|none~1|skip_connect~2|"


def network(genotype, channels=5, cells=3):
    cells = 1 if genotype.startswith("|") or genotype == "RESNET" else cells
    net = build(genotype, classes=3, channels=channels, cells=cells).double().train()
    for m in net.modules():  # scale and shift that would show if they were left out
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.uniform_(m.bias, -0.5, 0.5)
    return net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def outcome(net, form, x, drop=0.3):
    net = copy.deepcopy(net)
    set_form(net, form)
    net.set_drop_path(drop)
    torch.manual_seed(5)
    x = x.clone().requires_grad_()
    out = net(x)
    loss = F.cross_entropy(out, torch.arange(len(x)) % 3)
    return [
        out,
        *torch.autograd.grad(loss, [x, *net.parameters()], allow_unused=True, materialize_grads=True),
        *net.buffers(),
    ]


def assert_same(net, x, drop=0.3):
    got, want = outcome(net, NATIVE, x, drop), outcome(net, PLAIN, x, drop)
    for g, w in zip(got, want, strict=True):
        assert (g.double() - w.double()).abs().max() <= TOLERANCE * max(1.0, w.double().abs().max())


def whole(net):
    """For each cell, whether the kernels compute it as a whole."""
    return [discrete.program_of(m) is not None for m in net.modules() if isinstance(m, DiscreteCell)]


@pytest.mark.parametrize("name", CELLS)
def test_every_published_cell(name):
    torch.manual_seed(0)
    net = network(name)
    assert all(whole(net)) or name in ("AmoebaNet", "RESNET")
    assert_same(net, torch.randn(2, 3, 8, 9, dtype=torch.float64))


@pytest.mark.parametrize("channels", [1, 8, 12, 22])
def test_widths_that_fill_vectors_and_that_do_not(channels):
    torch.manual_seed(channels)
    assert_same(network("PDARTS", channels, cells=2), torch.randn(3, 3, 12, 8, dtype=torch.float64), drop=0.0)


def test_rows_wider_than_a_block_of_pixels():
    torch.manual_seed(0)
    assert_same(network("DARTS_V2", 2), torch.randn(1, 3, 8, 120, dtype=torch.float64))


def test_cells_of_another_space_without_preprocessing():
    torch.manual_seed(0)
    net = network(ONE_BY_ONE)
    assert whole(net) == [True] * 3
    assert_same(net, torch.randn(2, 3, 9, 8, dtype=torch.float64))


def test_dense_convolutions_are_left_to_torch(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a kernel was called")

    monkeypatch.setattr("oche.kernels.cpu.cell.Node.apply", refuse)
    net = network("RESNET")
    assert whole(net) == [False] * 3
    set_form(net, NATIVE)
    assert net(torch.randn(2, 3, 8, 8, dtype=torch.float64)).shape == (2, 3)


def test_one_rarer_operation_leaves_the_other_cells_whole():
    assert whole(network("AmoebaNet", cells=3)) == [True, False, False]  # 1 × 7 in the reduction cell
    assert whole(network("DARTS_V2")) == [True] * 3


def test_frozen_statistics_stay_and_evaluation_is_plain():
    from oche.training.losses import frozen_statistics

    net, x = network("DARTS_V2"), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    set_form(net, NATIVE)
    before = copy.deepcopy(list(net.buffers()))
    with frozen_statistics(net):
        net(x)
    assert all(torch.equal(a, b) for a, b in zip(before, net.buffers(), strict=True))
    net.eval()
    found = net(x)
    set_form(net, PLAIN)
    assert torch.equal(found, net(x))


def test_a_nan_is_not_hidden():
    net, x = network("PCDARTS_CIFAR").float(), torch.randn(2, 3, 8, 8)
    set_form(net, NATIVE)
    x[1, 0, 4, 4] = torch.nan
    assert net(x).isnan().any()


def test_threads_change_rounding_only():
    torch.manual_seed(0)
    net, x = network("DARTS_V2"), torch.randn(4, 3, 8, 8, dtype=torch.float64)
    one, before = outcome(net, NATIVE, x), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        two, again = outcome(net, NATIVE, x), outcome(net, NATIVE, x)
    finally:
        torch.set_num_threads(before)
    assert all(torch.allclose(a.double(), b.double(), rtol=1e-9, atol=1e-9) for a, b in zip(one, two, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(two, again, strict=True))


@pytest.mark.skipif(not discrete.has_bf16(), reason="this processor multiplies no bfloat16 numbers")
def test_products_in_bfloat16_are_near():
    plain, fast = SmallNetworks(False, True), SmallNetworks(True, True)
    plain.take(0)
    fast.take(0)
    found = errors(fast.evidence(), plain.evidence())
    assert 0 < found["loss"] < BF16.loss / 3 and found["statistics"] < BF16.statistics
    assert 1e-4 < found["gradients"] < BF16.gradients and found["tensor"] < BF16.tensor
    assert all(
        w.grad.dtype == torch.float32 for net, *_ in fast.networks for w in net.parameters() if w.grad is not None
    )


def test_weights_that_the_output_does_not_depend_on_get_no_gradient():
    """In the first cell nothing takes input 0, so weight decay must not move its preprocessing."""
    text = (
        "Genotype(normal=[('sep_conv_3x3', 1), ('skip_connect', 1)], normal_concat=[2], "
        "reduce=[('max_pool_3x3', 0), ('skip_connect', 1)], reduce_concat=[2])"
    )
    found = {}
    for name, form in (("plain", PLAIN), ("native", NATIVE)):
        torch.manual_seed(0)
        net = build(text, classes=3, channels=4, cells=3)
        set_form(net, form)
        net(torch.ones(2, 3, 16, 16)).sum().backward()
        found[name] = {key for key, p in net.named_parameters() if p.grad is None}
    assert found["native"] == found["plain"] and any("cells.0.preprocess0" in key for key in found["plain"])
