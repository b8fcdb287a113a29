"""Which weights a fit begins with."""

from __future__ import annotations

from dataclasses import replace

import pytest

import oche
import small_runs
from oche.core.errors import OcheError
from oche.fitting import warm
from oche.fitting.warm import MOST_IMAGES, shipped_weights
from oche.runs.config import FitConfig
from oche.runs.warm_start import Pretrained
from tiny_images import dataset


@pytest.fixture
def shipped(tmp_path, quick, monkeypatch):
    """A tiny network that stands for the one that ships."""
    run = oche.train(
        "RESNET", small_runs.npz(tmp_path / "x.npz"), recipe=small_runs.recipe(cells=1), out=tmp_path / "run"
    )
    oche.export.export(
        run, oche.export.Export(to="safetensors", fold=False), out=tmp_path / "w.safetensors", card=False
    )
    monkeypatch.setattr(warm, "SHIPPED", tmp_path / "w.safetensors")
    return run


def many(count):
    class Counted:
        train = range(count)

    return Counted()


def test_few_images_begin_with_the_shipped_weights(shipped):
    found = shipped_weights(FitConfig(), dataset())
    assert found == Pretrained(str(warm.SHIPPED), str(oche.genotypes.get("RESNET")), 2, 1, "cifar", warm.TITLE)
    assert found.name.startswith("the residual network that ships with oche")


@pytest.mark.parametrize(
    "fields", [{"init": "none"}, {"genotype": "PDARTS"}, {"channels": 8}, {"cells": 2}, {"search": "always"}], ids=str
)
def test_who_fixes_the_network_begins_anew(shipped, fields):
    assert shipped_weights(FitConfig(**fields), dataset()) is None


def test_many_images_begin_anew(shipped):
    assert shipped_weights(FitConfig(), many(MOST_IMAGES + 1)) is None
    assert shipped_weights(FitConfig(), many(MOST_IMAGES)) is not None


def test_the_users_weights_come_first(shipped):
    found = shipped_weights(FitConfig(init=str(shipped.path), channels=8), many(10**6))
    assert found == Pretrained(str(shipped.path), str(shipped.genotype), 2, 1, "cifar")


def test_weights_without_a_description_are_refused(tmp_path, shipped):
    with pytest.raises(OcheError, match="does not say which network it belongs to"):
        shipped_weights(FitConfig(init=str(shipped.path / "weights.safetensors")), dataset())
    with pytest.raises(OcheError, match="no weights at"):
        shipped_weights(replace(FitConfig(), init=str(tmp_path / "absent")), dataset())
