"""examples/segmentation.py: a found cell's feature maps are worth something where every pixel is to be classified."""

import runpy

import pytest
import torch
from sklearn.datasets import load_digits

from paths import ROOT

pytestmark = pytest.mark.slow  # a training

EXAMPLE = runpy.run_path(str(ROOT / "examples" / "segmentation.py"))


def test_masks_are_the_ink_of_the_digits():
    data = load_digits()
    digits, labels = torch.from_numpy(data.images).float() / 16, torch.from_numpy(data.target)
    images, masks = EXAMPLE["canvases"](digits, labels, 40, seed=1)
    again, _ = EXAMPLE["canvases"](digits, labels, 40, seed=1)
    other, _ = EXAMPLE["canvases"](digits, labels, 40, seed=2)
    assert torch.equal(images, again) and not torch.equal(images, other)
    assert images.shape == (40, 1, 24, 24) and masks.shape == (40, 24, 24) and masks.unique().tolist() == [*range(11)]
    ink = (masks > 0).flatten(1).sum(1)  # of three digits a canvas
    fewest, most = ((digits > 0.25).flatten(1).sum(1).sort(descending=d).values[:3].sum() for d in (False, True))
    assert fewest <= ink.min() and ink.max() <= most
    assert images[:, 0][masks > 0].mean() > images[:, 0][masks == 0].mean() + 0.4


def test_mean_iou_by_hand():
    masks, predicted = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 1, 0])
    assert EXAMPLE["mean_iou"](predicted, masks, 3) == pytest.approx((1 / 3 + 1 / 2 + 0) / 3)


def test_a_short_training_beats_calling_everything_background():
    network, background = EXAMPLE["run"](steps=60, kinds=3)
    assert background < 0.25 and network > 0.5
