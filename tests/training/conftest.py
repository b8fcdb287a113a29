"""Fixtures of the tests in this folder."""

import pytest

from oche.training import image_trainer


@pytest.fixture
def batches(monkeypatch):
    """The prepared images and the labels of every training batch, as they go by."""
    images, labels = [], []
    prepare, stream = image_trainer.prepare, image_trainer.batches

    def prepared(*args):
        images.append(prepare(*args))
        return images[-1]

    def walk(*args, **fields):
        for x, y in stream(*args, **fields):
            labels.append(y)
            yield x, y

    monkeypatch.setattr(image_trainer, "prepare", prepared)
    monkeypatch.setattr(image_trainer, "batches", walk)
    return images, labels
