"""All commands on run directories with files that are missing, added, renamed, cut, emptied, of another kind, or not finite:
the right output, or one line on stderr and exit code 1 or 2.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import language_runs
import oche
import small_runs
from damaged_files import damages
from oche.cli import main as cli
from oche.core.errors import OcheError

# Files of a run of each kind, with the commands that read what is in them; "" is any command of COMMANDS.
READERS = {
    "search": {
        "config.yaml": "report train search", "status.json": "report train evaluate resume", "summary.json": "report compare",
        "space.json": "report cost", "environment.json": "report", "genotype.txt": "show train query cost report",
        "weights.safetensors": "", "metrics.jsonl": "report compare",
    },
    "train": {
        "config.yaml": "evaluate predict export train", "status.json": "evaluate export resume", "summary.json": "resume card",
        "space.json": "evaluate predict cost", "environment.json": "card report", "genotype.txt": "show evaluate train",
        "weights.safetensors": "evaluate predict export", "metrics.jsonl": "report", "assessment.json": "report",
    },
    "stopped": {
        "config.yaml": "resume", "began.yaml": "resume", "status.json": "resume", "space.json": "resume",
        "metrics.jsonl": "resume", "checkpoint": "resume",
    },
    "text": {
        "config.yaml": "evaluate", "status.json": "evaluate", "summary.json": "report", "space.json": "report",
        "weights.safetensors": "evaluate", "vocabulary.json": "evaluate",
    },
}  # fmt: skip
CASES = [(kind, file) for kind, files in READERS.items() for file in files]
COMMANDS = {
    "search": {
        "report": "report {run}", "show": "show {run} --out out", "train": "train {run} --quiet", "resume": "resume {run}",
        "evaluate": "evaluate {run}", "query": "query {run} --table out/none.parquet", "cost": "cost {run} --quiet",
        "compare": "report {run} train --out out/page.html", "search": "search --config {run}/config.yaml --out out/again",
    },
    "train": {
        "report": "report {run}", "show": "show {run} --out out", "train": "train {run} --quiet", "resume": "resume {run}",
        "evaluate": "evaluate {run} --out out/evaluation", "cost": "cost {run} --quiet",
        "predict": "predict {run} images --out out/p.csv --overwrite",
        "export": "export {run} --to safetensors --out out/model.safetensors --no-card --overwrite --quiet",
        "card": "export {run} --to safetensors --out out/model.safetensors --overwrite --quiet",
    },
    "stopped": {"resume": "resume {run} --quiet"},
    "text": {
        "evaluate": "evaluate {run}", "report": "report {run}", "resume": "resume {run}", "train": "train {run} --quiet",
        "export": "export {run} --quiet",
    },
}  # fmt: skip
SLOW = ("report", "compare", "evaluate", "export", "card")  # a quarter of a second each


@pytest.fixture(scope="session")
def finished(searched, tmp_path_factory):
    """A finished search, a training and a language model, each in a directory that stays as it is."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        small_runs.no_report(patch)
        shutil.copytree(searched.path, folder / "search")
        recipe = small_runs.recipe()
        oche.train(searched.genotype, "digits", recipe=recipe, limit=60, out=folder / "train", checkpoint=0.0)
        (folder / "my.txt").write_text("\n".join(f"w{i % 7} w{i % 5} w{i % 3} w{i % 2} end" for i in range(60)) + "\n")
        language_runs.make(folder / "my.txt", "text", epochs=1)
    (folder / "images").mkdir()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 3).save(folder / "images" / "a.png")
    stop(folder / "train", folder / "stopped")
    return folder


def stop(complete: Path, path: Path) -> None:
    """Write the training that was stopped after the last checkpoint of ``complete`` to ``path``."""
    shutil.copytree(complete, path)
    for name in ("summary.json", "weights.safetensors", "assessment.json", "report.html"):
        (path / name).unlink()
    status = json.loads((path / "status.json").read_text())
    (path / "status.json").write_text(json.dumps({**status, "state": "interrupted"}))
    kept = max((path / "checkpoints").glob("step-*"))
    for file in {*(path / "checkpoints").iterdir()} - {kept}:
        file.unlink()


