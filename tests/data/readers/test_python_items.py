"""Items of Python data sets, one after the other: pixels, labels, sizes, and items that cannot be used."""

import io
from collections import namedtuple

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from data_files import encoded, pixels
from oche.core.errors import OcheError
from oche.data.readers.python_items import as_labels, cover, hwc, label_of, read_items
from python_data import Items, arrays, pictures

X, Y = arrays()
GB = 10**9


def read(*items, memory=GB, size=None, layout=None):
    return read_items(Items(*items), "data", memory, size=size, layout=layout)


# --- images


Sample = namedtuple("Sample", "picture target")


@pytest.mark.parametrize(
    "item",
    [
        lambda i: (Image.fromarray(X[i]), Y[i]),
        lambda i: [torch.from_numpy(X[i]), torch.tensor(Y[i])],
        lambda i: (torch.from_numpy(X[i]).permute(2, 0, 1), Y[i]),
        lambda i: Sample(X[i].transpose(2, 0, 1), float(Y[i])),
        lambda i: {"image": X[i], "label": Y[i]},
        lambda i: {"pixel_values": X[i], "id": 7, "Target": int(Y[i])},
        lambda i: (encoded(X[i]), int(Y[i])),
        lambda i: ({"bytes": encoded(X[i]), "path": None}, Y[i]),
        lambda i: (X[i].tolist(), Y[i]),
    ],
    ids=["PIL", "HWC tensor", "CHW tensor", "CHW array", "mapping", "other names", "bytes", "hub", "lists"],
)
def test_forms_of_items_give_the_same_pixels_and_labels(item):
    found = read(*map(item, range(len(X))))
    assert found.images.shape == X.shape and (found.images == X).all()
    assert as_labels(found.labels, "data")[0].tolist() == Y.tolist() and found.notes == ()


def test_files_by_their_path(tmp_path):
    for i in range(3):
        Image.fromarray(X[i]).save(tmp_path / f"{i}.png")
    found = read(*[(str(tmp_path / f"{i}.png"), i) for i in range(2)], (tmp_path / "2.png", 2))
    assert (found.images == X[:3]).all()


def test_types_of_pixels_stay():
    for dtype in (np.uint16, np.float32, np.int64):
        image = (X[0].astype(dtype) * 3).astype(dtype)
        assert hwc(image, "x", None).dtype == dtype and (hwc(torch.from_numpy(image), "x", None) == image).all()
    half = torch.rand(3, 8, 8, dtype=torch.bfloat16)
    assert (hwc(half, "x", None) == half.float().permute(1, 2, 0).numpy()).all()
    assert hwc(torch.eye(8, dtype=torch.bool), "x", None)[..., 0].tolist() == (255 * np.eye(8, dtype=int)).tolist()


@pytest.mark.parametrize(
    ("mode", "channels"), [("L", 1), ("1", 1), ("P", 3), ("RGBA", 3), ("CMYK", 3), ("LA", 1), ("YCbCr", 3)]
)
def test_modes_of_pil_images(mode, channels):
    (image, _), *_ = pictures((9, 11), mode=mode)
    found = hwc(image, "x", None)
    assert found.shape == (9, 11, channels) and found.dtype == np.uint8
    assert (found.squeeze() == np.asarray(image.convert("L" if channels == 1 else "RGB"))).all()


def test_images_of_more_bits_keep_them():
    wide = (np.arange(80).reshape(8, 10) * 700).astype(np.uint16)
    assert (hwc(Image.fromarray(wide), "x", None)[..., 0] == wide).all()
    assert (hwc(Image.fromarray(wide.astype(np.float32)), "x", None)[..., 0] == wide).all()


def test_images_are_upright():
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels(8, 12, 3)).save(file, "JPEG", exif=exif, quality=100)
    image = Image.open(file)
    assert (hwc(image, "x", None) == np.asarray(ImageOps.exif_transpose(image))).all()
    assert hwc(image, "x", None).shape == (12, 8, 3)


