"""Finished trainings are measured on other data."""

import json
import shutil

import pytest
import torch

import oche
import small_runs
from language_runs import make
from oche.cli import main as cli
from oche.core.errors import OcheError
from oche.runs.checkpoint import load_weights

CELL = "Genotype(recurrent=[('tanh', 0), ('relu', 1)], concat=range(1, 3))"
pytestmark = pytest.mark.usefixtures("quick")


def test_other_texts(text, capsys):
    run = make(text, test_batch=1)
    other = text.parent / "other.txt"
    other.write_text("w1 w2 foreign w3\n" * 6)
    found = oche.evaluate(run, other)
    assert found["test_tokens"] == 30 and found["test_unknown"] == pytest.approx(0.2) and "val_ppl" not in found
    vocabulary = json.loads((run.path / "vocabulary.json").read_text())["vocabulary"]
    net = run.config.train.network(CELL, 14)
    net.load_state_dict(load_weights(run.path / "weights.safetensors"))
    line = [vocabulary.index(w) for w in ("w1", "w2", "<unk>", "w3", "<eos>")]
    tokens = torch.tensor(line * 6)[:, None]
    with torch.no_grad():
        logp = net.eval()(tokens[:-1]).logits.log_softmax(2)
    assert found["test_loss"] == pytest.approx(-logp.gather(2, tokens[1:, :, None]).mean().item(), rel=1e-5)
    assert cli.main(["evaluate", str(run.path), "--data", str(other)]) == 0
    assert "unknown tokens: 20.00 % of 30" in capsys.readouterr().out
    parts = text.parent / "parts"
    parts.mkdir()
    for part in ("train", "valid", "test"):
        (parts / f"{part}.txt").write_text("w5 w2 w1\n" * 9)
    assert oche.evaluate(run, parts)["val_tokens"] == 36


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("digits", "was trained on text, and digits is images; give --data of its kind"),
        ("none.txt", "there is no file none.txt"),
        ("foreign.txt", "the vocabulary has none of its words"),
        ("empty.txt", "empty.txt is empty"),
    ],
)
def test_data_that_cannot_be_measured(text, data, words, monkeypatch):
    monkeypatch.chdir(text.parent)
    run = make(text, epochs=1)
    (text.parent / "foreign.txt").write_text("le chat\n")
    (text.parent / "empty.txt").touch()
    with pytest.raises(OcheError, match=words):
        oche.evaluate(run, data)


def test_what_is_no_finished_training_is_refused(text, searched):
    with pytest.raises(OcheError, match="is a search run, which leaves no final network"):
        oche.evaluate(searched)
    run = make(text, epochs=1)
    with pytest.raises(OcheError, match="trained a language model, not a classifier; measure it with: oche evaluate"):
        oche.load(run)
    lacking = text.parent / "lacking"
    shutil.copytree(run.path, lacking)
    (lacking / "vocabulary.json").unlink()
    with pytest.raises(OcheError, match=r"has no vocabulary.json; restore it"):
        oche.evaluate(lacking)
    written = json.loads((run.path / "vocabulary.json").read_text())
    (lacking / "vocabulary.json").write_text(json.dumps({**written, "vocabulary": written["vocabulary"][:-1]}))
    with pytest.raises(OcheError, match=r"does not fit .* bias is \(14,\) in the file, \(13,\) in the network"):
        oche.evaluate(lacking)
    status = json.loads((run.path / "status.json").read_text())
    (run.path / "status.json").write_text(json.dumps({**status, "state": "interrupted"}))
    with pytest.raises(OcheError, match="is not complete"):
        oche.evaluate(run)


@pytest.mark.slow
def test_images_are_measured_again(tmp_path, capsys):
    data = small_runs.npz(tmp_path / "mine.npz")
    run = oche.train("DARTS_V2", data, recipe=small_runs.recipe(batch=8), out=tmp_path / "x", device="cpu")
    found = oche.evaluate(run, device="cpu")
    assert found["test_acc"] == run.summary["test_acc"] and found["test_images"] == 12
    assert found["test_loss"] == pytest.approx(run.summary["test_loss"], rel=1e-5)
    assert cli.main(["evaluate", str(run.path)]) == 0
    head, *lines, last = capsys.readouterr().out.splitlines()
    assert head.startswith(f"test accuracy {100 * found['test_acc']:.2f} % (balanced ")
    assert f"report: {run.path}/evaluation/report.html" in (last, *lines)
    other = small_runs.npz(tmp_path / "larger.npz", side=16)  # brought to the size of the training
    assert 0 <= oche.evaluate(run, other)["test_acc"] <= 1
    with pytest.raises(OcheError, match=r"larger has the classes 4, 5, and .* was trained on 0, 1, 2, 3"):
        oche.evaluate(run, small_runs.npz(tmp_path / "larger.npz", classes=6))
    with pytest.raises(OcheError, match=r"grey has 1 channels, and .* was trained on 3"):
        oche.evaluate(run, small_runs.npz(tmp_path / "grey.npz", channels=1))
    with pytest.raises(OcheError, match="was trained on images, and ptb is text"):
        oche.evaluate(run, "ptb")
