"""Feature maps: what feature_info says of them holds, and they are what the plain network computes on its way."""

import copy
import pickle

import pytest
import torch
from torch import nn

import oche
from oche.core.errors import OcheError
from oche.networks.backbone import Backbone

CELLS = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('avg_pool_3x3', 1), ('dil_conv_5x5', 1), ('skip_connect', 0)], "
    "normal_concat=[2, 3], reduce=[('max_pool_3x3', 0), ('skip_connect', 1), ('conv_7x1_1x7', 2), ('sep_conv_5x5', 0)], "
    "reduce_concat=[3])"
)
BENCHMARK = "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|"

# genotype, network, (C, reduction, module) of each map by hand; C = width of the cell × nodes that it concatenates
NETWORKS = {
    "darts": (CELLS, dict(channels=4, cells=6), [(8, 1, "cells.1"), (16, 2, "cells.3"), (32, 4, "cells.5")]),
    "reduces at once": (
        CELLS,
        dict(channels=4, cells=2, reductions=(0, 1)),
        [(12, 1, "stem"), (8, 2, "cells.0"), (16, 4, "cells.1")],
    ),
    "imagenet": (
        CELLS,
        dict(channels=4, cells=5, stem="imagenet", reductions=(1, 3)),
        [(4, 4, "stem.first"), (8, 8, "cells.0"), (16, 16, "cells.2"), (32, 32, "cells.4")],
    ),
    "imagenet reduces at once": (
        CELLS,
        dict(channels=4, cells=2, stem="imagenet", reductions=(0,)),
        [(4, 4, "stem.first"), (4, 8, "stem.second"), (16, 16, "cells.1")],
    ),
    "stem of stride 4": (
        CELLS,
        dict(channels=4, cells=3, stem="stride4"),
        [(8, 4, "cells.0"), (8, 8, "cells.1"), (16, 16, "cells.2")],
    ),
    "nb201, stem of stride 2": (
        BENCHMARK,
        dict(channels=4, cells=1, stem="stride2"),
        [(4, 2, "cells.0"), (8, 4, "cells.2"), (16, 8, "cells.4")],
    ),
    "seed": (
        CELLS,
        dict(channels=4, cells=8, stem="none", widen="after", reductions=(2, 5)),
        [(8, 1, "cells.1"), (16, 2, "cells.4"), (32, 4, "cells.7")],
    ),
    "seed reduces at once": (
        CELLS,
        dict(channels=4, cells=2, stem="none", widen="after", reductions=(0,)),
        [(16, 2, "cells.1")],
    ),
    "one resolution": (CELLS, dict(channels=4, cells=2, reductions=()), [(8, 1, "cells.1")]),
    "nb201": (BENCHMARK, dict(channels=4, cells=2), [(4, 1, "cells.1"), (8, 2, "cells.4"), (16, 4, "cells.7")]),
    "published": ("DARTS_V2", dict(channels=2, cells=3), [(8, 1, "cells.0"), (16, 2, "cells.1"), (32, 4, "cells.2")]),
}  # fmt: skip


def settled(net: nn.Module) -> nn.Module:
    """``net`` in float64 and evaluation mode, BatchNorms with statistics of their own."""
    g = torch.Generator().manual_seed(1)
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None:
            norm.running_mean.uniform_(-1, 1, generator=g)
            norm.running_var.uniform_(0.5, 2, generator=g)
    return net.double().eval()


def pair(name: str, **fields) -> tuple[nn.Module, Backbone]:
    """The plain network and the backbone with its weights, by the state dict of the whole."""
    genotype, network, _ = NETWORKS[name]
    torch.manual_seed(0)  # the same weights at every call
    plain = settled(oche.build(genotype, classes=3, **network))
    backbone = oche.build(genotype, features=True, **network, **fields).double().eval()
    backbone.load_state_dict(plain.state_dict())
    return plain, backbone


