"""Resident splits, their subsets and scaling, the data set that holds them, and channel moments against numpy."""

import numpy as np
import pytest
import torch
from PIL import Image

from data_files import pixels
from oche.core.errors import OcheError
from oche.data import Augment, Dataset, Resident
from oche.data import dataset as core_module
from oche.data.dataset import channel_moments


def resident(n: int = 12, shape=(3, 9, 11)) -> tuple[Resident, np.ndarray, np.ndarray]:
    x, y = pixels(n, *shape), np.arange(n) % 4
    return Resident(torch.from_numpy(x), torch.from_numpy(y)), x, y


def test_gather_and_subset_of_a_subset():
    split, x, y = resident()
    inner = split.subset(torch.tensor([7, 2, 9, 11])).subset(torch.tensor([3, 0, 0]))
    images, labels = inner.gather(torch.tensor([2, 0, 1]))
    assert np.array_equal(images.numpy(), x[[7, 11, 7]]) and labels.tolist() == y[[7, 11, 7]].tolist()
    assert len(inner) == 3 and inner.shape == (3, 9, 11) and inner.nbytes == 3 * 3 * 9 * 11
    assert inner._images is split._images  # shared, not copied


def test_to_the_same_device_is_the_same_split():
    split, _, _ = resident()
    assert split.to("cpu") is split


@pytest.mark.parametrize("rows", [[0, 5, 3], None])
def test_another_device_gets_its_own_rows(rows):
    """The meta device stands for another one: shapes move, and only those of the split's own images."""
    split, _, _ = resident()
    part = split if rows is None else split.subset(torch.tensor(rows))
    moved = part.to("meta")
    assert moved.device.type == "meta" and len(moved) == len(part) == len(moved._images)
    assert torch.equal(moved.labels, part.labels)


@pytest.mark.parametrize("shape", [(1, 9, 11), (3, 40, 30)])
def test_moments_are_numpys(shape):
    split, x, _ = resident(12, shape)
    part = torch.tensor([1, 4, 6, 7, 10])
    mean, std = channel_moments(split.subset(part), batch=2)
    chosen = x[part.numpy()].astype(np.float64) / 255
    np.testing.assert_allclose(mean, chosen.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, chosen.std((0, 2, 3)), rtol=1e-9)


def test_moments_of_constant_images_do_not_divide_by_zero():
    mean, std = channel_moments(
        Resident(torch.full((3, 1, 8, 8), 51, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))
    )
    assert mean == (0.2,) and std == (1 / 255,)


@pytest.mark.parametrize(
    ("size", "full"),
    [((16, 16), (16, 20)), ((8, 8), (8, 10)), ((20, 9), (20, 24)), ((9, 11), (9, 11)), ((5, 30), (25, 30))],
)
def test_resized_is_pillows_scaling_and_the_centre(size, full, monkeypatch):
    """To a grey level: Pillow rounds its filter to integers. ``full``: the smallest size of the same shape that covers."""
    monkeypatch.setattr(core_module, "_FLOATS_AT_ONCE", 3 * 16 * 16 * 5)  # several pieces, the last one short
    split, x, _ = resident()
    out = split.resized(size)
    assert out.shape == (3, *size) and torch.equal(out.labels, split.labels)
    top, left = (full[0] - size[0]) // 2, (full[1] - size[1]) // 2
    for k, image in enumerate(out.gather(torch.arange(12))[0].numpy().transpose(0, 2, 3, 1)):
        scaled = Image.fromarray(x[k].transpose(1, 2, 0)).resize(full[::-1], Image.Resampling.BILINEAR)
        expected = np.asarray(scaled)[top : top + size[0], left : left + size[1]]
        assert np.abs(image.astype(int) - expected).max() <= 1


def test_resized_keeps_a_constant_and_takes_a_subset():
    split = Resident(torch.full((4, 1, 10, 10), 77, dtype=torch.uint8), torch.arange(4))
    out = split.subset(torch.tensor([3, 1])).resized((13, 8))
    assert out.labels.tolist() == [3, 1] and out.gather(torch.arange(2))[0].unique().tolist() == [77]


def test_a_data_set_checks_its_channels():
    split, _, _ = resident()
    data = Dataset("x", split, None, ("a", "b", "c", "d"), (0.1,) * 3, (0.2,) * 3, Augment())
    assert data.channels == 3 and data.image == (9, 11) and data.to("cpu").test is None
    with pytest.raises(OcheError, match="1 means and 3 deviations for 3 channels"):
        Dataset("x", split, None, ("a", "b"), (0.1,), (0.2,) * 3, Augment())
