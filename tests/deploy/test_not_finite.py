"""A network with weights or outputs that are not finite is refused wherever it is used, and reports of it still work."""

import json
from dataclasses import replace
from math import inf, nan

import numpy as np
import pytest
import torch
from PIL import Image

import language_runs
import oche
import small_runs
from oche.cli import main as cli
from oche.core.errors import OcheError
from oche.deploy.export import Disagreement, Export, export
from oche.deploy.targets import TARGETS
from oche.runs.checkpoint import load_weights, save_weights, weights_metadata


def spoil(file, name, value, at=0):
    """Write the weights of a file anew, with a sound hash and one value changed."""
    tensors, metadata = load_weights(file), weights_metadata(file)
    tensors[name].view(-1)[at] = value
    save_weights(file, tensors, metadata)


def one_line(words, capsys, code=2) -> str:
    assert cli.main([str(word) for word in words]) == code
    error = capsys.readouterr().err
    assert error.startswith("oche: ") and error.count("\n") == 1
    return error


BROKEN = [
    ("stem.0.weight", nan, "nan"), ("stem.1.running_var", inf, "infinite"), ("stem.1.running_mean", nan, "nan"),
    ("head.2.bias", -inf, "infinite"), ("auxiliary.classifier.bias", nan, "nan"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "kind"), BROKEN)
def test_every_use_names_the_broken_tensor(name, value, kind, copied, tmp_path, capsys):
    file = copied / "weights.safetensors"
    spoil(file, name, value, at=1)
    count = load_count(file, name)
    says = (
        f"{file} holds a network that cannot be used: {name} is not finite (1 of {count} values is {kind}); train again"
    )
    (tmp_path / "p").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "p" / "x.png")
    for words in (
        ["predict", copied, tmp_path / "p", "--out", tmp_path / "p.csv"], ["evaluate", copied],
        ["export", copied, "--to", "safetensors"], ["export", copied, "--to", "torch-export"],
    ):  # fmt: skip
        assert says in one_line(words, capsys)
    for use in (oche.load, oche.evaluate, export):
        with pytest.raises(OcheError, match="holds a network that cannot be used"):
            use(copied)
    assert not (copied / "export").exists() and not (tmp_path / "p.csv").exists()


def load_count(file, name) -> int:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        return opened.get_tensor(name).numel()


def test_an_exported_file_too(trained, tmp_path, capsys):
    file = tmp_path / "x.safetensors"
    export(trained, Export(to="safetensors"), out=file, card=False)
    spoil(file, "head.2.weight", nan)
    (tmp_path / "p").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "p" / "x.png")
    error = one_line(["predict", file, tmp_path / "p", "--out", tmp_path / "p.csv"], capsys)
    assert "head.2.weight is not finite (1 of" in error


def test_a_language_model_too(text, quick, capsys):
    run = language_runs.make(text)
    file = run.path / "weights.safetensors"
    name = next(iter(load_weights(file)))
    spoil(file, name, nan)
    assert f"{name} is not finite" in one_line(["evaluate", run.path], capsys)


@pytest.mark.parametrize("loss", [nan, inf, 800.0])
def test_a_perplexity_that_is_not_finite_is_none(loss, text, quick, capsys, monkeypatch):
    run = language_runs.make(text)
    monkeypatch.setattr("oche.deploy.evaluate.cross_entropy", lambda *args: loss)
    error = one_line(["evaluate", run.path], capsys)
    assert f"is not finite on the val text of {text} (loss {loss:g} nats a token), so it means nothing" in error


@pytest.mark.slow
def test_the_report_of_such_a_run_still_works(copied, capsys):
    spoil(copied / "weights.safetensors", "stem.0.weight", nan)
    summary = json.loads((copied / "summary.json").read_text())
    (copied / "summary.json").write_text(json.dumps(summary | {"test_loss": nan, "test_ece": nan}))
    assert cli.main(["report", str(copied)]) == 0
    assert "test accuracy" in (copied / "report.html").read_text()


# --- weights that are finite, and outputs that are not ----------------------------------------------------------------


