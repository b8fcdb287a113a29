"""Language models in run directories, as the command line makes them: files, results, resuming, measuring anew, refusals."""

import json
import math
import shutil

import pytest
import torch

import oche
import runs
from oche.cli import main as cli
from oche.core.errors import OcheError
from oche.networks.language_model import Dropouts
from oche.runs.checkpoint import load_weights
from oche.training.language_recipes import LanguageRecipe, PlainSgd, recurrent, recurrent_small

CELL = "Genotype(recurrent=[('tanh', 0), ('relu', 1)], concat=range(1, 3))"
TINY = dict(width=5, batch=4, bptt=6, epochs=3, dropouts=Dropouts(words=0.1), w=PlainSgd(lr=1.0))
pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def text(tmp_path):
    g = torch.Generator().manual_seed(0)
    lines = [" ".join(f"w{int(n)}" for n in torch.randint(12, (7,), generator=g)) for _ in range(80)]
    (tmp_path / "my.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "my.txt"


def make(text, out="x", genotype=CELL, **fields):
    return oche.train(genotype, text, recipe=LanguageRecipe(**{**TINY, **fields}), out=text.parent / out, device="cpu")


@pytest.mark.parametrize("genotype", [CELL, "lstm"])
def test_a_run_and_what_it_leaves(text, genotype):
    run = make(text, genotype=genotype)
    assert run.state == "complete" and len(run.history) == 3 and run.config.genotype == genotype
    assert run.summary["val_ppl"] == pytest.approx(min(r["val_ppl"] for r in run.history))
    assert run.summary["test_ppl"] == pytest.approx(math.exp(run.summary["test_loss"]))
    net = run.config.train.network(genotype, 14)
    assert run.summary["parameters"] == sum(w.numel() for w in net.parameters())
    written = json.loads((run.path / "vocabulary.json").read_text())
    assert len(written["vocabulary"]) == 14 and written["tokens"] == "words"
    assert load_weights(run.path / "weights.safetensors").keys() == net.state_dict().keys()
    if genotype == "lstm":
        with pytest.raises(OcheError, match="trains 'lstm', which has no cells"):
            _ = run.genotype
    else:
        assert str(run.genotype) == CELL
    found = oche.evaluate(run)  # the weights that were saved are those that were measured
    assert found["test_loss"] == run.summary["test_loss"] and found["val_loss"] == run.summary["val_loss"]
    assert found["val_tokens"] == len(oche.data.load_text(text).valid)


def test_an_interrupted_run_goes_on_to_the_same_bits(text):
    whole = make(text)
    cut = text.parent / "cut"
    from oche.training.language_trainer import LanguageTraining

    step, calls = LanguageTraining.step, []

    def killed(self, *args):
        calls.append(args)
        if len(calls) == 25:  # in the second epoch
            raise MemoryError
        step(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LanguageTraining, "step", killed)
        patch.setattr(LanguageTraining, "attempt", lambda *_: None)
        with pytest.raises(OcheError, match="out of memory at step 25"):
            oche.train(CELL, text, recipe=LanguageRecipe(**TINY), out=cut, device="cpu", checkpoint=0.0)
    run = oche.resume(cut)
    assert run.state == "complete" and runs.metrics(cut) == runs.metrics(whole.path)
    assert runs.same_weights(cut, whole.path)
    assert {k: v for k, v in run.summary.items() if k not in ("seconds", "step_ms")} == {
        k: v for k, v in whole.summary.items() if k not in ("seconds", "step_ms")
    }


def test_a_text_that_changed_is_refused_and_nothing_is_lost(text):
    run, before = make(text), text.read_text()
    status = json.loads((run.path / "status.json").read_text())
    (run.path / "status.json").write_text(json.dumps({**status, "state": "interrupted"}))
    text.write_text("new new " + before)
    with pytest.raises(OcheError, match=r"the checkpoint knows 14 words, and it lacks 1 of .*, such as 'new'"):
        oche.resume(run.path)
    text.write_text(before)
    assert oche.resume(run.path).summary["test_loss"] == run.summary["test_loss"]


def test_what_is_trained_decides_recipe_and_data(text):
    from oche.runs.resolve import default_training

    config, _ = default_training("DARTS_RNN_V2", None, {})
    assert config.data == "ptb" and config.recipe == "recurrent" and config.train == recurrent()
    assert default_training("lstm", "x.txt", {})[0].train == recurrent()
    config, out = default_training(make(text), None, {})
    assert config.data == str(text) and config.genotype == CELL and out == text.parent / "x" / "train"
    assert default_training("DARTS_V2", None, {})[0].recipe == "darts"
    small = make(text, "small", dropouts=recurrent_small().dropouts, test_batch=10)
    assert small.config.recipe == "recurrent-small"


# --- the command line


SMALL = [
    "--recipe",
    "recurrent-small",
    "--train.width",
    "5",
    "--train.batch",
    "4",
    "--train.steps",
    "5",
    "--device",
    "cpu",
]


@pytest.mark.parametrize("words", [["DARTS_RNN_V1"], ["--genotype", "lstm"], ["--genotype=LSTM"], [CELL]])
def test_commands(text, words, capsys, monkeypatch):
    monkeypatch.chdir(text.parent)
    assert cli.main(["train", *words, "--data", "my.txt", *SMALL, "--out", "x", "--train.bptt", "6"]) == 0
    said = capsys.readouterr()
    assert "x: validation perplexity" in said.out + said.err and "test perplexity" in said.out + said.err
    assert cli.main(["evaluate", "x"]) == 0
    summary = oche.Run.open("x").summary
    out = capsys.readouterr().out
    assert out == f"validation perplexity {summary['val_ppl']:.2f}, test perplexity {summary['test_ppl']:.2f}\n"
    assert cli.main(["train", "--config", "x/config.yaml", "--out", "again", "--quiet"]) == 0
    assert runs.same_weights(text.parent / "x", text.parent / "again")


def test_characters(text):
    run = oche.train(
        "lstm", text, recipe=LanguageRecipe(**{**TINY, "epochs": 1}), out=text.parent / "x", tokens="characters"
    )
    assert json.loads((run.path / "vocabulary.json").read_text())["tokens"] == "characters"
    assert oche.evaluate(run)["test_loss"] == run.summary["test_loss"]


# --- other data


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
    with pytest.raises(
        OcheError, match="trained a language model, which classifies nothing; measure it with: oche evaluate"
    ):
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


# --- images


def test_images_are_measured_again(tmp_path, capsys):
    data = runs.npz(tmp_path / "mine.npz")
    run = oche.train("DARTS_V2", data, recipe=runs.recipe(batch=8), out=tmp_path / "x", device="cpu")
    found = oche.evaluate(run, device="cpu")
    assert found["test_acc"] == run.summary["test_acc"] and found["test_images"] == 12
    assert found["test_loss"] == pytest.approx(run.summary["test_loss"], rel=1e-5)
    assert cli.main(["evaluate", str(run.path)]) == 0
    head, *_, last = capsys.readouterr().out.splitlines()
    assert (
        head == f"test accuracy {100 * found['test_acc']:.2f} %"
        and last == f"report: {run.path}/evaluation/report.html"
    )
    other = runs.npz(tmp_path / "larger.npz", side=16)  # brought to the size of the training
    assert 0 <= oche.evaluate(run, other)["test_acc"] <= 1
    with pytest.raises(OcheError, match=r"larger has the classes 0, 1, 2, and .* was trained on 0, 1, 2, 3"):
        oche.evaluate(run, runs.npz(tmp_path / "larger.npz", classes=3))
    with pytest.raises(OcheError, match=r"grey has 1 channels, and .* was trained on 3"):
        oche.evaluate(run, runs.npz(tmp_path / "grey.npz", channels=1))
    with pytest.raises(OcheError, match="was trained on images, and ptb is text"):
        oche.evaluate(run, "ptb")


# --- kinds that do not go together


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["DARTS_V2", "--data", "ptb"], "this genotype makes networks for images, and ptb is text; write --data cifar10, say"),
        (["lstm", "--data", "cifar10"], "recurrent cells (and lstm) make language models, and cifar10 is images"),
        (["lstm", "--recipe", "small"], "the recipe 'small' is one for images; write --recipe recurrent or recurrent-small"),
        (["DARTS_V2", "--recipe", "recurrent"], "the recipe 'recurrent' is one for text; write --recipe darts, say"),
        (["lstm", "--data", "my.txt"], "bptt=35 is longer than a stream: 512 tokens in batch=64 streams make 8 steps each"),
        (["lstm", "--data", "my.txt", "--train.width", "0"], "width=0 is too small to train"),
    ],
)  # fmt: skip
def test_refusals(text, words, answer, capsys, monkeypatch):
    monkeypatch.chdir(text.parent)
    assert cli.main(["train", *words]) == 2
    error = capsys.readouterr().err
    assert answer in error and error.count("\n") == 1 and not (text.parent / "runs").exists()
