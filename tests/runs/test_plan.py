"""What can be refused is refused before a directory is made."""

import shutil
from dataclasses import replace

import pytest
import torch

import oche
import small_runs
from oche.api import run_search
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.runs.checkpoint import load_weights
from oche.runs.config import SearchConfig
from oche.runs.warm_start import kept_warm_start


def config(**fields):
    space = oche.spaces.darts(channels=2, cells=3, nodes=1)
    return replace(SearchConfig(limit=60, space=space, search=oche.methods.darts(steps=1, batch=16)), **fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"data": "dgits"}, "did you mean 'digits'"),
        ({"device": "cuda:99"}, "device 'cuda:99' is not usable here"),
        ({"device": "tpu"}, "device 'tpu' is not usable here"),
        (
            {"limit": 10, "search": oche.methods.darts(split=0.01)},
            "split=0.01 of 10 training images leaves one part empty",
        ),
    ],
)
def test_what_can_be_refused_is_refused_before_a_directory_is_made(fields, words, tmp_path):
    with pytest.raises(OcheError, match=words):
        run_search(config(**fields), out=tmp_path / "x", overwrite=False, log=Log(quiet=True))
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"recipe": small_runs.recipe(cutout=8)}, "cutout=8 can erase whole images"),
        ({"recipe": small_runs.recipe(split=0.001)}, "split=0.001 of 60 training images"),
        ({"recipe": small_runs.recipe(), "device": "tpu"}, "device 'tpu'"),
        ({"recipe": small_runs.recipe(), "plugins": ("none.py",)}, "plugin none.py does not exist"),
    ],
)
def test_trainings_too(options, words, tmp_path):
    with pytest.raises(OcheError, match=words):
        oche.train("DARTS_V2", out=tmp_path / "x", limit=60, **options)
    assert not (tmp_path / "x").exists()


def test_an_operation_that_does_not_exist_is_refused_before_training(tmp_path):
    text = str(oche.genotypes.DARTS_V2).replace("sep_conv_3x3", "sep_conv_3x4")
    with pytest.raises(OcheError, match="unknown operation 'sep_conv_3x4'; did you mean 'sep_conv_3x3'"):
        oche.train(text, out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_training_begins_with_the_weights_of_another(tmp_path, quick, capsys):
    """On other classes: everything but the classifier is taken, kept in the run, and the other run is not needed again."""
    one, other = (small_runs.npz(tmp_path / f"{n}.npz", classes=n) for n in (4, 3))
    made = small_runs.recipe(freeze=1.0)
    first = oche.train(small_runs.CELL, one, recipe=small_runs.recipe(), out=tmp_path / "first")
    second = oche.train(small_runs.CELL, other, recipe=made, out=tmp_path / "second", init=first.path, quiet=False)
    assert "% of the weights come from" in (said := capsys.readouterr().out) and "new: head.2" in said
    before, after = (load_weights(run.path / "weights.safetensors") for run in (first, second))
    fixed = [name for name in before if name.endswith("weight") and not name.startswith("head")]
    assert len(fixed) > 10 and all(torch.equal(before[name], after[name]) for name in fixed)
    assert before["head.2.weight"].shape == (4, 8) and after["head.2.weight"].shape == (3, 8)
    shutil.rmtree(first.path)
    warm = kept_warm_start(second.path)
    assert warm is not None and set(warm.tensors) == before.keys() - {"head.2.weight", "head.2.bias"} - {
        name for name in before if name.endswith("num_batches_tracked")
    }


def test_weights_that_do_not_fit_are_refused_before_a_directory_is_made(tmp_path, quick):
    data = small_runs.npz(tmp_path / "x.npz")
    with pytest.raises(OcheError, match="no weights at .*absent"):
        oche.train(small_runs.CELL, data, recipe=small_runs.recipe(), out=tmp_path / "x", init=tmp_path / "absent")
    assert not (tmp_path / "x").exists()
