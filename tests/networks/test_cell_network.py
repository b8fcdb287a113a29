"""The networks of oche.spaces against the published numbers and against naive networks (oracles_conv), in float64."""

import pytest
import torch

import oracles_conv as oracle
from cell_networks import count, normal, shaken, weights
from oche.core import genotypes
from oche.core.architecture import Genotype
from oche.core.errors import OcheError
from oche.spaces import build, darts

CLOSE = dict(rtol=1e-9, atol=1e-11)
CIFAR = dict(classes=10)
IMAGENET = dict(classes=1000, channels=48, cells=14, stem="imagenet", image=224)


@pytest.mark.parametrize(
    "fields, weights",
    [(CIFAR, 3_349_342), (CIFAR | {"auxiliary": True}, 3_825_768), (IMAGENET, 4_718_752)],
    ids=["cifar", "cifar, auxiliary", "imagenet"],
)
def test_darts_v2_has_the_published_number_of_weights(fields, weights):
    assert count(lambda: build("DARTS_V2", **fields)) == weights


# --- final networks

TINY = Genotype.parse("""Genotype(
    normal=[('sep_conv_3x3', 1), ('skip_connect', 0), ('dil_conv_5x5', 2), ('avg_pool_3x3', 0)],
    normal_concat=[3],
    reduce=[('skip_connect', 0), ('max_pool_3x3', 1), ('conv_7x1_1x7', 1), ('skip_connect', 2)],
    reduce_concat=[2, 3])""")
FINAL = {
    "NASNet": (genotypes.NASNet, dict(cells=3), (9, 11)),
    "AmoebaNet": (genotypes.AmoebaNet, dict(cells=3), (8, 8)),
    "DARTS_V2": (genotypes.DARTS_V2, dict(cells=6, in_channels=1), (28, 28)),
    "GDAS_V1": (genotypes.GDAS_V1, dict(cells=2), (8, 8)),
    "auxiliary on 8 x 8": (TINY, dict(cells=5, auxiliary=True, image=32), (32, 32)),
    "auxiliary on 7 x 7": (TINY, dict(cells=3, auxiliary=True, image=28, in_channels=1), (28, 28)),
    "auxiliary, ImageNet": (TINY, dict(cells=3, auxiliary=True, image=224, stem="imagenet"), (224, 224)),
    "ImageNet stem, odd": (genotypes.DARTS_V1, dict(cells=3, stem="imagenet"), (45, 64)),
    "stem of stride 2": (TINY, dict(cells=3, stem="stride2"), (17, 20)),
    "stem of stride 4": (TINY, dict(cells=3, stem="stride4"), (33, 40)),
    "seed": (TINY, dict(cells=5, stem="none", widen="after", head=(7, 6), image=(12, 9)), (12, 9)),
}


def published_form(genotype):
    return (
        ([edge[:2] for edge in genotype.cells[kind].edges], genotype.cells[kind].concat)
        for kind in ("normal", "reduce")
    )


@pytest.mark.slow
@pytest.mark.parametrize("drop", [0.0, 0.4])
@pytest.mark.parametrize("name", FINAL)
def test_final_network(name, drop):
    genotype, fields, size = FINAL[name]
    net = shaken(build(genotype, classes=3, channels=2, drop_path=drop, **fields))
    x = normal(4, fields.get("in_channels", 3), *size)
    setting = dict(
        cells=fields["cells"], stem_kind=fields.get("stem", "cifar"), aux=fields.get("auxiliary", False),
        hidden=len(fields.get("head", ())),
    )  # fmt: skip
    ws = weights(net)
    torch.manual_seed(0)
    want = oracle.final(x, ws, *published_form(genotype), drop=drop, **setting)
    torch.manual_seed(0)
    ours = net(x)
    assert ws.done()
    pair = ours if setting["aux"] else (ours, None)
    for got, expected in zip(pair, want, strict=True):
        torch.testing.assert_close(got, expected, **CLOSE)
    net.eval()
    setting["aux"] = False  # in evaluation the auxiliary head is idle, and so is drop path
    ws = weights(net)
    torch.testing.assert_close(net(x), oracle.final(x, ws, *published_form(genotype), **setting)[0], **CLOSE)


