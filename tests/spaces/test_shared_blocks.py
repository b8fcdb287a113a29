"""Masked blocks are sliced blocks, exactly; their masks, gradients, and what is refused."""

import pytest
import torch

import oche
from oche.core.architecture import Shape
from oche.core.blocks import Block
from oche.core.errors import OcheError
from oche.methods.recipe import SearchRecipe
from oche.networks.chain import build_block
from oche.spaces import chain, darts, fbnet
from oche.spaces.shared_blocks import SharedBlocks, SharedOperation
from oche.training.losses import frozen_statistics
from published_methods import search

NAMES = ("none", "mb_k3_e2", "mb_k5_e2", "mb_k3_e4", "mb_k7_e3")
SPACE = chain(
    first=("conv_k3_c4",), widths=(4, 6), layers=(1, 1), strides=(1, 2), last="conv_k1_c8", candidates=NAMES, classes=3,
    in_channels=1, image=(8, 8),
)  # fmt: skip
SHAPE = Shape(3, 5, 2)


def edge(train=True):
    torch.manual_seed(0)
    made = SharedOperation(SPACE, SHAPE).double()
    for norm in (made.norm_1, made.norm_2, made.norm_3):
        for t in (norm.weight, norm.bias, norm.running_mean):
            t.data.normal_()
        norm.running_var.uniform_(0.5, 2)
    return made.train(train)


def x():
    return torch.randn(4, 3, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def one_hot(o):
    return torch.eye(len(NAMES), dtype=torch.float64)[o]


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("o", [1, 2, 3, 4])
def test_masked_is_sliced(o, train):
    """The masks of one candidate, its slice, and a block of its own with the sliced weights."""
    made = edge(train)
    with frozen_statistics(made):
        masked = made(x(), one_hot(o), (0, 1, 2, 3, 4))
        sliced = made(x(), one_hot(o), (o,))
    torch.testing.assert_close(masked, sliced, rtol=1e-12, atol=1e-12)

    block = Block.parse(NAMES[o])
    alone = build_block(block, SHAPE).double().train(train)
    c, cut = 3 * block.expansion, (7 - block.kernel) // 2
    state = dict(zip(alone.state_dict(), alone.state_dict().values(), strict=True))
    its = {
        "0": made.expand, "1": made.norm_1, "3": made.depthwise, "4": made.norm_2, "6": made.project, "7": made.norm_3,
    }  # fmt: skip
    for name in state:
        number, _, field = name.partition(".")
        value = its[number].state_dict()[field]
        if number == "6":
            value = value[:, :c]
        elif number != "7" and value.dim():
            value = value[:c]
        state[name] = value[:, :, cut : 7 - cut, cut : 7 - cut] if number == "3" else value
    alone.load_state_dict(state)
    with frozen_statistics(alone):
        torch.testing.assert_close(sliced, alone(x()), rtol=1e-12, atol=1e-12)


def test_a_slice_updates_the_statistics_of_its_channels():
    made = edge()
    before = made.norm_2.running_mean.clone()
    made(x(), one_hot(1), (1,))
    moved = made.norm_2.running_mean != before
    assert moved[:6].all() and not moved[6:].any()


def test_weights_of_masked_channels_get_no_gradient():
    made = edge()
    made(x(), one_hot(1), (0, 1, 2, 3, 4)).square().sum().backward()
    assert made.expand.weight.grad[:6].any() and not made.expand.weight.grad[6:].any()
    kernel = made.depthwise.weight.grad
    assert kernel[:6, :, 2:5, 2:5].any() and not kernel[:, :, :2].any() and not kernel[6:].any()


def test_masks_are_nested_and_their_slopes_are_their_choices():
    g = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4], dtype=torch.float64, requires_grad=True)
    made = edge()
    channels = g @ made.channels.double()
    assert (channels[1:] <= channels[:-1]).all()
    torch.testing.assert_close(
        channels[[0, 5, 6, 8, 9, 11]].detach(), torch.tensor([1, 1, 0.7, 0.7, 0.3, 0.3]).double()
    )
    for ch in (0, 6, 11):
        (slope,) = torch.autograd.grad(channels[ch], g, retain_graph=True)
        assert slope.tolist() == [float(ch < hidden) for hidden, _ in made.sizes]
    kernel = torch.tensordot(g, made.inside.double(), 1)
    torch.testing.assert_close(kernel[3, 3:].detach(), torch.tensor([1, 1, 0.6, 0.4]).double())


def test_none_scales_the_block():
    """Its weight is felt outside of the BatchNorms, which would divide it out."""
    made = edge()
    g = torch.tensor([0.0, 0.5, 0.5, 0.0, 0.0], dtype=torch.float64)
    with frozen_statistics(made):
        whole = made(x(), g, (0, 1, 2, 3, 4))
        half = made(x(), torch.cat([torch.tensor([0.5], dtype=torch.float64), g[1:] / 2]), (0, 1, 2, 3, 4))
    torch.testing.assert_close(half, whole / 2, rtol=1e-12, atol=1e-12)
    assert made(x(), one_hot(0), (0,)) is None


def test_a_search_with_shared_blocks():
    task = search(SearchRecipe(steps=2, batch=6, edge=SharedBlocks()), SPACE)
    before = task.logits[0].detach().clone()
    task.begin(0, 0)
    task.step(0, 0.0)
    assert not torch.equal(before, task.logits[0])
    genotype = task.conclude()
    assert oche.build(genotype, classes=3, in_channels=1, image=8)(torch.randn(2, 1, 8, 8)).shape == (2, 3)


@pytest.mark.parametrize(
    "space, words",
    [
        (darts(), "shares the weights of inverted residuals"),
        (fbnet(), "mb_k3_e1_g2 cannot be cut"),
        (chain(candidates=("mb_k3_e1", "mb_k3_e3")), "mb_k3_e1, mb_k3_e3 cannot be cut"),
        (chain(candidates=("mb_k3_e2_swish", "mb_k3_e3")), "cannot be cut"),
        (chain(candidates=("mb_k3_e2_se",)), "mb_k3_e2_se cannot be cut"),
    ],
)
def test_what_is_refused(space, words):
    with pytest.raises(OcheError, match=words):
        SharedBlocks().check(space)
