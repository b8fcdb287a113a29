"""Two ranks with half a batch each do what one process does with the whole, fail together, and leave runs that go on."""

import signal
from dataclasses import replace

import pytest
import torch
from torch import nn

import oche
import several_processes
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.devices.engine import Engine
from oche.devices.process_group import SINGLE_PROCESS, ProcessGroup
from oche.runs.checkpoint import load_latest, load_weights
from oche.runs.plan import check_shares
from oche.training.image_recipes import Recipe
from process_group_tasks import RECIPES, SHARED, go
from tiny_text import corpus

pytestmark = pytest.mark.slow  # two processes

RECIPES["accumulated"] = replace(RECIPES["training"], accumulate=2, ema=0.9)


def test_language_models_are_not_shared():
    with pytest.raises(OcheError, match="language models cannot be trained by several ranks"):
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


def test_accumulation_must_fit_the_batch():
    with pytest.raises(OcheError, match="accumulate=9 cannot cut a batch of 8"):
        Recipe(batch=8, accumulate=9, auxiliary=0.0)
    with pytest.raises(OcheError, match="batch=8 in 8 parts gives the auxiliary tower"):
        Recipe(batch=8, accumulate=8)


def test_ranks_stop_together_die_together_and_one_process_goes_on(tmp_path, quick):
    """Nine steps: asked to stop after 2, killed after 2 more, the rest in a single process; as if nothing had happened."""
    whole = oche.api.run_train(SHARED, out=tmp_path / "whole", overwrite=False, log=Log(quiet=True))
    out = tmp_path / "x"

    asked = several_processes.crew(go, tmp_path / "asked", str(out), 2)
    assert [end.error for end in asked] == ["Interrupted: "] * 2
    assert oche.Run.open(out).state == "interrupted"
    assert load_latest(out / "checkpoints")[0] == 2

    killed = several_processes.crew(go, tmp_path / "killed", str(out), None, 2)
    assert killed[1].code == -signal.SIGKILL
    assert killed[0].code == 1 and killed[0].error.startswith("ProcessLost: rank 0: another rank ended")
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
