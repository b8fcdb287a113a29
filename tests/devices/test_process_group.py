"""Two ranks with half a batch each do what one process does with the whole, fail together, and leave runs that go on."""

import copy
import os
import signal
import socket
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import crew
import oche
from oche.api import run_train
from oche.bilevel.search import search
from oche.cli.main import main
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.core.optimizers import Sgd
from oche.core.seeds import derive_seed, generator
from oche.data import Augment
from oche.devices import process_group as processes
from oche.devices.collectives import SyncNorm
from oche.devices.engine import Engine
from oche.devices.launch import join_process_group, make_log, read_environment, reports_error
from oche.devices.process_group import SINGLE_PROCESS, ProcessGroup
from oche.methods.hypergradients import exact
from oche.methods.perturbations import Adversarial
from oche.methods.published import darts, gdas, sdarts_adv
from oche.runs.checkpoint import load_latest, load_weights
from oche.runs.claim import is_run
from oche.runs.config import TrainConfig
from oche.runs.plan import check_shares
from oche.spaces.edge_variants import SkipDropout
from oche.spaces.mixed_ops import set_step
from oche.training.image_recipes import Recipe
from oche.training.image_trainer import Training, has_idle_weights, train
from oche.training.loop import Session
from tiny import dataset, plain, space
from tiny_text import corpus

PLAIN = Augment(pad=0, flip=False, cutout=0)
W = Sgd(lr=0.1, lr_min=0.01, momentum=0.9, decay=0.01, clip=0.5)
# No edge reads the first input of the normal cell, so that what brings it to the cell's width gets no gradient.
CELL = oche.Genotype.parse(
    "Genotype(normal=[('sep_conv_3x3', 1), ('skip_connect', 1), ('max_pool_3x3', 2), ('dil_conv_3x3', 1)], "
    "normal_concat=[2, 3], reduce=[('max_pool_3x3', 0), ('skip_connect', 1), ('sep_conv_3x3', 1), ('skip_connect', 2)], "
    "reduce_concat=[2, 3])"
)
FIXED = dict(epochs=1, batch=6, weight_optimizer=W, split=0.5, pad=0, flip=False)
METHODS = {
    "first order": darts(**FIXED),
    "second order": darts(order=2, **FIXED),
    "exact": replace(darts(order=2, **FIXED), hypergrad=exact),
    "gdas": replace(gdas(), **FIXED),
    "adversarial": replace(sdarts_adv(), **FIXED, perturb=Adversarial(steps=2)),
    "curvature": replace(darts(**FIXED), hessian_every=1),
}
RECIPES = {
    "training": Recipe(
        channels=2, cells=3, batch=8, epochs=1, w=W, drop_path=0.0, auxiliary=0.4, pad=0, flip=False, cutout=0
    ),
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


# --- parts ------------------------------------------------------------------------------------------------------------


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
    assert second["together 0"] == "Said rank 0 has no disk True"
    assert first["together 1"] == "Said rank 1 has no disk True"
    assert second["together 1"] == "OcheError rank 1 has no disk False"
    assert first["in turn"] == second["in turn"] == "rank 0,rank 1"
    assert first["told"] == second["told"] == "from 0"


def test_ranks_that_disagree_on_the_architecture_stop(two):
    for end, kind in zip(two, ("OcheError", "Said"), strict=True):
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
    edges = [SkipDropout(start=0.5)(made, 2, 1) for _ in range(2)]
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
        weight_optimizer=Sgd(lr=0.1, momentum=0.0, decay=0.0, clip=0.0),
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


# --- what is refused --------------------------------------------------------------------------------------------------

TORCHRUN = dict(
    RANK="1", WORLD_SIZE="2", LOCAL_RANK="1", LOCAL_WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT="1"
)


@pytest.fixture
def environment(monkeypatch):
    """Sets what torchrun sets, but for changes."""

    def set_to(**changes):
        for name, value in {**TORCHRUN, **changes}.items():
            monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)

    return set_to


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(MASTER_ADDR=None), "MASTER_ADDR is missing"),
        (dict(MASTER_PORT=None), "MASTER_PORT is missing"),
        (dict(LOCAL_RANK=None), "LOCAL_RANK is missing; start them with torchrun"),
        (dict(RANK="x"), "RANK is 'x'"),
        (dict(RANK="2"), "RANK=2 of WORLD_SIZE=2"),
    ],
)
def test_environments_that_contradict_themselves(environment, changes, words):
    environment(**changes)
    with pytest.raises(OcheError, match=words):
        read_environment()


def test_a_process_by_itself(environment, monkeypatch):
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    assert read_environment() == SINGLE_PROCESS == join_process_group()
    environment(WORLD_SIZE="1", RANK="0")
    assert read_environment() == SINGLE_PROCESS == join_process_group()
    assert not torch.distributed.is_initialized()


