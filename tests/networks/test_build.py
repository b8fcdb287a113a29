"""Networks of NAS-Bench-201 from the genotype alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import oche
from oche.core.errors import OcheError
from oche.core.nasbench201 import EXAMPLE, parse
from oche.networks.nasbench201 import build
from oche.training.image_recipes import small

CELL = parse(EXAMPLE)


def test_the_network_is_the_benchmarks():
    torch.manual_seed(0)
    built = oche.build(EXAMPLE, classes=10)
    torch.manual_seed(0)
    own = build(CELL, classes=10)
    state = own.state_dict()
    assert built.state_dict().keys() == state.keys()
    assert all(torch.equal(v, state[k]) for k, v in built.state_dict().items())
    assert built.macro.channels == 16 and built.macro.cells == 5


@pytest.mark.parametrize(
    ("field", "says"),
    [
        (dict(auxiliary=0.4), "no auxiliary tower; write auxiliary=False"),
        (dict(head=(8,), reductions=(1,)), r"no reduction cells .* and no hidden layers .*; write reductions=None, head=\(\)"),
        (dict(widen="after"), "no other place to widen than between its stages; write widen='at'"),
    ],
)  # fmt: skip
def test_what_that_network_lacks_is_refused(field, says):
    from tiny_images import dataset

    recipe = replace(small(channels=2, cells=1), **field)
    with pytest.raises(OcheError, match=f"{says}.*--recipe nb201"):
        recipe.network(CELL, dataset())


def test_num_classes_is_another_name():
    built = oche.build("DARTS_V2", num_classes=7, channels=2, cells=3)
    assert built.state_dict().keys() == oche.build("DARTS_V2", classes=7, channels=2, cells=3).state_dict().keys()
    assert (
        [*built.parameters()][-1].shape
        == (7,)
        == [*oche.build(EXAMPLE, classes=7, num_classes=7).parameters()][-1].shape
    )
    with pytest.raises(OcheError, match="classes=3 and num_classes=4 contradict each other; give one of them"):
        oche.build("DARTS_V2", classes=3, num_classes=4)
    with pytest.raises(OcheError, match="a classifier needs classes"):
        oche.build("DARTS_V2")
