"""Pixels of every kind of image file, against what was put in."""

import io

import numpy as np
import pytest
from PIL import Image

from data_files import Bytes, encoded, pixels, png16, tiff
from oche.core.errors import OcheError
from oche.data.pixel_range import PixelRange
from oche.data.readers.decode import Damaged, ImageFiles, decode, decode_fully, measure, read_header


def saved(image: Image.Image, form: str = "PNG", **options) -> Bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return Bytes(file.getvalue())


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_lossless_colour(form):
    x = pixels(9, 11, 3)
    items = Bytes(encoded(x, form, **({"lossless": True} if form == "WEBP" else {})))
    header = read_header(items, 0)
    assert (header.size, header.grey, header.format) == ((9, 11), False, form)
    assert np.array_equal(decode(items, 0, (9, 11), 3), x.transpose(2, 0, 1))


def test_grey_stays_grey_or_becomes_three_equal_channels():
    x = pixels(9, 11)
    items = Bytes(encoded(x))
    assert read_header(items, 0).grey
    assert np.array_equal(decode(items, 0, (9, 11), 1), x[None])
    assert np.array_equal(decode(items, 0, (9, 11), 3), np.stack([x] * 3))


def test_colour_asked_as_grey_is_its_luminance():
    x = pixels(9, 11, 3)
    grey = decode(Bytes(encoded(x)), 0, (9, 11), 1)[0].astype(float)
    np.testing.assert_allclose(grey, x @ np.array([0.299, 0.587, 0.114]), atol=1)


def test_sixteen_bits_are_mapped():
    """By the range that is given; without one as in earlier versions, which kept the upper eight bits."""
    x = np.random.default_rng(0).integers(0, 4096, (9, 11), dtype=np.uint16)
    for form in ("PNG", "TIFF"):
        items = saved(Image.fromarray(x), form)
        header = read_header(items, 0)
        assert header.grey and header.kind == "integers"
        assert np.array_equal(decode(items, 0, (9, 11), 1)[0], x >> 8)
        levels = np.rint(x * (255 / 4095))
        assert np.array_equal(decode(items, 0, (9, 11), 1, PixelRange(0, 4095))[0], levels)
        assert np.array_equal(decode(items, 0, (9, 11), 3, PixelRange(0, 4095)), np.stack([levels] * 3))
    colour = np.random.default_rng(0).integers(0, 4096, (9, 11, 3), dtype=np.uint16)
    items = Bytes(png16(colour))
    assert not read_header(items, 0).grey
    levels = np.rint(colour * (255 / 4095)).transpose(2, 0, 1)
    assert np.array_equal(decode(items, 0, (9, 11), 3, PixelRange(0, 4095)), levels)
    assert read_header(Bytes(png16(colour[..., :2])), 0).grey


def test_deep_images_are_scaled_after_they_were_mapped():
    x = np.zeros((20, 60), np.uint16)
    x[:, 20:40] = 4000
    found = decode(Bytes(png16(x)), 0, (10, 10), 1, PixelRange(0, 4000))
    assert found.shape == (1, 10, 10) and (found[0, :, 1:-1] == 255).all()


def test_a_tiff_is_turned_once():
    """Pillow turns it as it decodes, and gives the size that it has then."""
    for x in (pixels(9, 11, 3), np.arange(99, dtype=np.uint16).reshape(9, 11)):
        exif = Image.Exif()
        exif[0x0112] = 6
        items = saved(Image.fromarray(x), "TIFF", exif=exif)
        assert read_header(items, 0).size == (11, 9)
        found = decode(items, 0, (11, 9), 3 if x.ndim == 3 else 1, PixelRange())
        assert np.array_equal(found, np.rot90(x, -1).reshape(11, 9, -1).transpose(2, 0, 1))


def test_one_bit():
    x = pixels(9, 11) > 127
    items = saved(Image.fromarray(x))
    assert read_header(items, 0).grey and np.array_equal(decode(items, 0, (9, 11), 1)[0], np.where(x, 255, 0))


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_palette(form):
    image = Image.new("P", (11, 9))
    image.putpalette([200, 10, 30, 0, 255, 0, 9, 8, 7] + [0] * 759)
    image.putdata([(3 * k) % 7 % 3 for k in range(99)])
    items = saved(image, form)
    assert not read_header(items, 0).grey
    assert np.array_equal(decode(items, 0, (9, 11), 3), np.asarray(image.convert("RGB")).transpose(2, 0, 1))


