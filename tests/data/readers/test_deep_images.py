"""Images of more than 8 bits a channel: every bit of every form of file, and what cannot be read whole is refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from data_files import encoded, pixels, png16, tiff
from oche.data.readers.deep_images import has_spare_band, source_kind, source_values


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def deep(*shape: int, top: int = 65536, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, top, shape).astype(np.uint16)


def values(data: bytes) -> np.ndarray:
    image = opened(data)
    assert source_kind(image) == "integers"
    return source_values(image)


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_png_of_16_bits(bands):
    """Grey, grey with alpha, colour, colour with alpha; alpha is dropped."""
    x = deep(9, 11, bands)
    expected = x[..., 0] if bands < 3 else x[..., :3]
    assert np.array_equal(values(png16(x)), expected)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.int32, np.float32])
def test_tiff_of_one_band(order, kind):
    x = (np.arange(99).reshape(9, 11, 1) * 601 - (0 if kind == np.uint16 else 3000)).astype(kind)
    image = opened(tiff(x, order))
    assert source_kind(image) == ("floats" if kind == np.float32 else "integers")
    assert np.array_equal(source_values(image), x[..., 0])


def test_tiff_of_32_bits_without_sign():
    x = np.array([[0, 1, 2**31, 2**32 - 1]] * 3, np.uint32)[..., None]
    assert np.array_equal(values(tiff(x)), x[..., 0])


def test_tiff_of_8_bits_with_sign():
    """Pillow takes them for 0..255."""
    x = np.array([[-128, -1, 0, 127]] * 3, np.int8)[..., None]
    assert np.array_equal(values(tiff(x)), x[..., 0])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("bands", "extra"), [(3, ()), (4, ()), (4, (0,)), (4, (2,))])
def test_tiff_of_colours_in_16_bits(order, bands, extra):
    x = deep(9, 11, bands)
    image = opened(tiff(x, order, extra))
    assert has_spare_band(image) == (extra == (0,)) and source_kind(image) == "integers"
    assert np.array_equal(source_values(image), x[..., :3])


def test_compressed_tiff():
    x = deep(9, 11)
    assert np.array_equal(values(encoded(x, "TIFF", compression="tiff_deflate")), x)


def test_pixmaps_are_scaled_from_their_own_maximum():
    grey, colour = deep(9, 11, top=4096), deep(9, 11, 3, top=4096)
    for x, magic in ((grey, b"P5"), (colour, b"P6")):
        found = values(magic + b"\n11 9\n4095\n" + x.astype(">u2").tobytes())
        assert np.abs(found - np.rint(x * (65535 / 4095))).max() <= 1
    whole = values(b"P6 11 9 65535\n" + deep(9, 11, 3).astype(">u2").tobytes())
    assert np.array_equal(whole, deep(9, 11, 3))
    with pytest.raises(ValueError, match="truncated"):
        values(b"P6\n11 9\n4095\n" + bytes(300))


@pytest.mark.parametrize(
    "data",
    [
        encoded(pixels(9, 11)),
        encoded(pixels(9, 11, 3), "TIFF"),
        encoded(pixels(9, 11, 4)),
        encoded(pixels(9, 11, 3), "JPEG"),
        encoded(pixels(9, 11) > 100),
        encoded(pixels(9, 11, 3), "BMP"),
        b"P6\n11 9\n200\n" + bytes(9 * 11 * 3),
        b"P2\n2 2\n15\n0 1 2 15\n",
    ],
)
def test_8_bits_are_no_deep_images(data):
    assert source_kind(opened(data)) == ""


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (tiff(pixels(9, 11, 5), extra=(0, 0)), "5 bands; image files may have up to 4"),
        (tiff(pixels(9, 11, 6), extra=(2, 0, 0)), "6 bands; image files may have up to 4"),
        (tiff(deep(9, 11, 4), extra=(1,)), r"cannot be read whole \(RGBa;16"),
        (b"P3\n1 1\n4095\n1 2 3\n", "in plain text"),
    ],
)
def test_what_pillow_would_cut_is_refused(data, says):
    with pytest.raises(ValueError, match=says):
        source_kind(opened(data))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("bands", [1, 3])
def test_deep_images_are_turned_upright(bands, orientation):
    x = deep(9, 11, bands)[..., slice(None) if bands == 3 else 0]
    exif = Image.Exif()
    exif[0x0112] = orientation
    with_exif = png16(x)
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    at = with_exif.index(b"IDAT") - 4

    chunk = struct.pack(">I", len(block)) + b"eXIf" + block + struct.pack(">I", zlib.crc32(b"eXIf" + block))
    turns = {1: 0, 3: 2, 6: -1, 8: 1}
    assert np.array_equal(values(with_exif[:at] + chunk + with_exif[at:]), np.rot90(x, turns[orientation]))
