"""Searches of recurrent cells as the command line does them: what they leave, how they resume, what they refuse."""

import json
import random
import re

import pytest

import oche
import small_runs
from oche.cli import main as cli
from oche.runs.session import DirectorySession
from oche.training.loop import Interrupted

pytestmark = pytest.mark.slow  # whole runs

SIZE = ["--space.width", "6", "--space.nodes", "3", "--space.bptt", "4", "--search.batch", "4", "--search.steps", "6"]


@pytest.fixture
def text(tmp_path):
    words = random.Random(0).choices(["one", "two", "red", "blue", "fish"], k=400)
    path = tmp_path / "my.txt"
    path.write_text("\n".join(" ".join(words[i : i + 8]) for i in range(0, 400, 8)) + "\n")
    return path


def run(*words):
    return cli.main(["search", "--space", "recurrent", "--device", "cpu", "--quiet", *map(str, words)])


def test_a_search_and_a_training_of_its_cell(text, tmp_path, capsys):
    out = tmp_path / "run"
    assert cli.main(["search", "--space", "recurrent", "--data", str(text), *SIZE, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "found: Genotype(recurrent=[(" in said and "--recipe recurrent-small" in said and "train ppl" in said
    found = oche.Run.open(out)
    assert len(found.genotype.recurrent.edges) == 3
    assert found.config.space.vocabulary == 7  # five words, <eos> and <unk>
    assert (found.config.search.method.weight_optimizer.lr, found.config.search.batch) == (20.0, 4)
    assert found.summary["val_ppl"] == found.history[-1]["val_ppl"] > 1
    assert json.loads((out / "space.json").read_text())["vocabulary"] == 7
    assert "perplexity" in (out / "report.html").read_text()
    tiny = ["--train.width", "6", "--train.batch", "4", "--train.bptt", "4", "--train.epochs", "1", "--quiet"]
    assert cli.main(["train", str(out), "--recipe", "recurrent-small", *tiny]) == 0
    assert oche.Run.open(out / "train").summary["test_ppl"] > 1


def test_an_interrupted_search_ends_with_the_same_bits(text, tmp_path, monkeypatch):
    small_runs.no_report(monkeypatch)
    options = ["--data", text, *SIZE, "--method", "darts-2nd", "--checkpoint", "0"]
    assert run(*options, "--out", tmp_path / "whole") == 0

    asked = iter([False] * 5 + [True] + [True] + [False] * 1000)  # the loop asks once or twice a step
    monkeypatch.setattr(DirectorySession, "stopping", lambda self: next(asked))
    with pytest.raises(Interrupted):
        oche.search(text, out=tmp_path / "part", **_same(tmp_path / "whole"))
    assert oche.Run.open(tmp_path / "part").state == "interrupted"
    oche.resume(tmp_path / "part")
    assert small_runs.metrics(tmp_path / "part") == small_runs.metrics(tmp_path / "whole")
    assert small_runs.same_weights(tmp_path / "part", tmp_path / "whole")


def _same(path):
    config = oche.Run.open(path).config
    return dict(space=config.space, method=config.search, checkpoint=0.0, device="cpu")


@pytest.mark.parametrize(
    "content, options, words",
    [
        ("", [], "is empty"),
        ("word", [], "token"),
        ("a b a b a b\n" * 30, ["--space.bptt", "400"], "bptt=400"),
        ("a b a b a b\n" * 30, ["--search.batch", "1"], "batch=1"),
        ("a b a b a b\n" * 30, ["--method", "pc-darts"], "partial|PartialEdge"),
        ("a b a b a b\n" * 30, ["--method", "p-darts"], "depth="),
    ],
)
def test_what_cannot_be_is_refused_before_a_run_begins(content, options, words, tmp_path, capsys):
    path = tmp_path / "bad.txt"
    path.write_text(content)
    small = [w for pair in zip(SIZE[::2], SIZE[1::2], strict=True) if pair[0] not in options for w in pair]
    assert run("--data", path, *small, *options, "--out", tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 1
    assert re.search(words, said), said
    assert not (tmp_path / "run").exists()


def test_images_for_a_text_space_and_text_for_an_image_space(text, tmp_path, capsys):
    assert run("--data", "digits", *SIZE, "--out", tmp_path / "run") == 2
    assert "digits is images; use --data ptb" in capsys.readouterr().err
    assert cli.main(["search", "--data", str(text), "--quiet", "--out", str(tmp_path / "run")]) == 2
    assert "--space recurrent" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_text_that_has_changed_is_refused_and_nothing_is_lost(text, tmp_path, monkeypatch, capsys):
    small_runs.no_report(monkeypatch)
    out = tmp_path / "run"
    assert run("--data", text, *SIZE, "--checkpoint", "0", "--out", out) == 0
    (out / "status.json").write_text((out / "status.json").read_text().replace("complete", "interrupted"))
    kept = {p.name: p.read_bytes() for p in (out / "checkpoints").iterdir()}
    text.write_text(text.read_text().replace("fish", "bird"))
    assert cli.main(["resume", str(out)]) == 2
    assert "its text has changed" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in (out / "checkpoints").iterdir()} == kept
