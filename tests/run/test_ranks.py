"""Two ranks with half a batch each do what one process does with the whole, fail together, and leave runs that go on."""

import os
import signal
from dataclasses import replace

import crew
import pytest
import torch
from tiny import dataset, plain, space
from torch import nn

import oche
from oche.bilevel import search
from oche.cli import main
from oche.data import Augment
from oche.errors import OcheError
from oche.hypergrad import exact
from oche.loop import Session
from oche.methods import darts, gdas, sdarts_adv
from oche.optim import Sgd
from oche.perturb import Adversarial
from oche.run import ranks
from oche.run.collectives import SyncNorm
from oche.run.engine import Engine
from oche.run.ranks import ALONE, Ranks, join, ranks_here, speaks
from oche.spaces.edges import SkipDropout, set_step
from oche.training import Recipe, idle, train

PLAIN = Augment(pad=0, flip=False, cutout=0)
W = Sgd(lr=0.1, lr_min=0.01, momentum=0.9, decay=0.01, clip=0.5)
# No edge reads the first input of the normal cell, so that what brings it to the cell's width gets no gradient.
CELL = oche.Genotype.parse(
    "Genotype(normal=[('sep_conv_3x3', 1), ('skip_connect', 1), ('max_pool_3x3', 2), ('dil_conv_3x3', 1)], "
    "normal_concat=[2, 3], reduce=[('max_pool_3x3', 0), ('skip_connect', 1), ('sep_conv_3x3', 1), ('skip_connect', 2)], "
    "reduce_concat=[2, 3])"
)
FIXED = dict(epochs=1, batch=6, w=W, split=0.5, pad=0, flip=False)
METHODS = {
    "first order": darts(**FIXED),
    "second order": darts(order=2, **FIXED),
    "exact": replace(darts(order=2, **FIXED), hypergrad=exact),
    "gdas": replace(gdas(), **FIXED),
    "adversarial": replace(sdarts_adv(), **FIXED, perturb=Adversarial(steps=2)),
    "curvature": replace(darts(**FIXED), curvature=1),
}
RECIPES = {
    "training": Recipe(
        channels=2, cells=3, batch=8, epochs=1, w=W, drop_path=0.0, auxiliary=0.4, pad=0, flip=False, cutout=0
    ),
}
RECIPES["accumulated"] = replace(RECIPES["training"], accumulate=2, ema=0.9)


def engine(**fields) -> Engine:
    return Engine("cpu", dtype=torch.float64, **{**dict(fused="plain", sync=True, ranks=join()), **fields})


def small():
    """Two cells of one node, one of them a reduction."""
    return space(cells=2, nodes=1)


def tensors(net) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in net.state_dict().items()}


def numbers(session: Session) -> dict[str, float]:
    """Losses and accuracies of every epoch."""
    return {
        f"{name} {i}": value
        for i, record in enumerate(plain(session.history))
        for name, value in record.items()
        if name.endswith(("_loss", "_acc", "eigenvalue")) and value is not None
    }


def search_all() -> dict[str, dict]:
    found = {}
    for name, method in METHODS.items():
        session = Session()
        task, _ = search(small(), method, dataset(augment=PLAIN), seed=3, engine=engine(), session=session)
        logits = {f"logits {i}": a.detach() for i, a in enumerate(task.logits)}
        found[name] = tensors(task.net) | logits | numbers(session) | {"cells": str(task.conclude())}
    for name, recipe in RECIPES.items():
        session = Session()
        task, _ = train(CELL, recipe, dataset(augment=PLAIN), seed=3, engine=engine(), session=session)
        found[name] = tensors(task.net) | numbers(session)
    return found


def normed(ranks_: Ranks) -> dict:
    """What a synchronised BatchNorm makes of this rank's images, and derivatives of both orders."""
    x = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)[
        ranks_.rank :: ranks_.count
    ]
    norm = SyncNorm.of(nn.BatchNorm2d(3, dtype=torch.float64), ranks_)
    x.requires_grad_()
    y = norm(x)
    (slope,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
    (curve,) = torch.autograd.grad(slope.pow(2).sum(), x)
    return {"y": y.detach(), "slope": slope.detach(), "curve": curve, **norm.state_dict()}


def fused_and_plain() -> dict[str, dict]:
    """The same search with BatchNorms of each rank's own, in two forms."""
    return {form: tensors(_fused(form).net) for form in ("plain", "auto")}


def _fused(form: str):
    here = engine(fused=form, sync=False)
    return search(small(), METHODS["first order"], dataset(augment=PLAIN), seed=3, engine=here, session=Session())[0]


def quarrels() -> dict[str, str]:
    """How errors reach all ranks."""
    here, found = join(), {}
    for who in (0, 1):
        try:
            with here.together():
                if here.rank == who:
                    raise OcheError(f"rank {who} has no disk")
        except OcheError as error:
            found[f"together {who}"] = f"{type(error).__name__} {error} {error.said}"
    try:
        task_disagrees()
    except OcheError as error:
        found["agree"] = f"{type(error).__name__} {error}"
    found["in turn"] = ",".join(here.everyone(here.in_turn(lambda: f"rank {here.rank}")))
    found["told"] = here.told(f"from {here.rank}".encode()).decode()
    return found


def task_disagrees() -> None:
    def shift(task) -> None:
        with torch.no_grad():
            task.logits[0].add_(1e-9 * task.engine.ranks.rank)

    search(
        small(),
        METHODS["first order"],
        dataset(augment=PLAIN),
        seed=3,
        engine=engine(),
        session=Session(),
        before=shift,
    )


def everything() -> dict:
    return {"runs": search_all(), "norm": normed(join()), "forms": fused_and_plain(), "quarrels": quarrels()}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two ranks found."""
    ends = crew.crew(everything, tmp_path_factory.mktemp("two"))
    assert [end.code for end in ends] == [0, 0], [end.error for end in ends]
    return [end.result for end in ends]


@pytest.fixture(scope="module")
def one():
    """What one process finds."""
    return search_all()


@pytest.mark.parametrize("name", [*METHODS, *RECIPES])
def test_two_ranks_do_what_one_process_does(one, two, name):
    expected = one[name]
    for rank in two:
        found = rank["runs"][name]
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                torch.testing.assert_close(found[key], value, rtol=1e-8, atol=1e-9, msg=f"{name}: {key}")
            else:
                assert found[key] == pytest.approx(value, rel=1e-9) if isinstance(value, float) else True
                assert not isinstance(value, str) or found[key] == value
