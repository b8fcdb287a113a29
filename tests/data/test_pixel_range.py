"""The map of pixel values to 0..255, and the rule that chooses it."""

from math import floor

import numpy as np
import pytest
import torch

from oche.core.errors import OcheError
from oche.data.pixel_range import AS_BEFORE, EIGHT_BITS, UNIT, Extent, PixelRange, check_range, choose_range


@pytest.mark.parametrize(
    "pixels", [PixelRange(0, 4095), PixelRange(-1024, 3071), PixelRange(-2.5, 7.25, "floats"), UNIT]
)
def test_low_becomes_0_and_high_255(pixels):
    x = np.linspace(pixels.low - 1, pixels.high + 1, 999).reshape(3, 333)
    expected = np.array([round(255 * (v - pixels.low) / (pixels.high - pixels.low)) for v in x.ravel().tolist()])
    levels = pixels.levels(x)
    assert levels.dtype == np.uint8 and np.array_equal(levels.ravel(), expected.clip(0, 255))
    assert torch.equal(pixels.levels_of_tensor(torch.from_numpy(x)), torch.from_numpy(levels))
    assert pixels.levels(np.array([pixels.low, pixels.high])).tolist() == [0, 255]


@pytest.mark.parametrize("pixels", [EIGHT_BITS, PixelRange(0, 4095), PixelRange(-1e6, 1e6), UNIT])
def test_every_level_has_a_value(pixels):
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(pixels.levels_of_tensor(pixels.values(levels)), levels)


def test_8_bits_stay():
    x = np.arange(256, dtype=np.int32)[None]
    assert np.array_equal(EIGHT_BITS.levels(x), x)


def test_the_rule_of_earlier_versions_is_a_range_too():
    x = np.arange(65536, dtype=np.uint16)[None]
    assert np.array_equal(AS_BEFORE.levels(x)[0], [floor(v / 256) for v in range(65536)])
    assert AS_BEFORE.levels(np.array([[-5, 70_000]])).tolist() == [[0, 255]]


@pytest.mark.parametrize(("low", "high"), [(1, 1), (2, 1), (0, float("inf")), (float("nan"), 1), (-1.7e308, 1.7e308)])
def test_what_is_no_range(low, high):
    with pytest.raises(OcheError, match="is none"):
        PixelRange(low, high)


@pytest.mark.parametrize(
    ("train", "test", "range_", "note"),
    [
        (np.uint16([0, 200]), None, EIGHT_BITS, ""),
        (np.int64([0, 1]), np.int64([255]), EIGHT_BITS, ""),
        (np.uint16([16, 4095]), None, PixelRange(16, 4095), "uint16 values 16..4095 were mapped to 0..255"),
        (np.uint16([0, 200]), np.uint16([0, 300]), PixelRange(0, 200),
         "uint16 values 0..200 were mapped to 0..255 (those of the test part, 0..300, were clipped to them)"),
        (np.int16([-1024, 3071]), np.int16([-1000, 3000]), PixelRange(-1024, 3071),
         "int16 values -1024..3071 were mapped to 0..255"),
        (np.uint32([0, 2**32 - 1]), None, PixelRange(0, 2**32 - 1), "uint32 values 0..4294967295 were mapped to 0..255"),
        (np.float32([0.25, 0.5]), None, UNIT, "float images were rounded to 8 bits"),
        (np.float64([0, 255]), np.float64([17]), PixelRange(0, 255, "floats"), ""),
        (np.float64([3, 250]), None, PixelRange(0, 255, "floats"), ""),
        (np.float32([-1, 1]), None, PixelRange(-1, 1, "floats"), "float32 values -1..1 were mapped to 0..255"),
        (np.float32([0, 1.5]), None, PixelRange(0, 1.5, "floats"), "float32 values 0..1.5 were mapped to 0..255"),
        (np.float64([0.5, 255]), None, PixelRange(0.5, 255, "floats"), "float64 values 0.5..255 were mapped to 0..255"),
    ],
)  # fmt: skip
def test_the_range_of_a_data_set(train, test, range_, note):
    held = None if test is None else Extent.of(test)
    assert choose_range("x", Extent.of(train), held) == (range_, note)


def test_a_constant_data_set_is_refused():
    with pytest.raises(OcheError, match="x: all pixels of the training images are 1200"):
        choose_range("x", Extent.of(np.uint16([1200, 1200])), Extent.of(np.uint16([0, 1300])))
    with pytest.raises(OcheError, match="too far apart"):
        choose_range("x", Extent.of(np.array([-1.7e308, 1.7e308])), None)


@pytest.mark.parametrize("odd", [np.array([np.nan, 1]), np.array([1, -np.inf]), np.array([1j]), np.array(["a"])])
def test_what_is_no_pixel(odd):
    with pytest.raises(ValueError, match=r"nan or infinite|no integers or floats"):
        Extent.of(odd)


def test_extents_are_joined():
    one, other = Extent.of(np.int16([-3, 900]), PixelRange(0, 500)), Extent.of(np.float32([0.5, 7]), PixelRange(0, 500))
    both = one | other
    assert (both.low, both.high, both.kind, both.whole, both.count, both.outside) == (-3, 900, "floats", False, 4, 2)


DEEP, FLOATS = PixelRange(0, 4095), PixelRange(-2, 2, "floats")


def spread(low: float, high: float, kind: type, pixels: PixelRange) -> Extent:
    return Extent.of(np.linspace(low, high, 1000).astype(kind), pixels)


@pytest.mark.parametrize(
    ("found", "pixels", "used"),
    [
        (None, EIGHT_BITS, EIGHT_BITS),
        (None, UNIT, EIGHT_BITS),
        (spread(0, 1, np.float32, EIGHT_BITS), EIGHT_BITS, UNIT),
        (spread(0, 255, np.uint16, UNIT), UNIT, EIGHT_BITS),
        (spread(0, 4095, np.uint16, DEEP), DEEP, DEEP),
        (spread(-50, 4200, np.int32, DEEP), DEEP, DEEP),
        (spread(100, 2000, np.float32, DEEP), DEEP, DEEP),
        (spread(-1.5, 2.1, np.float32, FLOATS), FLOATS, FLOATS),
    ],
)
def test_images_of_a_network(found, pixels, used):
    assert check_range("x", found, pixels) == used


@pytest.mark.parametrize(
    ("found", "pixels", "says"),
    [
        (None, DEEP, "x has 8-bit images, and the network was trained on integers 0..4095"),
        (None, FLOATS, "trained on floats -2..2"),
        (spread(0, 4095, np.uint16, EIGHT_BITS), EIGHT_BITS, "x has uint16 values 0..4095, and the network was trained on 8-bit"),
        (spread(-1, 1, np.float32, UNIT), UNIT, "x has float32 values -1..1, and the network was trained on 8-bit images"),
        (spread(0, 65535, np.uint16, DEEP), DEEP, "x has uint16 values 0..65535, and the network was trained on integers 0"),
        (spread(0, 255, np.uint16, DEEP), DEEP, "x has uint16 values 0..255"),
        (spread(0, 1, np.float32, DEEP), DEEP, "x has float32 values 0..1"),
        (spread(0, 200, np.float32, FLOATS), FLOATS, "x has float32 values 0..200"),
    ],
)  # fmt: skip
def test_images_of_another_range_are_refused(found, pixels, says):
    with pytest.raises(OcheError) as error:
        check_range("x", found, pixels)
    assert str(error.value).startswith(says) or says in str(error.value)