def test_ranks_that_do_not_find_each_other(environment, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # and does not listen
        environment(MASTER_PORT=str(port := free.getsockname()[1]))
        monkeypatch.setattr(processes, "GATHER", timedelta(seconds=1))
        with pytest.raises(OcheError, match=f"2 ranks have not found each other at 127.0.0.1:{port} within 1 s"):
            join_process_group()


def test_language_models_are_not_shared():
    with pytest.raises(OcheError, match="language models are not shared by several ranks"):
        check_shares(SHARED, corpus(), ProcessGroup(0, 2))
    check_shares(SHARED, corpus(), SINGLE_PROCESS)


def test_batches_that_cannot_be_shared():
    four = ProcessGroup(0, 4)
    four.check_batch("train.batch", 96, 96)
    SINGLE_PROCESS.check_batch("train.batch", 97, 50, 1)
    with pytest.raises(OcheError, match=r"train.batch=98 does not divide among 4 ranks; use 96 or 100"):
        four.check_batch("train.batch", 98, 1000)
    with pytest.raises(OcheError, match=r"among 4 ranks x 3 parts; use 84 or 96"):
        four.check_batch("train.batch", 88, 1000, parts=3)
    with pytest.raises(OcheError, match="more than the 50 images"):
        four.check_batch("search.batch", 64, 50)


@pytest.mark.parametrize(
    ("name", "gpus", "words"),
    [
        ("cuda", 0, "device 'cuda' is not usable here"),
        ("auto", 1, "2 ranks on this machine have 1 GPUs; use --nproc-per-node=1, or --device cpu"),
        ("cuda:1", 2, "device 'cuda:1' is one device for 2 ranks"),
        ("mps", 0, "device 'mps' is one device for 2 ranks"),
    ],
)
def test_devices_that_ranks_cannot_have(monkeypatch, name, gpus, words):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    with pytest.raises(OcheError, match=words):
        _ = Engine(name, processes=ProcessGroup(1, 2, 1, 2)).device


def test_fused_forms_cannot_synchronise():
    two_ranks = Engine("cpu", fused="fused", processes=ProcessGroup(0, 2), sync=True)
    with pytest.raises(OcheError, match="cannot synchronise BatchNorms"):
        two_ranks.apply_form(nn.Sequential(nn.BatchNorm2d(2)))


def test_the_first_rank_of_a_machine_tells_what_goes_wrong_before_they_meet(environment, capsys):
    for local, told in (("0", True), ("1", False)):
        environment(LOCAL_RANK=local, RANK=local)
        assert main(["demo"]) == 2
        assert ("oche demo is no work for several ranks" in capsys.readouterr().err) == told
        assert reports_error(OcheError("x")) == told
    said = OcheError("x")
    said.said = True
    assert not reports_error(said)


def test_accumulation_must_fit_the_batch():
    with pytest.raises(OcheError, match="accumulate=9 cannot cut a batch of 8"):
        Recipe(batch=8, accumulate=9, auxiliary=0.0)
    with pytest.raises(OcheError, match="batch=8 in 8 parts gives the auxiliary tower"):
        Recipe(batch=8, accumulate=8)


# --- runs -------------------------------------------------------------------------------------------------------------

SHARED = TrainConfig(
    data="digits", limit=48, device="cpu", threads=1, checkpoint=0.0, sync_bn=True, genotype=str(CELL), recipe="small",
    train=replace(RECIPES["training"], epochs=3, batch=16),
)  # fmt: skip


def go(out: str, stop_after: int | None = None, kill_after: int | None = None) -> str:
    """Starts the run at ``out`` or goes on with it. After so many steps rank 1 is asked to stop, or killed."""
    import oche.report.run_page

    oche.report.run_page.write_report = lambda path: path
    step, count = Training.step, 0

    def stepped(self, *args):
        nonlocal count
        step(self, *args)
        count += 1
        if join_process_group().rank == 1 and count == stop_after:
            signal.raise_signal(signal.SIGTERM)
        if join_process_group().rank == 1 and count == kill_after:
            Path(out + ".killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)  # the signal may reach another thread first

    Training.step = stepped
    if is_run(Path(out)):
        run = oche.resume(out)
    else:
        run = run_train(SHARED, out=out, overwrite=False, log=make_log(quiet=True))
    return str(run.path)


def test_ranks_stop_together_die_together_and_one_process_goes_on(tmp_path, quick):
    """Nine steps: asked to stop after 2, killed after 2 more, the rest in a single process; as if nothing had happened."""
    whole = oche.api.run_train(SHARED, out=tmp_path / "whole", overwrite=False, log=Log(quiet=True))
    out = tmp_path / "x"

    asked = crew.crew(go, tmp_path / "asked", str(out), 2)
    assert [end.error for end in asked] == ["Interrupted: "] * 2
    assert oche.Run.open(out).state == "interrupted"
    assert load_latest(out / "checkpoints")[0] == 2

    killed = crew.crew(go, tmp_path / "killed", str(out), None, 2)
    assert killed[1].code == -signal.SIGKILL
    assert killed[0].code == 1 and killed[0].error.startswith("Lost: rank 0: another rank ended")
    assert killed[0].error.endswith(f"go on with: oche resume {out}")
    assert (tmp_path / "killed" / "0.pt").stat().st_mtime - (tmp_path / "x.killed").stat().st_mtime < 10
    assert oche.Run.open(out).state == "failed"
    assert load_latest(out / "checkpoints")[0] == 3  # that of the last step that all ranks ended

    run = oche.resume(out)
    assert run.state == "complete" and run.summary["steps"] == 9
    for key in ("train_loss", "test_loss", "test_acc"):
        ours, others = ([record[key] for record in r.history] for r in (run, whole))
        assert ours == pytest.approx(others, rel=1e-4)
    weights, expected = (load_weights(r.path / "weights.safetensors") for r in (run, whole))
    for key, value in expected.items():
        torch.testing.assert_close(weights[key], value, rtol=2e-3, atol=2e-4, msg=key)
    assert not [p for p in tmp_path.iterdir() if p.name not in ("x", "x.killed", "whole", "asked", "killed")]


def test_a_directory_in_the_way_is_told_by_rank_0_alone(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "mine.txt").touch()
    ends = crew.crew(go, tmp_path / "ends", str(tmp_path / "x"))
    assert [end.code for end in ends] == [2, 2]
    assert ends[0].error.startswith("OcheError: ") and "is not a run and not empty" in ends[0].error
    assert ends[1].error.startswith("Said: ")
