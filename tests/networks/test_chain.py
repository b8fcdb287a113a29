"""Chains of blocks: the counts of the published networks, blocks against formulas, and what is refused."""

import pytest
import torch

import oche
from oche.core.architecture import Shape
from oche.core.blocks import Block, chain_genotype
from oche.core.errors import OcheError
from oche.core.genotypes import get
from oche.cost import flops, parameters
from oche.networks.chain import ChainLayer, ChainNetwork, ChannelShuffle, SqueezeExcitation, build_block
from oche.networks.fuse_batchnorm import fuse_batchnorm

SMALL = chain_genotype(["conv_k3_c8", "mb_k3_e1_c8", "none", "mb_k5_e3_s2_c12", "mb_k3_e2_c12", "conv_k1_c16"])

# Weights and multiply-adds of the released networks, at 224 x 224 and 1,000 classes.
COUNTS = {
    "MOBILENET_V2": (3_504_872, 300_774_272),
    "PROXYLESS_CPU": (4_361_648, 439_243_864),
    "PROXYLESS_GPU": (7_119_848, 465_260_160),
    "PROXYLESS_MOBILE": (4_080_512, 320_427_584),
    "PROXYLESS_MOBILE_14": (6_857_568, 580_883_408),
    "FBNET_A": (4_304_584, 244_452_664),
    "FBNET_B": (4_801_368, 291_004_424),
    "FBNET_C": (5_570_664, 378_136_224),
}


@pytest.mark.parametrize("name", COUNTS)
def test_published_networks_have_their_weights_and_multiply_adds(name):
    with torch.device("meta"):
        net = oche.build(name, classes=1000, image=224)
        counted = flops(net, lambda: net(torch.zeros(1, 3, 224, 224)))
    assert (parameters(net), counted // 2) == COUNTS[name] and counted % 2 == 0


@pytest.mark.parametrize("expansion, groups", [(1, 1), (1, 2), (3, 1), (6, 2)])
def test_the_weights_of_a_block(expansion, groups):
    c_in, c_out, k = 8, 12, 5
    hidden = expansion * c_in
    weights = (expansion > 1) * c_in * hidden // groups + hidden * k * k + hidden * c_out // groups
    norms = 2 * ((expansion > 1) * hidden + hidden + c_out)
    block = Block("mb", k, expansion, groups)
    assert parameters(build_block(block, Shape(c_in, c_out, 2))) == weights + norms
    assert parameters(build_block(block, Shape(c_in, c_out, 2), affine=False)) == weights
    out = build_block(block, Shape(c_in, c_out, 2))(torch.randn(2, c_in, 7, 6))
    assert out.shape == (2, c_out, 4, 3)


def test_squeeze_excitation_scales_channels():
    module = SqueezeExcitation(32)
    assert parameters(module) == 32 * 8 + 8 + 8 * 32 + 32
    x = torch.randn(2, 32, 3, 3)
    scale = module(x) / x
    torch.testing.assert_close(scale, scale[:, :, :1, :1].expand_as(scale))
    assert (scale > 0).all() and (scale < 1).all()
    block = Block.parse("mb_k3_e4_se_swish")
    extra = parameters(build_block(block, Shape.same(8))) - parameters(
        build_block(Block.parse("mb_k3_e4"), Shape.same(8))
    )
    assert extra == parameters(module) and any(isinstance(m, torch.nn.SiLU) for m in build_block(block, Shape.same(8)))


def test_groups_exchange_channels():
    x = torch.arange(6.0).view(1, 6, 1, 1)
    assert ChannelShuffle(2)(x).flatten().tolist() == [0, 3, 1, 4, 2, 5]


def test_the_identity_is_added_where_shapes_agree():
    x = torch.randn(2, 8, 5, 5)
    for shape, adds in ((Shape.same(8), True), (Shape(8, 12), False), (Shape.same(8, 2), False)):
        layer = ChainLayer(Block.parse("mb_k3_e2"), shape).eval()
        torch.testing.assert_close(layer(x), layer.block(x) + x if adds else layer.block(x))
        assert bool(layer.ops) is adds  # what drop path may drop


def test_a_network_and_its_maps():
    net = oche.build(SMALL, classes=5, in_channels=1, image=12)
    assert isinstance(net, ChainNetwork) and net(torch.randn(3, 1, 12, 12)).shape == (3, 5)
    assert net.describe() == [
        {"name": "3×3", "channels": 8, "size": [12, 12]}, {"name": "k3 e1", "channels": 8, "size": [12, 12]},
        {"name": "k5 e3", "channels": 12, "size": [6, 6]}, {"name": "k3 e2", "channels": 12, "size": [6, 6]},
        {"name": "1×1", "channels": 16, "size": [6, 6]}, {"name": "head", "channels": 5, "size": [1, 1]},
    ]  # fmt: skip
    backbone = oche.build(SMALL, features=True, in_channels=1)
    fine, coarse = backbone(torch.randn(2, 1, 12, 12))
    assert (fine.shape, coarse.shape) == ((2, 8, 12, 12), (2, 12, 6, 6))
    backbone.load_state_dict(net.state_dict())  # parts after the last map are left out


def test_drop_path_drops_blocks_beside_an_identity():
    net = oche.build(SMALL, classes=5, image=12, drop_path=0.5).train()
    x = torch.randn(4, 3, 12, 12)
    drops = net.drops(x)
    assert drops.shape == (2, 4) and {*drops.flatten().tolist()} <= {0.0, 2.0}  # two blocks of four have an identity
    without = net(x, torch.zeros(2, 4))
    assert not torch.equal(without, net(x, torch.ones(2, 4)))


def test_batchnorms_fuse_into_convolutions():
    net = oche.build(SMALL, classes=5, image=12).double()
    x = torch.randn(8, 3, 12, 12, dtype=torch.float64)
    net.train()(x)
    fused = fuse_batchnorm(net)
    torch.testing.assert_close(fused(x), net.eval()(x), rtol=1e-9, atol=1e-9)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in fused.modules())


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(channels=16), "the blocks of a chain say the sizes of its network.* leave out channels=16"),
        (dict(auxiliary=True), "no auxiliary tower"),
        (dict(drop_path=1.0), "not a probability"),
        (dict(image=1), "has shrunk to 1 x 1 before block 4 .mb_k5_e3_s2_c12."),
        (dict(classes=0), "leave nothing to build"),
    ],
)
def test_what_cannot_be_built(options, words):
    with pytest.raises(OcheError, match=words):
        oche.build(SMALL, **{"classes": 5, **options})


def test_groups_that_do_not_divide_a_width():
    with pytest.raises(OcheError, match=r"mb_k3_e2_g4.* 6 input channels, which 4 groups do not divide"):
        build_block(Block.parse("mb_k3_e2_g4"), Shape(6, 8))


def test_expansions_of_one_without_their_convolution_are_the_published_network():
    """timm's fbnetc_100 keeps the first convolution where the expansion is 1, and has 1,536 weights more."""
    widths = [16, 24, 24]
    assert [op for op, _, _ in get("FBNET_C").chain.edges if "_e1_" in op] == [
        "mb_k3_e1_c16",
        "mb_k3_e1_c24",
        "mb_k3_e1_c24",
    ]
    assert sum(c * c + 2 * c for c in widths) == 1_536 and COUNTS["FBNET_C"][0] + 1_536 == 5_572_200
