"""The script for a day with a GPU: its time, its results after a stop, and all of it at the smallest size on a CPU."""

import importlib.util
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from oche.core.errors import OcheError
from oche.proof.values import Proof, StepForm, Verdict
from paths import ROOT


@pytest.fixture(scope="module")
def gpu():
    spec = importlib.util.spec_from_file_location("gpu", ROOT / "benchmarks/gpu.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def setting(gpu, tmp_path):
    return gpu.Setting(minutes=8, out=tmp_path / "gpu", device="cpu", tiny=True)


def test_the_pieces_at_full_size(gpu, setting):
    pieces = gpu.Day(replace(setting, tiny=False)).pieces()
    names = {stage: [p.name for p in pieces if p.stage == stage] for stage in gpu.SHARES}
    assert names["forms"] == ["darts", "darts-2nd", "gdas", "pc-darts", "modern", "modern-bf16", "darts-bf16"]
    assert names["table"] == ["first", "second", "gdas", "pc-darts", "train"]
    assert names["searches"] == ["gdas", "beta-darts", "darts", "darts-2nd", "pc-darts"]
    assert names["ranks"] == ["1", "2"] and names["training"] == ["DARTS_V2"]
    assert [p.key for p in gpu.Day(replace(setting, stages=("ranks",))).pieces()] == ["ranks/2"]


def test_steps_are_those_of_published_sizes(gpu, setting):
    full = replace(setting, tiny=False)
    for name in ("darts", "darts-2nd", "gdas", "pc-darts", "darts-bf16"):
        plan = gpu.plan_of(full, name)
        assert (plan.config.space.channels, plan.config.space.cells) == (16, 8)
        assert plan.config.search.precision == ("bf16" if name == "darts-bf16" else "float32")
    assert gpu.plan_of(full, "pc-darts").config.search.batch == 256
    train = gpu.plan_of(full, "modern").config.train
    assert (train.channels, train.cells, train.batch) == (36, 20, 96)


def test_all_pieces_fit_into_the_minutes(gpu, setting, monkeypatch):
    """Each piece takes all that it may. The clock is the sum of that."""
    now = [100.0]
    monkeypatch.setattr(gpu.time, "monotonic", lambda: now[0])
    day = gpu.Day(replace(setting, tiny=False))
    pieces, used = day.pieces(), {}
    for i, piece in enumerate(pieces):
        limit = day._limit(pieces[i:])
        used[piece.stage] = used.get(piece.stage, 0) + limit
        now[0] += limit
    assert 0 <= day.left() <= 3
    assert all(abs(seconds / 480 - gpu.SHARES[stage]) < 0.02 for stage, seconds in used.items())


def test_time_that_is_left_goes_to_later_stages(gpu, setting, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(gpu.time, "monotonic", lambda: now[0])
    day = gpu.Day(setting)
    pieces = day.pieces()
    assert day._limit(pieces[-1:]) == pytest.approx(478)
    now[0] = 470
    assert day._limit(pieces[-1:]) == pytest.approx(8)


@pytest.fixture
def pieces(gpu, monkeypatch):
    """Two pieces, and how often each ran; the first fails as long as told."""
    ran = {"forms/a": 0, "training/b": 0, "fail": True}

    def first(limit):
        ran["forms/a"] += 1
        if ran["fail"]:
            raise RuntimeError("no GPU\nmore")
        return {"verdict": Verdict("a", (Proof(StepForm("plain"), True, 0.1, 2**30, {"loss": 1e-4}),)).to_dict()}

    def second(limit):
        ran["training/b"] += 1
        return {"steps": 3, "step_ms": 1.5, "computes": "a|b"}

    monkeypatch.setattr(
        gpu.Day, "pieces", lambda self: [gpu.Piece("forms", "a", first), gpu.Piece("training", "b", second)]
    )
    return ran


def test_a_stopped_day_goes_on(gpu, setting, pieces, capsys):
    assert gpu.main(setting) == 1
    found = json.loads((setting.out / "gpu.json").read_text())["pieces"]
    assert found["forms/a"]["failed"] == "RuntimeError: no GPU" and found["training/b"]["steps"] == 3
    assert "missing: forms/a; the same line goes on" in capsys.readouterr().err
    pieces["fail"] = False
    assert gpu.main(setting) == 0 and pieces == {"forms/a": 2, "training/b": 1, "fail": False}
    text = (setting.out / "gpu.md").read_text()
    assert "| a | plain | yes | 100 | 1.00 GiB | loss 0.0001 |" in text and "a\\|b" in text
    assert gpu.main(setting) == 0 and pieces["forms/a"] == 2


def test_results_of_another_device_stay(gpu, setting, pieces):
    gpu.main(setting)
    with pytest.raises(OcheError, match=r"is of device cpu; choose another --out"):
        gpu.main(replace(setting, device="cuda"))


def test_a_command_that_hangs_is_ended(gpu, tmp_path):
    began = time.monotonic()
    assert gpu.run([sys.executable, "-c", "import time; time.sleep(600)"], 0.5, tmp_path / "log") == "ended after 0 s"
    assert time.monotonic() - began < 20


def test_a_command_that_fails_says_its_last_line(gpu, tmp_path):
    words = [sys.executable, "-c", "import sys; sys.exit('no table')"]
    assert gpu.run(words, 60, tmp_path / "log") == "exit code 1: no table"


def test_no_time_is_refused(gpu, setting):
    with pytest.raises(OcheError, match="leave no time"):
        gpu.main(replace(setting, minutes=0))


@pytest.mark.slow  # a dozen processes
def test_all_of_it_on_a_cpu(gpu, setting, without_reports, capsys):
    setting = replace(setting, minutes=4)
    code = gpu.main(setting)
    found = json.loads((setting.out / "gpu.json").read_text())["pieces"]
    assert code == 0, {key: piece for key, piece in found.items() if "failed" in piece}
    assert [*found] == ["forms/darts", "table/first", "ranks/2", "searches/gdas", "training/DARTS_V2"]
    proofs = Verdict.from_dict(found["forms/darts"]["verdict"]).proofs
    assert {proof.form.name for proof in proofs} <= {"native", "plain"} and all(proof.agrees for proof in proofs)
    assert found["table/first"]["rows"]["plain"]["seconds"] > 0 and found["ranks/2"]["batch"] == 16
    assert Path(setting.out / "search-gdas" / "genotype.txt").is_file()
    assert "## Searches on NAS-Bench-201" in capsys.readouterr().out
