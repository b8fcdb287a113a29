"""Fixtures of the tests in this folder."""

import shutil

import pytest
import torch

import oche
import small_runs
from exports import CELLS
from oche.data import load as load_data
from oche.training.image_recipes import small

RECIPE = dict(channels=4, cells=2, reductions=(1,), steps=24, batch=32, auxiliary=0.4, drop_path=0.2)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A network of two cells, trained for 24 steps with all that only training needs."""
    with pytest.MonkeyPatch.context() as patch:
        small_runs.no_report(patch)
        return oche.train(
            CELLS, "digits", recipe=small(**RECIPE), limit=300, out=tmp_path_factory.mktemp("export") / "t"
        )


@pytest.fixture(scope="session")
def digits():
    """(images uint8, labels) of the test part."""
    data = load_data("digits", limit=300)
    return data.test.gather(torch.arange(len(data.test)))


@pytest.fixture
def copied(trained, tmp_path):
    """A copy of the run, to spoil."""
    shutil.copytree(trained.path, tmp_path / "t", ignore=shutil.ignore_patterns("checkpoints"))
    return tmp_path / "t"
