"""The status of a study, and what is said on the way."""

from __future__ import annotations

import io
import json
import re
import signal
from types import SimpleNamespace

import pytest

import study_files
from oche.cli import main as cli
from oche.study import local
from oche.study import run as study_run
from oche.study.config import Placement
from oche.study.processes.resources import usable_cores
from oche.study.status import status_table
from study_files import LOG

GRID = {"method": ["darts", "random"], "seed": [0, 1]}


@pytest.mark.slow
def test_what_is_said(tmp_path, started, capsys):
    file = study_files.write(tmp_path, recipe="small", grid=GRID)
    assert cli.main(["study", str(file), "--check"]) == 0
    assert capsys.readouterr().out.count(" · seed ") == 4 and not (tmp_path / "out").exists()
    assert cli.main(["study", str(file)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("4 trials\n") and "\ndarts · seed 0: test acc " in said and "best: " in said
    out = tmp_path / "out"
    next((out / "trials").glob("*/summary.json")).unlink()
    assert cli.main(["study", "status", str(out)]) == 0
    said = capsys.readouterr().out
    # state.json still says complete; without its result it is not
    assert "4 trials: 3 complete, 1 interrupted; " in said and "best: " in said
    assert (
        re.search(r"interrupted +100 % +test acc \d+\.\d\d % so far", said)
        and len(re.findall("complete +100 %", said)) == 3
    )
    assert cli.main(["study", str(out)]) == 0
    assert "4 trials, 3 of them complete" in capsys.readouterr().out


@pytest.mark.slow
def test_status_follows_until_nothing_is_left_to_do(tmp_path, started, monkeypatch, capsys):
    study = study_files.study(tmp_path, grid={"method": "darts", "seed": [0, 1]})
    study_run.write_study(study)
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 2:  # between the second look and the third somebody runs it
            assert study_run.run_study(study, LOG, "x") == 0

    monkeypatch.setattr("oche.cli.study.time", SimpleNamespace(sleep=sleep))
    assert cli.main(["study", "status", str(tmp_path / "out"), "--follow"]) == 0
    assert len(looks) == 2 and capsys.readouterr().out.endswith("%\n") and len(started) == 2

    next((tmp_path / "out/trials").glob("*/summary.json")).unlink()
    monkeypatch.setattr("oche.cli.study.time.sleep", lambda seconds: signal.raise_signal(signal.SIGINT))
    assert cli.main(["study", "status", str(tmp_path / "out"), "--follow"]) == 0  # Ctrl-C
    assert "2 trials: 1 complete, 1 interrupted" in capsys.readouterr().out


def test_the_best_and_the_room_follow_from_what_trials_left(tmp_path, monkeypatch):
    study = study_files.study(tmp_path, grid={"method": ["darts", "gdas", "snas"]})
    jobs = study_run.write_study(study)
    assert local.standing(jobs) is None and local.local_resources(jobs, study.place, "cpu").need == 0
    for job, value in zip(jobs, (0.25, 0.75, None), strict=True):
        job.usage_file.write_text(json.dumps({"peak_mb": 100 * (value or 9)}))
        if value:
            (job.path / "summary.json").write_text(json.dumps({"genotype": "g", "search_val_acc": value}))
    assert local.standing(jobs) == ("best", "gdas · seed 0, search val acc 75.00 %")
    room = local.local_resources(jobs, study.place, "cpu")
    assert room.measured and room.need == 900 * 2**20 and len(room.slots) == usable_cores()
    room = local.local_resources(jobs, Placement(jobs=5), "cpu")
    assert not room.measured and len(room.slots) == 5
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [
        slot["CUDA_VISIBLE_DEVICES"] for slot in local.local_resources(jobs, Placement(gpus=0.5), "auto").slots
    ] == [*"0101"]
    assert [trial_result[0] for trial_result in local.progress_rows(jobs)] == ["2 of 3 trials"]


@pytest.mark.parametrize(
    ("key", "values", "more", "said"),
    [
        ("test_acc", [0.5] * 8, {"test_images": 360}, ("no single best", "8 of 8 trials have test acc 50.00 %")),
        ("true_acc", [0.94, 0.94, 0.91], {}, ("no single best", "2 of 3 trials have true acc 94.00 %")),
        ("search_val_acc", [0.6, 0.6], {}, ("no single best", "2 of 2 trials have search val acc 60.00 %")),
        ("test_ppl", [61.5, 60.0, 60.0], {}, ("no single best", "2 of 3 trials have test ppl 60.00")),
        ("test_ppl", [61.5, 60.0, 60.1], {}, ("best", "METHOD1 · seed 0, test ppl 60.00")),
        # 0.96 and 0.93 of 360 images: 1.96 √(.96 × .04 / 360 + .93 × .07 / 360) = 0.033; 0.80 is far from it
        (
            "test_acc",
            [0.96, 0.93, 0.80],
            {"test_images": 360},
            ("no single best", "2 of 3 trials have test acc 93.00 % to 96.00 %, too close for 360 images"),
        ),
        ("test_acc", [0.96, 0.93, 0.80], {"test_images": 10_000}, ("best", "METHOD0 · seed 0, test acc 96.00 %")),
        ("test_acc", [0.96, 0.93, 0.80], {}, ("best", "METHOD0 · seed 0, test acc 96.00 %")),  # of an earlier version
        ("val_acc", [0.9], {"val_images": 5}, ("best", "METHOD0 · seed 0, val acc 90.00 %")),
    ],
)
def test_trials_that_tie_have_no_best(tmp_path, key, values, more, said):
    methods = ["darts", "gdas", "snas", "sgas-1", "sgas-2", "drnas", "pc-darts", "i-darts"][: len(values)]
    jobs = study_run.write_study(study_files.study(tmp_path, grid={"method": methods}))
    for job, value in zip(jobs, values, strict=True):
        (job.path / "summary.json").write_text(json.dumps({"genotype": "g", key: value, **more}))
    text = said[1]
    for i, method in enumerate(methods):
        text = text.replace(f"METHOD{i}", method)
    assert local.standing(jobs) == (said[0], text)


def test_the_table_names_the_two_times_and_what_tells_trials_apart(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    asked = study_files.study(tmp_path, grid={"method": ["darts"], "space.channels": [2, 4]})
    (job, _) = study_run.write_study(asked)
    found = {"genotype": "g", "search_val_acc": 0.5, "search_seconds": 1.2, "train_seconds": 2.0}
    (job.path / "summary.json").write_text(json.dumps(found))
    job.usage_file.write_text(json.dumps({"peak_mb": 300.0, "wall_s": 18.7, "cpu_s": 17.0}))
    assert cli.main(["study", "status", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    head, row = said.splitlines()[:2]
    assert re.split(r" {2,}", head.strip())[5:] == ["steps (s)", "process (s)", "memory (MB)", "id"]
    assert row.startswith("darts · space.channels=2 ") and re.search(rf" 3 +19 +300  {job.path.name}$", row.rstrip())


@pytest.mark.parametrize("width", [60, 80, 110, 160])
def test_the_table_fits_the_terminal_and_keeps_results_on_one_line(tmp_path, width):
    from rich.console import Console

    asked = study_files.study(tmp_path, grid={"method": ["darts"], "space.channels": [2, 4], "search.batch": [4, 8]})
    for job in study_run.write_study(asked):
        found = {"genotype": "g", "search_val_acc": 0.5, "search_seconds": 1.2}
        (job.path / "summary.json").write_text(json.dumps(found))
    out = Console(width=width, file=io.StringIO())
    out.print(status_table(tmp_path / "out", width)[1])
    lines = out.file.getvalue().splitlines()
    assert all(len(line) <= width for line in lines) and sum("search val acc 50.00 %" in line for line in lines) == 4
    assert not any(line.strip() == "%" for line in lines)
    assert ("process" in "".join(lines)) == (width >= 80) and (job.path.name in lines[-1]) == (width == 160)