def test_the_axis_of_channels_is_known_or_said():
    wide = np.zeros((9, 9, 7), np.uint8)
    with pytest.raises(OcheError, match="the axis of the channels is not known"):
        hwc(wide, "data[0]", None)
    assert hwc(wide, "data[0]", "NHWC").shape == (9, 9, 7) and hwc(wide, "data[0]", "NCHW").shape == (9, 7, 9)


def test_grey_among_colours_becomes_colour():
    grey, colour = pictures((9, 9), mode="L")[0], pictures((9, 9))[0]
    found = read(grey, colour).images
    assert found.shape == (2, 9, 9, 3) and (found[0] == np.asarray(grey[0])[..., None]).all()
    assert read(grey, grey).images.shape == (2, 9, 9, 1)


# --- sizes


def test_images_of_differing_sizes_are_scaled_as_those_of_a_folder():
    items = pictures((20, 30), (26, 22), (24, 24))
    found = read(*items)
    assert found.images.shape == (3, 22, 22, 3)  # the median of the shorter sides: 20, 22, 24
    wanted = [np.asarray(ImageOps.fit(image, (22, 22), Image.Resampling.BILINEAR)) for image, _ in items]
    assert (found.images == wanted).all()
    assert found.notes == ("images of differing sizes were scaled and cut to 22x22 (size chooses another)",)
    assert read(*pictures((300, 200), (90, 100))).images.shape == (2, 64, 64, 3)


def test_a_size_that_is_given_scales_everything():
    found = read(*pictures((20, 30), (26, 22)), size=(10, 12))
    assert found.images.shape == (2, 10, 12, 3) and found.notes == ()
    floats = cover(np.full((16, 16, 2), 0.5, np.float32), (8, 8))
    assert floats.dtype == np.float32 and floats.shape == (8, 8, 2) and np.allclose(floats, 0.5)
    assert (cover(np.full((16, 16, 1), 40_000, np.uint16), (8, 8)) == 40_000).all()


def test_too_small_too_many():
    with pytest.raises(OcheError, match=r"data\[1\] has 30x5 pixels; images need 8 a side"):
        read(*pictures((20, 30), (5, 30)))
    with pytest.raises(OcheError, match=r"the 24 images of data take 0.0 GB as uint8"):
        read(*zip(X, Y, strict=True), memory=X.nbytes - 1)


def test_items_that_change_are_read_once_and_said():
    class Random(Items):
        def __getitem__(self, i):
            return np.random.default_rng().integers(0, 256, (8, 8), dtype=np.uint8), i % 2

    found = read_items(Random(*range(9)), "data", GB, size=None, layout=None)
    assert found.notes[0].startswith("items change from one reading to the next")


