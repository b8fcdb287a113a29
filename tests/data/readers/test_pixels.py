"""Which axis of an array is the channel, and arrays of every type until they become 8 bits."""

import numpy as np
import pytest
import torch

from data_files import pixels
from oche.core.errors import OcheError
from oche.data.dataset import Resident
from oche.data.pixel_range import PixelRange
from oche.data.readers.pixels import Axes, channels_first, image_split


def marked(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape)


@pytest.mark.parametrize(
    ("shape", "layout", "channels"),
    [
        ((2, 8, 9), None, 1),
        ((2, 8, 9), "NHWC", 1),
        ((2, 8, 9, 1), None, 1),
        ((2, 8, 9, 2), None, 2),
        ((2, 9, 9, 4), None, 4),
        ((2, 3, 8, 9), None, 3),
        ((2, 1, 8, 8), None, 1),
        ((2, 12, 8, 9), "NCHW", 12),
        ((2, 8, 9, 12), "NHWC", 12),
        ((2, 3, 32, 3), "NCHW", 3),
        ((2, 4, 4, 3), "NHWC", 3),
    ],
)
def test_the_axis_of_channels(shape, layout, channels):
    x = marked(*shape)
    found = channels_first(x, "x", Axes(layout))
    last = len(shape) == 4 and (layout == "NHWC" or (layout is None and shape[3] <= 4))
    expected = x[:, None] if len(shape) == 3 else x.transpose(0, 3, 1, 2) if last else x
    assert found.shape[1] == channels and np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((5, 3, 32, 3), "both the second and the last axis have 1 to 4 entries"),
        ((5, 4, 4, 3), "both the second and the last"),
        ((5, 1, 9, 1), "both the second and the last"),
        ((5, 12, 16, 16), "neither the second nor the last axis has 1 to 4 entries"),
        ((5, 8, 8, 8), "neither"),
        ((5, 16, 16, 5), "neither"),
    ],
)
def test_what_is_ambiguous_is_refused(shape, says):
    with pytest.raises(OcheError, match=says) as error:
        channels_first(marked(*shape), "a.npz: x")
    text = str(error.value)
    assert text.startswith(f"a.npz: x has shape {shape}") and "--layout NHWC" in text and "--layout NCHW" in text


@pytest.mark.parametrize("shape", [(4,), (4, 8), (0, 8, 8), (2, 2, 3, 8, 8)])
def test_what_is_no_array_of_images(shape):
    with pytest.raises(OcheError, match="x has shape"):
        channels_first(marked(*shape), "x")


def test_bools_are_black_and_white():
    x = pixels(3, 1, 8, 9) > 127
    split = image_split(x, torch.zeros(3), "x")
    assert isinstance(split, Resident)
    assert np.array_equal(split.gather(torch.arange(3))[0].numpy(), np.where(x, 255, 0))


@pytest.mark.parametrize("kind", [np.uint16, ">u2", np.int64, np.float16, np.float64])
def test_an_array_as_it_is_and_in_8_bits(kind):
    x = (marked(6, 1, 8, 9) % 1000).astype(kind)
    split = image_split(x, torch.arange(6), "x").subset(torch.tensor([4, 1, 5])).subset(torch.tensor([2, 0]))
    images, labels = split.gather(torch.tensor([1]))
    assert np.array_equal(images.numpy(), x[[4]]) and labels.tolist() == [4]
    extent = split.extent()
    assert (extent.low, extent.high, extent.count) == (float(x[[5, 4]].min()), float(x[[5, 4]].max()), 144)
    levels, labels = split.mapped(PixelRange(100, 900)).gather(torch.arange(2))
    expected = np.rint((x[[5, 4]].astype(float) - 100) * 255 / 800).clip(0, 255)
    assert levels.dtype == torch.uint8 and np.array_equal(levels.numpy(), expected) and labels.tolist() == [5, 4]


def test_values_that_are_not_finite_are_named():
    x = marked(6, 1, 8, 9).astype(np.float32)
    x[4, 0, 3, 3] = np.inf
    x[5, 0, 0, 0] = np.nan
    with pytest.raises(OcheError, match=r"^a.npz: x\[4\] has pixels that are nan or infinite"):
        image_split(x, torch.zeros(6), "a.npz: x").extent()


@pytest.mark.parametrize("kind", ["complex64", "datetime64[s]", "U3"])
def test_types_that_are_no_pixels(kind):
    with pytest.raises(OcheError, match="give images of integers, floats or bools"):
        image_split(np.zeros((2, 1, 8, 8), kind), torch.zeros(2), "x")


def test_images_that_are_too_small():
    with pytest.raises(OcheError, match="x has images of 9x7 pixels; networks need 8"):
        image_split(marked(2, 1, 7, 9), torch.zeros(2), "x")


@pytest.mark.parametrize(
    ("shape", "channels", "last"),
    [
        ((5, 12, 16, 16), 12, False),
        ((5, 16, 16, 12), 12, True),
        ((5, 3, 32, 1), 3, False),
        ((5, 3, 32, 1), 1, True),
        ((5, 3, 32, 32), 12, False),
        ((5, 8, 9, 8), None, None),
        ((5, 3, 32, 3), 3, None),
        ((5, 12, 16, 16), 7, None),
    ],
)
def test_the_channels_of_a_network_tell_the_axis(shape, channels, last):
    """If only one axis has so many; else the rule of a new data set holds."""
    if last is None:
        with pytest.raises(OcheError, match="--layout"):
            channels_first(marked(*shape), "x", Axes(channels=channels))
    else:
        assert channels_first(marked(*shape), "x", Axes(channels=channels)).shape[1] == shape[3 if last else 1]


@pytest.mark.parametrize(("shape", "channels"), [((2, 12, 8, 9), 9), ((2, 8, 9, 12), 8), ((2, 8, 9, 8), 8)])
def test_the_rule_of_earlier_versions(shape, channels):
    assert channels_first(marked(*shape), "x", Axes(before=True)).shape[1] == channels
