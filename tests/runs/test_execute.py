"""A run that was killed, interrupted or damaged ends bit for bit as one that was not."""

import json
import random
import shutil
import signal
import time
from dataclasses import replace

import pytest
import yaml
from safetensors.torch import load_file

import killed_runs
import oche
from forked_oche import Oche
from oche.cli import main as cli
from oche.methods.published import darts
from oche.runs.checkpoint import load_latest
from oche.runs.config import SearchConfig, TrainConfig
from oche.runs.directory import read_metrics
from oche.spaces import ConvSpace
from oche.training.image_recipes import Recipe

pytestmark = pytest.mark.slow  # runs that are killed and go on

COMMON = dict(data="digits", limit=90, device="cpu", threads=1, checkpoint=0.0)

# Epochs of 3 steps of training, 2 of validation, so that the two orders of images are never at the same place.
SEARCH = SearchConfig(
    **COMMON,
    method="darts-2nd",
    space=ConvSpace(
        channels=2,
        cells=3,
        nodes=2,
        candidates=("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_5x5"),
    ),
    search=darts(order=2, epochs=2, batch=16, split=0.6, pad=1, flip=True),
)
CELL = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1), ('max_pool_3x3', 0), ('dil_conv_3x3', 2)], "
    "normal_concat=[2, 3], reduce=[('max_pool_3x3', 0), ('skip_connect', 1), ('sep_conv_3x3', 1), ('skip_connect', 2)], "
    "reduce_concat=[2, 3])"
)
TRAINING = TrainConfig(
    **COMMON,
    genotype=CELL,
    recipe="small",
    train=Recipe(channels=4, cells=3, epochs=2, batch=30, drop_path=0.4, auxiliary=0.4, cutout=4, pad=1, flip=True),
)
CONFIGS = {"search": SEARCH, "train": TRAINING}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Runs that nothing happened to, and the number of their file events."""
    made = {}

    def of(kind):
        if kind not in made:
            out = tmp_path_factory.mktemp("whole") / kind
            code, said = killed_runs.run(CONFIGS[kind], out)
            assert code == 0, said
            made[kind] = out, int(said.splitlines()[-1])
        return made[kind]

    return of


def results(path):
    """All that a run found, without times."""
    summary = json.loads((path / "summary.json").read_text())
    return {
        "weights": (path / "weights.safetensors").read_bytes(),
        "genotype": (path / "genotype.txt").read_text(),
        "metrics": [{k: v for k, v in record.items() if k != "timings"} for record in read_metrics(path)],
        "summary": {k: v for k, v in summary.items() if k not in ("seconds", "step_ms", "other_seconds")},
        "state": json.loads((path / "status.json").read_text())["state"],
        "config": (path / "config.yaml").read_text(),
        "checkpoint": final_state(path),
    }


def final_state(path):
    """The last checkpoint, but for the time."""
    step, state = load_latest(path / "checkpoints", say=pytest.fail)
    del state["clock"]["elapsed"], state["metrics_size"]
    return step, repr(state)


def check_equal(path, other):
    ours, others = results(path), results(other)
    for name in ours:
        assert ours[name] == others[name], f"{name} of {path} and {other}"


def check_whole(path):
    """That every file of a run killed just now can be read."""
    for file in path.rglob("*"):
        if file.name.startswith(".") or file.is_dir():
            continue
        if file.suffix == ".json":
            json.loads(file.read_text())
        elif file.suffix == ".safetensors":
            load_file(file)
        elif file.suffix == ".yaml":
            assert yaml.safe_load(file.read_text())["data"] == "digits"
    read_metrics(path)
    load_latest(path / "checkpoints", say=pytest.fail)


# --- kill -9 within writes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["search", "train"])
def test_killed_again_and_again_within_writes(tmp_path, whole, kind):
    reference, _ = whole(kind)
    out, rng, kills = tmp_path / kind, random.Random(f"{kind} 1"), 0
    while True:  # lives grow longer: the end alone writes more than a short one has time for
        code, said = killed_runs.run(CONFIGS[kind], out, at=rng.randint(1, 20 + 5 * kills))
        if code == 0:
            break
        assert code == -signal.SIGKILL, said
        kills += 1
        check_whole(out)
    assert kills >= 5
    check_equal(out, reference)
    assert not list(out.rglob(".tmp-*"))


@pytest.mark.parametrize("kind", ["search", "train"])
def test_killed_once_anywhere(tmp_path, whole, kind):
    reference, events = whole(kind)
    rng = random.Random(f"{kind} 2")
    for at in [1, events, *rng.sample(range(2, events), 3)]:
        out = tmp_path / f"{kind}-{at}"
        code, said = killed_runs.run(CONFIGS[kind], out, at=at)
        assert code == -signal.SIGKILL, said
        code, said = killed_runs.run(CONFIGS[kind], out)
        assert code == 0, said
        check_equal(out, reference)


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["search", "train"])
@pytest.mark.parametrize("damaged", [1, 2])
def test_damaged_checkpoints_do_not_change_the_end(tmp_path, whole, kind, damaged):
    """One: the one before it is taken. Two: there is no other, and the run begins anew."""
    reference, events = whole(kind)
    out, rng = tmp_path / kind, random.Random(f"{kind} {damaged}")
    killed_runs.run(CONFIGS[kind], out, at=2 * events // 3)
    checkpoints = sorted((out / "checkpoints").glob("step-*"))
    assert len(checkpoints) >= 2
    for file in checkpoints[-damaged:]:
        data = bytearray(file.read_bytes())
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        file.write_bytes(data)
    code, said = killed_runs.run(CONFIGS[kind], out)
    assert code == 0, said
    lines = [line for line in said.splitlines() if "is damaged" in line and "trying the one before it" in line]
    assert [name for file in reversed(checkpoints) for name in [file.name] if any(name in line for line in lines)] == [
        file.name for file in reversed(checkpoints[-damaged:])
    ]
    assert ("going on from step" in said) == (damaged < len(checkpoints))
    check_equal(out, reference)


# --- a budget of time -------------------------------------------------------------------------------------------------


def test_a_budget_of_time_counts_over_all_lives(tmp_path):
    """Each step takes 0.4 s of a clock that tests can foresee: it looks at the clock twice."""
    config = replace(SEARCH, search=replace(SEARCH.search, budget="4s"))
    code, said = killed_runs.run(config, tmp_path / "whole", tick=0.2)
    assert code == 0, said
    out, rng, kills, code = tmp_path / "x", random.Random(3), 0, -signal.SIGKILL
    while code:
        code, said = killed_runs.run(config, out, at=rng.randint(15, 40 + 15 * kills), tick=0.2)
        kills += code != 0
    assert kills >= 3
    for path in (tmp_path / "whole", out):
        progress = [record["progress"] for record in read_metrics(path)]
        assert progress == sorted(set(progress)) and progress[0] == 0 and progress[-1] == 1
        seconds = [record["timings"]["seconds"] for record in read_metrics(path)[1:]]
        assert seconds == sorted(seconds) and 4 <= seconds[-1] < 4.7
    # Where a life ends after the last step of an epoch, the closing of it looks at the clock once less.
    steps = [json.loads((path / "summary.json").read_text())["steps"] for path in (tmp_path / "whole", out)]
    assert abs(steps[0] - steps[1]) <= kills and steps[0] >= 6


# --- the command line -------------------------------------------------------------------------------------------------


def wait_for(what, process):
    """Until ``what()``, while ``process`` runs."""
    end = time.monotonic() + 120
    while not what() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    assert what(), process.communicate()


def test_kill_9_and_ctrl_c_on_the_command_line(tmp_path, capsys):
    """Longer than the others, so that signals find it at work."""
    config = replace(SEARCH, search=replace(SEARCH.search, epochs=8))
    reference = tmp_path / "whole"
    code, said = killed_runs.run(config, reference)
    assert code == 0, said
    out, rng = tmp_path / "x", random.Random(4)
    words = "search", "--config", reference / "config.yaml", "--out", out

    for life in range(2):
        process = Oche(*(words if life == 0 else ("resume", out)), said=tmp_path / f"life-{life}")
        before = newest(out)
        wait_for(lambda before=before: newest(out) > before, process)
        time.sleep(rng.uniform(0, 0.1))
        if life == 1:
            process.send_signal(signal.SIGSTOP)
            assert cli.main(["resume", str(out)]) == 2
            assert f"{out} is in use by process {process.pid}" in capsys.readouterr().err
        process.kill()
        assert process.wait() == -signal.SIGKILL
        process.communicate()
        check_whole(out)

    process, before = Oche("resume", out, said=tmp_path / "interrupted"), newest(out)
    wait_for(lambda: newest(out) > before, process)
    process.send_signal(signal.SIGINT)
    said, warned = process.communicate(timeout=120)
    assert process.returncode == 130, warned
    assert "stopping after this step" in warned and f"go on with: oche resume {out}" in warned
    assert "Traceback" not in warned and f"going on from step {before}" in said
    assert json.loads((out / "status.json").read_text())["state"] == "interrupted"

    process, stopped = Oche("resume", out, said=tmp_path / "last"), newest(out)
    said, warned = process.communicate(timeout=120)
    assert process.returncode == 0, warned
    assert f"going on from step {stopped}" in said and (out / "report.html").exists()
    check_equal(out, reference)


def newest(path):
    """Step of the newest checkpoint; 0 where there is none."""
    return max((int(p.name.split("-")[1]) for p in (path / "checkpoints").glob("step-*")), default=0)


def test_a_complete_run_is_left_as_it_is(whole, capsys):
    path, _ = whole("search")
    (path / "report.html").write_text("as it was")
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in path.rglob("*") if p.is_file()}
    assert oche.resume(path, quiet=False).state == "complete"
    assert f"{path} is complete; nothing to resume" in capsys.readouterr().out
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in path.rglob("*") if p.is_file()} == before
    assert cli.main(["search", "--config", str(path / "config.yaml"), "--out", str(path)]) == 2
    assert "a complete search" in capsys.readouterr().err


def test_a_run_killed_before_its_report_gets_it(tmp_path, whole):
    path = tmp_path / "x"
    shutil.copytree(whole("train")[0], path)
    (path / "report.html").unlink(missing_ok=True)
    oche.resume(path)
    assert (path / "report.html").exists()