@pytest.fixture
def overflowing(copied):
    """Weights that are numbers, whose products are not."""
    file = copied / "weights.safetensors"
    tensors, metadata = load_weights(file), weights_metadata(file)
    tensors["head.2.weight"].fill_(3e38)
    tensors["head.2.weight"][0].fill_(-3e38)
    save_weights(file, tensors, metadata)
    return copied


def test_evaluation_refuses_outputs_that_are_not_finite(overflowing, capsys):
    error = one_line(["evaluate", overflowing], capsys)
    assert "the outputs of the network are not finite for " in error and "accuracy would mean nothing" in error


def test_prediction_names_the_image(overflowing, tmp_path, capsys):
    (tmp_path / "p").mkdir()
    for i in range(3):
        Image.fromarray(np.full((8, 8), 60 + 80 * i, np.uint8)).save(tmp_path / "p" / f"{i}.png")
    out = tmp_path / "p.csv"
    error = one_line(["predict", overflowing, tmp_path / "p", "--out", out, "--batch", "2"], capsys)
    assert f"{tmp_path / 'p' / '0.png'}: the outputs of the network are not finite for it" in error and not out.exists()


@pytest.mark.parametrize("to", ["safetensors", "torch-export"])
def test_export_of_such_a_network_says_what_is_broken_and_advises_no_tolerance(to, overflowing, capsys):
    error = one_line(["export", overflowing, "--to", to], capsys)
    assert "outputs of the trained network itself are not finite for " in error and "nothing was written" in error
    assert "tolerance" not in error and "--no-fold" not in error and not (overflowing / "export").exists()


@pytest.mark.parametrize(
    ("wrong", "fold", "says", "tolerance"),
    [
        (5e-3, True, "so rounding may explain it; try --no-fold, or a larger --tolerance, or another --to", True),
        (5e-3, False, "so rounding may explain it; try a larger --tolerance, or another --to", True),
        (0.5, True, "so rounding does not explain it: the file computes something else; try --no-fold, or another --to", False),
        (inf, True, "its outputs are not finite, and those of the trained network are; try --no-fold", False),
        (nan, False, "its outputs are not finite, and those of the trained network are; try another --to", False),
    ],
)  # fmt: skip
def test_a_larger_tolerance_is_advised_only_for_rounding(wrong, fold, says, tolerance, trained, tmp_path, monkeypatch):
    target = TARGETS["safetensors"]

    def spoilt(path):
        net = target.open(path)
        return lambda x: net(x) + wrong

    monkeypatch.setitem(TARGETS, "safetensors", replace(target, open=spoilt))
    with pytest.raises(Disagreement) as caught:
        export(trained, Export(to="safetensors", fold=fold), out=tmp_path / "x.safetensors")
    assert says in str(caught.value) and ("--tolerance" in str(caught.value)) == tolerance
    assert not [*tmp_path.iterdir()]


def test_rounding_of_large_outputs_is_rounding(trained, tmp_path, monkeypatch):
    """0.05 of outputs of 1,000 is 5e-5 of them."""
    from oche.deploy.export import _disagreement

    assert "rounding may explain it" in _disagreement(0.05, 1000.0, 3, Export())
    assert "rounding does not explain it" in _disagreement(0.05, 10.0, 3, Export())


def test_a_description_whose_means_are_no_numbers(trained, tmp_path):
    file = tmp_path / "x.safetensors"
    export(trained, Export(to="safetensors"), out=file, card=False)
    about = json.loads(weights_metadata(file)["oche.model"])
    save_weights(file, load_weights(file), {"oche.model": json.dumps(about | {"mean": [nan]})})
    with pytest.raises(OcheError, match="do not normalise images of 1 channels"):
        oche.load(file)


def test_a_search_cannot_hand_on_broken_weights(searched, tmp_path):
    import shutil

    shutil.copytree(searched.path, tmp_path / "s")
    spoil(tmp_path / "s" / "weights.safetensors", "logits.normal", nan)
    with pytest.raises(OcheError, match=r"logits.normal is not finite \(1 of \d+ values is nan\)"):
        load_weights(tmp_path / "s" / "weights.safetensors")
    assert oche.Run.open(tmp_path / "s").summary["genotype"] and small_runs.metrics(tmp_path / "s")
    assert torch.isfinite(load_weights(searched.path / "weights.safetensors")["logits.normal"]).all()
