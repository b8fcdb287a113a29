"""What can be refused is refused before a directory is made."""

from dataclasses import replace

import pytest

import oche
import small_runs
from oche.api import run_search
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.runs.config import SearchConfig


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