def images(h: int = 64, w: int = 64) -> torch.Tensor:
    return torch.randn(2, 3, h, w, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.mark.parametrize("size", [(64, 64), (41, 70)], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_maps_are_what_feature_info_says(name, size):
    _, backbone = pair(name)
    info = backbone.feature_info
    assert [(d["num_chs"], d["reduction"], d["module"]) for d in info.info] == NETWORKS[name][2]
    assert len(info) == len(info.info) and info.out_indices == tuple(range(len(info)))
    with torch.no_grad():
        maps = backbone(images(*size))
    wanted = [(2, c, *(-(-n // r) for n in size)) for c, r in zip(info.channels(), info.reduction(), strict=True)]
    assert [tuple(m.shape) for m in maps] == wanted


@pytest.mark.parametrize("name", NETWORKS)
def test_the_maps_are_those_of_the_plain_network(name):
    plain, backbone = pair(name)
    seen: dict[str, torch.Tensor] = {}
    for d in backbone.feature_info.info:
        module = plain.get_submodule(d["module"])
        module.register_forward_hook(lambda m, i, out, at=d["module"]: seen.update({at: out}))
    with torch.no_grad():
        plain(images())
        maps = backbone(images())
    for d, ours in zip(backbone.feature_info.info, maps, strict=True):
        theirs = seen[d["module"]]
        theirs = theirs[1] if isinstance(theirs, tuple) else theirs  # a stem gives both inputs of the first cell
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("out_indices", "chosen"), [((0,), [0]), ((1, 2), [1, 2]), ([-1], [2]), ((2, 0), [0, 2])])
@pytest.mark.parametrize("name", ["darts", "nb201"])
def test_chosen_maps(name, out_indices, chosen):
    _, whole = pair(name)
    _, some = pair(name, out_indices=out_indices)
    with torch.no_grad():
        ours, all_of_them = some(images()), whole(images())
    assert len(ours) == len(chosen)
    assert all(torch.equal(m, all_of_them[i]) for m, i in zip(ours, chosen, strict=True))
    info = some.feature_info
    assert info.channels() == [info[i]["num_chs"] for i in chosen] and len(info) == 3
    assert info.reduction(2) == 4 and info.reduction([0, 1]) == [1, 2] and info.module_name(0) == info[0]["module"]
    parts = [n for n, _ in some.named_parameters() if n.startswith("cells.")]
    last = int(info[chosen[-1]]["module"].split(".")[1])
    assert {int(n.split(".")[1]) for n in parts} == set(range(last + 1))  # what comes after is not kept


def test_gradients_reach_every_parameter_and_drop_path_acts():
    backbone = oche.build(CELLS, features=True, channels=4, cells=3, drop_path=0.5)
    sum(m.square().mean() for m in backbone(images(16, 16).float())).backward()
    assert all(p.grad is not None for p in backbone.parameters())
    torch.manual_seed(0)
    one, other = backbone(images(16, 16).float())[-1], backbone(images(16, 16).float())[-1]
    assert not torch.equal(one, other)
    backbone.set_drop_path(0.0)
    assert torch.equal(backbone(images(16, 16).float())[-1], backbone(images(16, 16).float())[-1])


@pytest.mark.slow
def test_it_is_an_ordinary_module():
    """It can be copied, pickled, part of another network, and exported."""
    _, backbone = pair("darts")
    x = images(16, 16)
    wanted = backbone(x)
    for again in (copy.deepcopy(backbone), pickle.loads(pickle.dumps(backbone))):
        assert all(torch.equal(a, b) for a, b in zip(again(x), wanted, strict=True))
    inside = nn.ModuleDict({"body": oche.build(CELLS, features=True, channels=4, cells=6).double()}).eval()
    plain, _ = pair("darts")
    inside.load_state_dict({f"body.{k}": v for k, v in plain.state_dict().items()})
    assert all(torch.equal(a, b) for a, b in zip(inside["body"](x), wanted, strict=True))
    program = torch.export.export(backbone, (x,), strict=False).module()
    for a, b in zip(program(x), wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_weights_that_do_not_belong_are_refused():
    plain, backbone = pair("darts")
    state = plain.state_dict()
    with pytest.raises(RuntimeError, match="Unexpected"):
        backbone.load_state_dict({**state, "cells.0.more": torch.zeros(1)})
    del state["stem.0.weight"]
    with pytest.raises(RuntimeError, match="Missing"):
        backbone.load_state_dict(state)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (dict(features=True, out_indices=(3,)), r"out_indices=\(3,\) does not select from the 3 maps; use numbers from 0 to 2"),
        (dict(features=True, out_indices=()), r"out_indices=\(\)"),
        (dict(features=True, auxiliary=True), "no auxiliary tower and no head"),
        (dict(features=True, head=(5,)), "no auxiliary tower and no head"),
        (dict(classes=3, out_indices=(1,)), "write features=True"),
        (dict(), "needs classes"),
    ],
)  # fmt: skip
def test_what_makes_no_backbone(fields, says):
    with pytest.raises(OcheError, match=says):
        oche.build(CELLS, channels=4, cells=3, **fields)