@pytest.fixture
def quickly(monkeypatch, tmp_path):
    """Nothing is drawn or timed, and no new run begins."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    def begun(*args, **fields):
        raise OcheError("begun")

    monkeypatch.setattr("oche.cli.train.run_train", begun)
    monkeypatch.setattr("oche.cli.search.run_search", begun)
    monkeypatch.setattr("oche.cost.summary.summarise_costs", begun)
    monkeypatch.setattr(FigureCanvasSVG, "print_svg", lambda self, file, **more: file.write(SVG))
    monkeypatch.setattr(FigureCanvasAgg, "print_png", lambda self, file, **more: None)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def undrawn(quickly, monkeypatch):
    """Runs that are resumed draw no report."""
    small_runs.no_report(monkeypatch)


SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9" viewBox="0 0 9 9"><g id="a"/></svg>'


@pytest.fixture
def place(finished, tmp_path):
    """Copies of the finished runs, to damage."""
    for kind in COMMANDS:
        shutil.copytree(finished / kind, tmp_path / kind)
    shutil.copytree(finished / "images", tmp_path / "images")
    (tmp_path / "out").mkdir()
    return tmp_path


def typed(command: str, kind: str, capsys) -> tuple[int, str, str]:
    """Run one command on the run of ``kind``. Return (exit code, stdout, stderr); code -1 if an exception came through."""
    capsys.readouterr()
    try:
        code = cli.main(command.format(run=kind).split())
    except SystemExit as end:
        code = end.code
    except Exception as error:
        return -1, "", f"{type(error).__name__}: {error}"
    return code, *capsys.readouterr()


def wrong(code: int, err: str) -> bool:
    """Whether a command ended in another way than those that are allowed."""
    if code == 0:
        return "Traceback" in err
    return code not in (1, 2) or err.count("\n") != 1 or not err.startswith("oche: ") or len(err) > 1100


FEW = ("missing", "cut", "empty", "a folder in its place", "holds []", "numbers are NaN", "not finite", "a tensor less",
       "first line cut", "holds hello")  # fmt: skip


def chosen(kind: str, file: str, name: str) -> list[str]:
    """Return the commands that are tried with the damage ``name``: all if the file is missing, else those that read it.

    Those that draw or compute for long are tried on a file that is missing or not finite.
    """
    read = READERS[kind][file].split()
    gross = name in ("missing", "numbers are NaN", "not finite")
    names = [c for c in COMMANDS[kind] if c in read or c not in SLOW] if name == "missing" else read
    if kind == "stopped" and name not in FEW:
        return []
    return [c for c in names if gross or c not in SLOW]


@pytest.mark.slow  # some four hundred commands
@pytest.mark.parametrize(("kind", "file"), CASES)
def test_commands_on_a_damaged_file(kind, file, finished, place, quickly, request, capsys):
    if kind == "stopped":
        request.getfixturevalue("undrawn")
    where = (
        file if file != "checkpoint" else next((finished / kind / "checkpoints").iterdir()).relative_to(finished / kind)
    )
    sound, bad = {}, []
    for name in {"evaluate", "predict"} & {*READERS[kind][file].split()} if file in SETTLED else ():
        sound[name] = typed(COMMANDS[kind][name], kind, capsys)
        restore(finished / kind, place / kind)
    for name, spoil in damages(finished / kind / where, FEW):
        for command in chosen(kind, file, name):
            spoil(place / kind / where)
            code, out, err = typed(COMMANDS[kind][command], kind, capsys)
            restore(finished / kind, place / kind)
            if wrong(code, err):
                bad.append(f"{command} with {file} {name}: exit {code}, {err[:300]}")
            elif code == 0 and command in sound and out != sound[command][1]:
                bad.append(f"{command} with {file} {name} says {out[:300]}")
    assert not bad, f"{len(bad)}:\n" + "\n".join(bad[:60])


SETTLED = (
    "status.json",
    "genotype.txt",
    "vocabulary.json",
)  # they do not change what is measured, or nothing is measured


@pytest.mark.slow  # every command twice
@pytest.mark.parametrize("kind", [kind for kind in COMMANDS if kind != "stopped"])
def test_commands_beside_files_that_are_not_those_of_a_run(kind, finished, place, quickly, capsys):
    sound = {name: typed(command, kind, capsys) for name, command in COMMANDS[kind].items()}
    restore(finished / kind, place / kind)
    run = place / kind
    (run / "notes.txt").write_text("mine")
    for folder in ("train-9", "evaluation", "random-1", "random-x", "toy", "checkpoints/more"):
        (run / folder).mkdir(parents=True)
    (run / "checkpoints" / "step-00000009-0123456789abcdef.safetensors").write_bytes(b"x")
    (run / "evaluation" / "assessment.json").write_text("[]")
    (run / "train-9" / "status.json").write_text("{}")
    (run / "random-1" / "metrics.jsonl").write_text("[]\n")
    for name, command in COMMANDS[kind].items():
        code, out, err = typed(command, kind, capsys)
        assert (code, out) == sound[name][:2] and not wrong(code, err), (name, code, out, err, sound[name])


def restore(source: Path, target: Path) -> None:
    """Bring ``target`` back to the state of ``source``."""
    shutil.rmtree(target)
    shutil.copytree(source, target)
