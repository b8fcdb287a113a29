"""Exchanges between processes, each by itself."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import oche
import several_processes
from oche.bilevel.search import search
from oche.core.architecture import Shape
from oche.core.errors import OcheError
from oche.core.optimizers import Sgd
from oche.core.seeds import derive_seed, generator
from oche.data import Augment
from oche.devices.collectives import SyncNorm
from oche.devices.engine import Engine
from oche.devices.launch import join_process_group
from oche.devices.process_group import SINGLE_PROCESS, ProcessGroup
from oche.methods.hypergradients import exact
from oche.methods.perturbations import Adversarial
from oche.methods.published import darts, gdas, sdarts_adv
from oche.spaces.edge_variants import SkipDropout
from oche.spaces.mixed_ops import set_step
from oche.training.image_trainer import Training, has_idle_weights, train
from oche.training.loop import Session
from process_group_tasks import CELL, RECIPES
from tiny_images import dataset, plain, space

pytestmark = pytest.mark.slow  # two processes

PLAIN = Augment(pad=0, flip=False, cutout=0)
W = Sgd(lr=0.1, lr_min=0.01, momentum=0.9, decay=0.01, clip=0.5)
FIXED = dict(epochs=1, batch=6, weight_optimizer=W, split=0.5, pad=0, flip=False)
METHODS = {
    "first order": darts(**FIXED),
    "second order": darts(order=2, **FIXED),
    "exact": replace(darts(order=2, **FIXED), hypergrad=exact),
    "gdas": replace(gdas(), **FIXED),
    "adversarial": replace(sdarts_adv(), **FIXED, perturb=Adversarial(steps=2)),
    "curvature": replace(darts(**FIXED), hessian_every=1),
}
RECIPES["accumulated"] = replace(RECIPES["training"], accumulate=2, ema=0.9)


def engine(**fields) -> Engine:
    return Engine(
        "cpu", dtype=torch.float64, **{**dict(fused="plain", sync=True, processes=join_process_group()), **fields}
    )


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


def normed(ranks_: ProcessGroup) -> dict:
    """What a synchronised BatchNorm makes of this rank's images, and derivatives of both orders."""
    x = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)[
        ranks_.rank :: ranks_.world_size
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
    here, found = join_process_group(), {}
    for who in (0, 1):
        try:
            with here.raise_together():
                if here.rank == who:
                    raise OcheError(f"rank {who} has no disk")
        except OcheError as error:
            found[f"together {who}"] = f"{type(error).__name__} {error} {error.said}"
    try:
        task_disagrees()
    except OcheError as error:
        found["agree"] = f"{type(error).__name__} {error}"
    found["in turn"] = ",".join(here.gather_texts(here.first_on_each_machine(lambda: f"rank {here.rank}")))
    found["told"] = here.broadcast(f"from {here.rank}".encode()).decode()
    return found


def task_disagrees() -> None:
    def shift(task) -> None:
        with torch.no_grad():
            task.logits[0].add_(1e-9 * task.engine.processes.rank)

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
    return {
        "runs": search_all(),
        "norm": normed(join_process_group()),
        "forms": fused_and_plain(),
        "quarrels": quarrels(),
    }


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two ranks found."""
    ends = several_processes.crew(everything, tmp_path_factory.mktemp("two"))
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


def test_synchronised_batchnorm_is_that_of_the_whole_batch(two):
    """Against torch's own on all images: outputs, first and second derivatives, running statistics."""
    x = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    norm = nn.BatchNorm2d(3, dtype=torch.float64)
    y = norm(x)
    (slope,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
    (curve,) = torch.autograd.grad(slope.pow(2).sum(), x)
    for rank, found in enumerate(end["norm"] for end in two):
        for key, whole in (("y", y), ("slope", slope), ("curve", curve)):
            torch.testing.assert_close(found[key], whole.detach()[rank::2], rtol=1e-9, atol=1e-9, msg=key)
        for key, whole in norm.state_dict().items():
            torch.testing.assert_close(found[key], whole, rtol=1e-12, atol=1e-12, msg=key)


def test_forms_agree_where_each_rank_normalises_by_itself(two):
    forms = two[0]["forms"]
    for key, value in forms["plain"].items():
        torch.testing.assert_close(forms["auto"][key], value, rtol=1e-7, atol=1e-8, msg=key)
    running = [key for key in forms["plain"] if "running" not in key]
    assert all(torch.equal(two[0]["forms"]["plain"][key], two[1]["forms"]["plain"][key]) for key in running)


def test_errors_reach_all_ranks_and_one_of_them_tells(two):
    first, second = (end["quarrels"] for end in two)
    assert first["together 0"] == "OcheError rank 0 has no disk False"
    assert second["together 0"] == "ReportedElsewhere rank 0 has no disk True"
    assert first["together 1"] == "ReportedElsewhere rank 1 has no disk True"
    assert second["together 1"] == "OcheError rank 1 has no disk False"
    assert first["in turn"] == second["in turn"] == "rank 0,rank 1"
    assert first["told"] == second["told"] == "from 0"


def test_ranks_that_disagree_on_the_architecture_stop(two):
    for end, kind in zip(two, ("OcheError", "ReportedElsewhere"), strict=True):
        said = end["quarrels"]["agree"]
        assert said.startswith(f"{kind} rank 1 and rank 0 do not agree on the architecture after 0 steps")


def test_which_networks_have_idle_weights():
    data, recipe = dataset(augment=PLAIN), RECIPES["training"]
    images = torch.zeros(2, 1, 8, 8)
    assert has_idle_weights(recipe.network(CELL, data), images)
    assert not has_idle_weights(recipe.network(oche.genotypes.resolve("DARTS_V2"), data), images)


def test_buffers_are_sent_in_one_order_by_every_process(monkeypatch):
    """That of a set of dtypes follows from where they lie in memory."""
    net, sent = nn.BatchNorm2d(3), []
    for i, dtype in enumerate((torch.float64, torch.int32, torch.bool, torch.float16), 4):
        net.register_buffer(f"more{i}", torch.zeros(i, dtype=dtype))
    monkeypatch.setattr(torch.distributed, "broadcast", lambda t, source: sent.append((t.dtype, len(t))))
    ProcessGroup(0, 2).broadcast_statistics(net)
    expected = [(torch.float32, 6), (torch.int64, 1), (torch.float64, 4), (torch.int32, 5), (torch.bool, 6)]
    assert sent == [*expected, (torch.float16, 7)]


def test_what_is_drawn_for_a_rank_alone():
    assert (
        ProcessGroup(0, 2).rank_stream("drop path", 3) == ("drop path", 3) == SINGLE_PROCESS.rank_stream("drop path", 3)
    )
    assert (
        ProcessGroup(1, 2).rank_stream("drop path", 3)
        != ProcessGroup(2, 3).rank_stream("drop path", 3)
        != ("drop path", 3)
    )


def test_ranks_drop_other_activations_but_the_same_paths():
    made = space()
    edges = [SkipDropout(start=0.5)(made, Shape.same(2)) for _ in range(2)]
    for rank, edge in enumerate(edges):
        set_step(edge, 0.0, 5, rank)
    drawn = [edge.uniform((4, 2), "cpu", own=True) for edge in edges]
    assert not torch.equal(*drawn)
    assert torch.equal(*(edge.uniform((4, 2), "cpu") for edge in edges))


def test_accumulated_gradients_are_those_of_the_parts():
    """Written out: the mean over parts of the gradient of each part's mean loss, each part normalised by itself."""
    data = dataset(augment=PLAIN)
    recipe = replace(
        RECIPES["training"],
        accumulate=3,
        auxiliary=0.0,
        w=Sgd(lr=0.1, momentum=0.0, decay=0.0, clip=0.0),
    )
    task = Training(CELL, recipe, data, seed=3, engine=engine(processes=SINGLE_PROCESS), title="t")
    before = copy.deepcopy(task.net)
    seen = []
    task.net.register_forward_pre_hook(lambda net, x: seen.append(x[0]))
    task.begin(0, 0)
    task.step(0, 0.0)
    assert [len(x) for x in seen] == [3, 3, 2]
    order = torch.randperm(24, generator=generator(derive_seed(3, "order"), "order", 0))[:8]
    labels = data.train.labels[order].split([3, 3, 2])
    before.train()
    loss = sum(F.cross_entropy(before(x), y, reduction="sum") for x, y in zip(seen, labels, strict=True)) / 8
    loss.backward()
    for own, expected in zip(task.net.parameters(), before.parameters(), strict=True):
        change = torch.zeros_like(expected) if expected.grad is None else expected.grad
        torch.testing.assert_close(own, expected - 0.1 * change, rtol=1e-10, atol=1e-12)