def test_transparency_is_dropped():
    x = pixels(9, 11, 4)
    assert np.array_equal(decode(Bytes(encoded(x)), 0, (9, 11), 3), x[..., :3].transpose(2, 0, 1))
    grey = pixels(9, 11, 2)
    items = saved(Image.fromarray(grey, "LA"))
    assert read_header(items, 0).grey and np.array_equal(decode(items, 0, (9, 11), 1)[0], grey[..., 0])


_TURNS = {  # EXIF orientation → how the stored array must be turned to be upright
    1: lambda x: x, 2: lambda x: x[:, ::-1], 3: lambda x: x[::-1, ::-1], 4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2), 6: lambda x: np.rot90(x, -1), 7: lambda x: np.rot90(x, 2).transpose(1, 0, 2),
    8: lambda x: np.rot90(x, 1),
}  # fmt: skip


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation):
    x = pixels(9, 11, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    items = saved(Image.fromarray(x), "PNG", exif=exif)
    upright = _TURNS[orientation](x)
    assert read_header(items, 0).size == upright.shape[:2]
    assert np.array_equal(decode(items, 0, upright.shape[:2], 3), upright.transpose(2, 0, 1))


def test_scaling_covers_and_cuts_the_centre():
    x = np.zeros((20, 60, 3), np.uint8)
    x[:, 20:40] = 200  # a square in the middle third
    out = decode(Bytes(encoded(x)), 0, (10, 10), 3)
    assert out.shape == (3, 10, 10) and np.abs(out[:, :, 1:-1].astype(int) - 200).max() == 0


def test_large_jpegs_are_decoded_at_lower_resolution_with_the_same_picture():
    small = pixels(4, 4, 3)
    large = np.asarray(Image.fromarray(small).resize((512, 512), Image.Resampling.BICUBIC))
    fast = decode(Bytes(encoded(large, "JPEG", quality=95)), 0, (16, 16), 3).astype(int)
    slow = decode(Bytes(encoded(large)), 0, (16, 16), 3).astype(int)
    assert np.abs(fast - slow).mean() < 3


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"<html></html>", "not an image that Pillow knows"),
        (encoded(pixels(30, 30, 3))[:200], ""),
        (encoded(pixels(64, 64, 3), "JPEG")[:700], "truncated"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, data, says):
    path = tmp_path / "a photo.jpg"
    path.write_bytes(data)
    for items, name in ((ImageFiles([path]), str(path)), (Bytes(data), "image 0")):
        with pytest.raises(OcheError) as error:
            read_header(items, 0)
            decode(items, 0, (30, 30), 3)
        text = str(error.value)
        assert text.startswith(f"{name} cannot be read (") and says in text and text.endswith("replace or remove it")


def test_a_missing_file_and_floating_point_pixels(tmp_path):
    with pytest.raises(OcheError, match=r"gone\.png cannot be read \(there is no such file\)"):
        read_header(ImageFiles([tmp_path / "gone.png"]), 0)
    values = np.linspace(-3, 5, 81, dtype=np.float32).reshape(9, 9)
    items = saved(Image.fromarray(values), "TIFF")
    assert read_header(items, 0).kind == "floats" and read_header(items, 0).grey
    assert measure(items, 0).low == -3 and decode_fully(items, 0) == (9, 9)
    values[2, 2] = np.nan
    for look in (measure, decode_fully):
        with pytest.raises(Damaged, match=r"image 0 cannot be read \(pixels that are nan or infinite\)"):
            look(saved(Image.fromarray(values), "TIFF"), 0)


def test_bands_that_are_no_colours():
    with pytest.raises(Damaged, match=r"image 0 cannot be read \(6 bands; image files may have up to 4"):
        read_header(Bytes(tiff(pixels(9, 11, 6), extra=(0, 0, 0))), 0)
    for odd in (pixels(9, 11, 12), np.zeros((9, 11, 3), np.float32), np.zeros((9, 11, 1))):
        with pytest.raises(Damaged, match="a TIFF that Pillow does not know, such as one of more than 4 bands"):
            read_header(Bytes(tiff(odd)), 0)
    x = pixels(9, 11, 4)
    items = Bytes(tiff(x, extra=(0,)))
    assert read_header(items, 0).spare and np.array_equal(decode(items, 0, (9, 11), 3), x[..., :3].transpose(2, 0, 1))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_matter():
    x = pixels(9, 11, 3)
    items = saved(Image.fromarray(x), "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert np.array_equal(decode(items, 0, (9, 11), 3), x.transpose(2, 0, 1))
