"""Bad luck in a run: a loss that is no number, and too little memory. What is said, what is kept, and how it goes on."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import oche
import small_runs
from forked_oche import run_code
from oche.bilevel.search import Search
from oche.cli import main as cli
from oche.core.optimizers import Adam, Sgd
from oche.runs.checkpoint import latest_step, load_latest
from oche.training.image_trainer import Training
from oche.training.loop import Diverged

pytestmark = pytest.mark.slow  # whole runs


class Killed(BaseException):
    pass


def die_at(patch: pytest.MonkeyPatch, cls: type, step: int) -> None:
    """Has tasks of ``cls`` end where ``step`` begins, as a kill would."""
    done = cls.step

    def dying(self, at, progress):
        if at == step:
            raise Killed
        done(self, at, progress)

    patch.setattr(cls, "step", dying)


def change(path: Path, **values: float) -> None:
    """Edits the config.yaml of a run, the part about weights, as its user would."""
    text = (path / "config.yaml").read_text()
    for name, value in values.items():
        text, times = re.subn(rf"(?m)^( +(?:w|weight_optimizer):\n +{name}: )[\d.e+-]+$", rf"\g<1>{value}", text)
        assert times == 1, name
    (path / "config.yaml").write_text(text)


def sound(state: Any) -> bool:
    if isinstance(state, dict):
        return all(map(sound, state.values()))
    if isinstance(state, list | tuple):
        return all(map(sound, state))
    return not isinstance(state, torch.Tensor) or bool(state.isfinite().all())


def search(path: Path) -> None:
    method = oche.methods.darts(batch=8, steps=8, weight_optimizer=Sgd(clip=0.0))
    space = oche.spaces.darts(channels=2, cells=3, nodes=1, candidates=("none", "skip_connect", "sep_conv_3x3"))
    small_runs.search(path, space=space, method=method, checkpoint=0.0, limit=80)


def train(path: Path) -> None:
    recipe = small_runs.recipe(steps=8, batch=16, w=Sgd(clip=0.0))
    oche.train("DARTS_V2", "digits", recipe=recipe, limit=80, checkpoint=0.0, out=path)


@pytest.mark.parametrize(
    ("begin", "task", "part"), [(search, Search, "search.method.weight_optimizer"), (train, Training, "train.w")]
)
def test_a_run_that_diverged_goes_on_from_before_as_if_nothing_had_happened(begin, task, part, tmp_path, quick, capsys):
    begin(tmp_path / "whole")
    path = tmp_path / "x"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        die_at(patch, task, 4)
        begin(path)
    change(path, lr=1e25)
    # Step 5 leaves weights that are numbers still. Step 6, or the test after step 5, finds that they give none: what was saved
    # between is dropped.
    assert cli.main(["resume", str(path), "--quiet"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and len(error) < 500
    rate = re.escape(f"{task_rate(path, (5 if task is Search else 4) / 8):.3g}")
    found = (
        "train loss became nan at step 6 (epoch 2)" if task is Search else "test loss became nan after step 5 (epoch 1)"
    )
    assert re.match(rf"oche: the {re.escape(found)}, with a learning rate of {rate}; ", error)
    logits = " or search.method.arch_optimizer.lr" if task is Search else ""  # they are no numbers either
    assert error.endswith(
        f"try a smaller learning rate or gradient clipping; the checkpoint of step 4 is kept: change {part}.lr or "
        f"{part}.clip{logits} in {path}/config.yaml and write: oche resume {path}\n"
    )
    status = json.loads((path / "status.json").read_text())
    assert status["state"] == "failed" and found in status["error"]
    _, state = load_latest(path / "checkpoints") or pytest.fail("no checkpoint")
    assert latest_step(path / "checkpoints") == 4 and sound(state)
    change(path, lr=Sgd().lr)
    assert cli.main(["resume", str(path), "--quiet"]) == 0
    assert small_runs.metrics(path) == small_runs.metrics(tmp_path / "whole")
    assert small_runs.same_weights(path, tmp_path / "whole")


def task_rate(path: Path, progress: float) -> float:
    config = oche.Run.open(path).config
    sgd = config.search.method.weight_optimizer if oche.Run.open(path).kind == "search" else config.train.w
    return sgd.rate(progress)


def test_without_a_checkpoint_it_begins_anew(tmp_path, quick):
    method = oche.methods.darts(batch=16, steps=6, weight_optimizer=Sgd(lr=1e30, clip=0.0))
    with pytest.raises(
        Diverged, match=r"so it begins anew: change (search\.method\.weight_optimizer)\.lr or \1\.clip or "
    ):
        small_runs.search(tmp_path / "x", method=method)
    change(tmp_path / "x", lr=0.025)
    assert oche.resume(tmp_path / "x").state == "complete"


def test_the_last_step_of_a_run_is_not_taken_on_trust(tmp_path, quick, capsys):
    """No further loss is computed after it. The run is not complete, and holds no weights."""
    words = "train DARTS_V2 --data digits --limit 40 --recipe small --train.channels 2 --train.cells 3 --train.steps 1"
    words += f" --train.w.lr 1e25 --train.w.clip 0 --device cpu --quiet --out {tmp_path}/x"
    assert cli.main(words.split()) == 1
    error = capsys.readouterr().err
    assert error.startswith(
        "oche: the test loss became nan after step 1 (epoch 1), with a learning rate of 1e+25; try a smaller"
    )
    assert error.count("\n") == 1 and "change train.w.lr or train.w.clip in" in error
    assert json.loads((tmp_path / "x" / "status.json").read_text())["state"] == "failed"
    assert not {"weights.safetensors", "summary.json", "assessment.json", "metrics.jsonl"} & {
        p.name for p in (tmp_path / "x").iterdir()
    }


def test_a_rate_of_the_architecture_that_is_too_large_is_named(tmp_path, quick):
    method = oche.methods.darts(batch=8, steps=4, arch_optimizer=Adam(lr=1e30))
    with pytest.raises(Diverged, match=r"\.clip or search\.method\.arch_optimizer\.lr in "):
        small_runs.search(tmp_path / "x", method=method)
    assert not (tmp_path / "x" / "weights.safetensors").exists()


SHORT_OF_MEMORY = """
import ctypes, os, resource, sys
from pathlib import Path
import oche.report.run_page
from oche.cli import main as cli

