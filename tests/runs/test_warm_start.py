"""Trainings that begin with the weights of another."""

import shutil

import pytest
import torch

import oche
import small_runs
from oche.core.errors import OcheError
from oche.runs.checkpoint import load_weights
from oche.runs.warm_start import kept_warm_start


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
    with pytest.raises(OcheError, match=r"no weights at .*absent"):
        oche.train(small_runs.CELL, data, recipe=small_runs.recipe(), out=tmp_path / "x", init=tmp_path / "absent")
    assert not (tmp_path / "x").exists()