def test_the_order_of_writing_names_the_weights_and_changes_nothing_else():
    """Equal cells written in two orders: weights are numbered as written, so runs of either are read as they are."""
    swapped = Genotype.parse(
        str(TINY).replace("('sep_conv_3x3', 1), ('skip_connect', 0)", "('skip_connect', 0), ('sep_conv_3x3', 1)")
    )
    a, b = (build(g, classes=3, channels=4, cells=3).double().eval() for g in (TINY, swapped))
    assert swapped == TINY and [*a.state_dict()] != [*b.state_dict()]
    places = {"ops.0.": "ops.1.", "ops.1.": "ops.0."}

    def renamed(key):
        old = next((p for p in places if key.startswith(f"cells.0.{p}")), None)  # the only normal cell of three
        return key.replace(old, places[old], 1) if old else key

    b.load_state_dict({renamed(key): value for key, value in a.state_dict().items()})
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(a(x), b(x), **CLOSE)


def test_identities_are_exempt_from_drop_path():
    skips = ", ".join(["('skip_connect', 0), ('skip_connect', 1)"] * 2)
    genotype = f"Genotype(normal=[{skips}], normal_concat=[2, 3], reduce=[{skips}], reduce_concat=[2, 3])"
    x = normal(8, 3, 8, 8)
    for reductions, exempt in (((), True), ((1,), False)):  # where the map shrinks, a skip is no identity
        net = shaken(build(genotype, classes=2, channels=2, cells=2, reductions=reductions, drop_path=0.9))
        dropped = net(x)
        net.drop_path = 0.0
        assert torch.equal(net(x), dropped) == exempt


@pytest.mark.parametrize("first", [1, 3])
def test_a_cell_with_another_number_of_inputs_is_refused(first):
    edges = f"[('skip_connect', 0, {first}), ('sep_conv_3x3', {first}, {first + 1})]"
    cells = ", ".join(f"{kind}={edges}, {kind}_concat=[{first + 1}]" for kind in ("normal", "reduce"))
    with pytest.raises(OcheError, match=f"the 'normal' cell has {first} inputs?, and the network gives two"):
        build(f"Genotype({cells})", classes=2, channels=2, cells=3)


@pytest.mark.parametrize("make", [lambda **f: darts(**f), lambda **f: build("DARTS_V2", classes=10, **f)])
@pytest.mark.parametrize(
    "fields, words",
    [
        ({"channels": 0}, "channels=0"),
        ({"cells": 0}, "cells=0"),
        ({"image": (7, 32)}, "8 x 8"),
        ({"stem": "resnet"}, "'cifar', 'stride2', 'stride4', 'imagenet'"),
        ({"reductions": (20,)}, "cells count from 0"),
    ],
)
def test_impossible_networks_are_refused(make, fields, words):
    with pytest.raises(OcheError, match=words) as caught:
        make(**fields)
    assert len(str(caught.value).splitlines()) == 1


# --- heads that take images of one size -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "side", "head", "built"),
    [
        (dict(auxiliary=True), 16, "auxiliary", "32x32"),
        (dict(auxiliary=True), 64, "auxiliary", "32x32"),
        (dict(auxiliary=True, stem="imagenet", image=224), 32, "auxiliary", "224x224"),
        (dict(head=(5,)), 16, "MLP", "32x32"),
        (dict(head=(5,), image=(8, 12)), 8, "MLP", "8x12"),
    ],
)
def test_another_size_than_a_head_was_built_for_is_explained(fields, side, head, built):
    net = build("DARTS_V2", classes=2, channels=2, cells=3, **fields)
    with pytest.raises(OcheError) as caught:
        net(torch.zeros(2, 3, side, side))
    assert str(caught.value) == (
        f"images are {side}x{side}, and the {head} head was built for {built}; write image=({side}, {side}) in oche.build, or "
        "scale the images"
    )


@pytest.mark.parametrize("side", [8, 9, 13, 16, 17, 28, 33, 64])
def test_with_image_every_size_has_its_auxiliary_head(side):
    net = build("DARTS_V2", classes=2, channels=2, cells=3, auxiliary=True, image=side)
    logits, extra = net(torch.zeros(2, 3, side, side))
    assert logits.shape == extra.shape == (2, 2)


def test_an_auxiliary_head_takes_what_it_pools_to_its_size_and_nothing_is_asked_in_evaluation():
    net = build("DARTS_V2", classes=2, channels=2, cells=3, auxiliary=True)
    assert net(torch.zeros(2, 3, 33, 33))[1].shape == (2, 2)  # maps of 9 pixels are pooled to 2 as those of 8 are
    assert net.eval()(torch.zeros(2, 3, 16, 16)).shape == (2, 2)