# --- items that cannot be used


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([KeyError("lost")], r"data raised KeyError: 'lost' at item 2 of 3; mend or leave out that item"),
        ([RuntimeError("two\nlines")], "data raised RuntimeError: two lines at item 2"),
        ([FileNotFoundError(2, "No such file", "a.jpg")], "FileNotFoundError: .* at item 2"),
        ([StopIteration()], "data raised StopIteration at item 2"),
        ([(X[0],)], r"data\[2\] is tuple of 1 \(ndarray\); give \(image, label\)"),
        ([(X[0], 1, 2)], r"data\[2\] is tuple of 3 .*; give \(image, label\)"),
        ([X[0]], r"data\[2\] is ndarray of shape \(12, 12, 3\)"),
        ([{"image": X[0], "colour": 1}], r"data\[2\] has image, colour; name one of them image and one label"),
        ([("no.jpg", 0)], r"data\[2\] cannot be read \(FileNotFoundError"),
        ([(b"nothing", 0)], r"data\[2\] cannot be read \(UnidentifiedImageError"),
        ([(object(), 0)], r"data\[2\] is an object of class object; give a PIL image, a tensor or an array"),
        ([(None, 0)], r"data\[2\] is None; give a PIL image"),
        ([([[1, 2], [3]], 0)], r"data\[2\] is list of 2 .*, which is no array of numbers"),
        ([(X[0, 0, 0], 0)], r"data\[2\] has an image of shape \(3,\)"),
        ([(X[:1], 0)], r"data\[2\] has an image of shape \(1, 12, 12, 3\)"),
        ([(torch.zeros(8, 8, dtype=torch.complex64), 0)], r"data\[2\] is Tensor of shape \(8, 8\)"),
        ([(X[0].astype(float), 0)], r"data\[2\] is float64, and data\[0\] is uint8; give one type"),
        ([(np.zeros((12, 12, 2), np.uint8), 0)], r"data\[2\] has 2 channels, and data\[0\] has 3"),
        ([(X[0], object())], r"data\[2\] has an object of class object as its label"),
        ([(X[0], [0.5, 0.5])], r"data\[2\] has a row of 2 numbers as its label, 2 of them not 0"),
        ([(X[0], {"boxes": 1})], r"data\[2\] has dict of 1 .* as its label"),
    ],
)  # fmt: skip
def test_an_item_that_cannot_be_used_is_one_line_with_its_number(items, words):
    with pytest.raises(OcheError, match=words) as caught:
        read(*zip(X[:2], Y[:2], strict=True), *items)
    assert "\n" not in str(caught.value)


def test_lengths():
    with pytest.raises(OcheError, match="data has no items"):
        read()

    class Broken(Items):
        def __len__(self):
            raise NotImplementedError

    with pytest.raises(OcheError, match=r"data has no length \(NotImplementedError\)"):
        read_items(Broken(), "data", GB, size=None, layout=None)


# --- labels


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (3, 3), (np.int8(3), 3), (torch.tensor(3), 3), (torch.tensor([3]), 3), (np.array([[3]]), 3), (3.0, 3.0), ("cat", "cat"),
        (np.str_("cat"), "cat"), (b"cat", "cat"), (True, True), ([0, 0, 1], 2), (torch.tensor([0.0, 1.0]), 1),
        (np.array([True, False]), 0), (torch.tensor([0, 1], dtype=torch.bfloat16), 1), (-1, -1), (None, None),
    ],
)  # fmt: skip
def test_forms_of_labels(given, wanted):
    found = label_of(given, "data[0]")
    assert found == wanted and type(found) is type(wanted)


@pytest.mark.parametrize(
    ("given", "wanted", "note"),
    [
        ([1, 2, 1], [1, 2, 1], ""),
        ([1.0, 2.0, 0], [1, 2, 0], "labels were whole numbers stored as floats"),
        (["b", "a"], ["b", "a"], ""),
        ([True, False], ["True", "False"], ""),
        ([-1, 1], [-1, 1], ""),
    ],
)
def test_labels_of_a_part(given, wanted, note):
    found, said = as_labels(given, "data")
    assert found.tolist() == wanted and said == note and found.dtype.kind in "iU"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([1, None, 2, None], r"data\[1\] has no label \(2 in all\)"),
        ([0.0, float("nan")], r"data\[1\] has no label;"),
        ([0, 1.5], r"data\[1\] has the label 1.5, which is no class"),
        ([0, float("inf")], r"data\[1\] has the label inf"),
        ([0, 2**60], r"data\[1\] has the label 1152921504606846976"),
        (["cat", 1], r"data\[1\] has the label 1, and data\[0\] has 'cat'; give one kind"),
        ([0, "cat"], r"data\[1\] has the label 'cat', and data\[0\] has 0"),
        ([True, 2], r"data\[1\] has the label 2, and data\[0\] has True"),
    ],
)
def test_labels_that_are_no_classes(given, words):
    with pytest.raises(OcheError, match=words):
        as_labels(given, "data")