def search(*words):
    fixed = "search --limit 800 --space.cells 3 --space.nodes 2 --quiet --checkpoint 0 --search.steps 1 --engine plain"
    return cli.main([*fixed.split(), *words])

folder, batch = {arguments}
os.chdir(folder)
ctypes.CDLL(None).mallopt(-3, 65536)  # M_MMAP_THRESHOLD: tensors lie outside the heap, so that what they free is free
oche.report.run_page.write_report = lambda path: path
search("--space.channels", "2", "--search.batch", "2", "--out", "warm" + batch)  # imports, data
used = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (1024 * int(used.split()[1]) + 200 * 2**20, resource.RLIM_INFINITY))
sys.exit(search("--search.batch", batch, "--out", "x" + batch))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to a limit of its memory")
def test_the_batch_that_is_named_does_fit(tmp_path):
    def search(batch: str) -> tuple[int, str]:
        return run_code(
            SHORT_OF_MEMORY.replace("{arguments}", repr((str(tmp_path), batch))), tmp_path / f"said-{batch}"
        )

    code, said = search("400")
    found = re.fullmatch(
        r"oche: out of memory at step 1, with batches of 400; a batch of (\d+) fits \(tried\); no checkpoint is there, so it "
        r"begins anew: change search\.batch in x400/config\.yaml and write: oche resume x400\n",
        said,
    )
    assert code == 1 and found, said
    assert search(found[1]) == (0, "")
