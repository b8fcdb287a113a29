"""Language models in run directories, as the command line makes them: files, results, resuming, measuring anew, refusals."""

import json
import math

import pytest

import oche
import small_runs
from language_runs import make
from oche.cli import main as cli
from oche.core.errors import OcheError
from oche.networks.language_model import Dropouts
from oche.runs.checkpoint import load_weights
from oche.training.language_recipes import LanguageRecipe, PlainSgd, recurrent, recurrent_small

CELL = "Genotype(recurrent=[('tanh', 0), ('relu', 1)], concat=range(1, 3))"
TINY = dict(width=5, batch=4, bptt=6, epochs=3, dropouts=Dropouts(words=0.1), w=PlainSgd(lr=1.0))
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick")]  # whole runs


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
        patch.setattr(LanguageTraining, "try_batch", lambda *_: None)
        with pytest.raises(OcheError, match="out of memory at step 25"):
            oche.train(CELL, text, recipe=LanguageRecipe(**TINY), out=cut, device="cpu", checkpoint=0.0)
    run = oche.resume(cut)
    assert run.state == "complete" and small_runs.metrics(cut) == small_runs.metrics(whole.path)
    assert small_runs.same_weights(cut, whole.path)
    assert {k: v for k, v in run.summary.items() if k not in ("seconds", "step_ms", "other_seconds")} == {
        k: v for k, v in whole.summary.items() if k not in ("seconds", "step_ms", "other_seconds")
    }


def test_a_text_that_changed_is_refused_and_nothing_is_lost(text):
    run, before = make(text), text.read_text()
    status = json.loads((run.path / "status.json").read_text())
    (run.path / "status.json").write_text(json.dumps({**status, "state": "interrupted"}))
    text.write_text("new new " + before)
    with pytest.raises(OcheError, match=r"its text has changed; train: 512 -> 514 tokens.*restore the original text"):
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
    assert small_runs.same_weights(text.parent / "x", text.parent / "again")


def test_characters(text):
    run = oche.train(
        "lstm", text, recipe=LanguageRecipe(**{**TINY, "epochs": 1}), out=text.parent / "x", tokens="characters"
    )
    assert json.loads((run.path / "vocabulary.json").read_text())["tokens"] == "characters"
    assert oche.evaluate(run)["test_loss"] == run.summary["test_loss"]


# --- kinds that do not go together


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["DARTS_V2", "--data", "ptb"], "this genotype makes networks for images, and ptb is text; write --data cifar10, say"),
        (["lstm", "--data", "cifar10"], "recurrent cells (and lstm) make language models, and cifar10 is images"),
        (["lstm", "--recipe", "small"], "the recipe 'small' is for images; write --recipe recurrent or recurrent-small"),
        (["DARTS_V2", "--recipe", "recurrent"], "the recipe 'recurrent' is for text; write --recipe darts, say"),
        (["lstm", "--data", "my.txt"], "bptt=35 is longer than a stream: 512 tokens in batch=64 streams make 8 steps each"),
        (["lstm", "--data", "my.txt", "--train.width", "0"], "width=0 is too small to train"),
    ],
)  # fmt: skip
def test_refusals(text, words, answer, capsys, monkeypatch):
    monkeypatch.chdir(text.parent)
    assert cli.main(["train", *words]) == 2
    error = capsys.readouterr().err
    assert answer in error and error.count("\n") == 1 and not (text.parent / "runs").exists()
