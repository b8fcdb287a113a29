"""Files of a class folder: which are read, which are not, and that the note counts every kind of the latter."""

import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from data_files import encoded, pixels, write_classes
from oche.core.errors import OcheError
from oche.data import load
from oche.data.readers import decode, listing
from oche.data.readers.listing import Unread, list_images

X = pixels(10, 10, 3)


@pytest.fixture
def root(tmp_path):
    write_classes(tmp_path, {"ant": 2, "bee": 2})
    return tmp_path


def listed(folder: Path) -> tuple[list[str], list[str]]:
    """The files that are read, and the lines about the others."""
    unread = Unread(folder)
    found = [os.path.relpath(path, folder) for path in list_images(folder, unread)]
    return found, unread.lines()


@pytest.mark.parametrize(
    ("name", "form"),
    [("a.jfif", "JPEG"), ("a.jpe", "JPEG"), ("a.JPE", "JPEG"), ("a.apng", "PNG"), ("a.pnm", "PPM"), ("a.avif", "AVIF")],
)
def test_more_suffixes_of_images_are_read(root, name, form):
    (root / "ant" / name).write_bytes(encoded(np.full((10, 10, 3), (200, 10, 30), np.uint8), form))
    data = load(root, holdout=0)
    assert len(data.train) == 5 and data.note == ""
    image = data.train.gather(torch.tensor([2]))[0][0]  # 0.png, 1.png, a.*
    assert np.abs(image[:, 5, 5].numpy().astype(int) - (200, 10, 30)).max() <= 8  # lossy


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM"])
def test_an_image_without_a_suffix_is_read_and_one_with_another_suffix_is_told_of(tmp_path, form):
    for name in ("0001", "copy.bak", "large.jpg_large"):
        (tmp_path / name).write_bytes(encoded(X, form))
    (tmp_path / "README").write_text("A folder of pictures")
    assert listed(tmp_path) == (
        ["0001"], ["2 images were not read, because the suffix is none of an image: copy.bak and 1 more"]
    )  # fmt: skip


def test_a_wrong_suffix_of_an_image_does_not_matter(root):
    (root / "ant" / "2.jpg").write_bytes(encoded(X, "PNG"))
    data = load(root, holdout=0)
    assert data.note == "" and np.array_equal(data.train.gather(torch.tensor([2]))[0][0], X.transpose(2, 0, 1))


@pytest.mark.parametrize(
    "suffix", [".svg", ".psd", ".dng", ".CR2", ".nef", ".tga", ".ico", ".dcm", ".npy", ".jp2", ".jxl", ".exr", ".mp4"]
)
def test_other_types_of_images_are_counted(root, suffix):
    for k in range(3):
        (root / "bee" / f"{k}{suffix}").write_bytes(b"?")
    assert load(root).note == f"3 files were not read, of types that oche does not read: bee/0{suffix} and 2 more"


@pytest.mark.parametrize(
    "head",
    [b"\0\0\0\x0cjP  \r\n\x87\n", b"8BPS\0\1", bytes(128) + b"DICM", b"\0\0\0\x18ftypavif"],
    ids=["jp2", "psd", "dicom", "avif"],
)
def test_other_types_are_known_by_their_content_too(tmp_path, head):
    (tmp_path / "IM0001").write_bytes(head)
    assert listed(tmp_path) == ([], ["1 file was not read, of types that oche does not read: IM0001"])


@pytest.mark.parametrize("name", ["more.zip", "more.tar.gz", "MORE.7Z", "part.rar"])
def test_archives_are_counted(root, name):
    (root / "ant" / name).write_bytes(b"PK\3\4")
    (root / name).write_bytes(b"PK\3\4")
    assert load(root).note == f"2 archives were not read, since archives are not unpacked: {name} and 1 more"


def test_files_that_are_no_images_are_not_worth_a_line(root):
    for name in ("notes.txt", "boxes.xml", "meta.json", "Thumbs.db", "desktop.ini", ".DS_Store", "no suffix", "empty"):
        (root / "ant" / name).write_bytes(b"" if name == "empty" else b"no image")
    assert load(root).note == ""


def test_hidden_images_are_counted(root):
    (root / "ant" / ".2.png").write_bytes(encoded(X))
    (root / "ant" / "._0.png").write_bytes(b"\0\5\x16\7what macOS keeps beside 0.png")
    (root / "bee" / "._x.png").write_bytes(encoded(X))
    write_classes(root / "bee" / ".trash", {"old": 3})
    assert load(root).note == "5 hidden images were not read: ant/.2.png and 4 more"


def test_images_beside_the_classes_are_counted(root):
    for name in ("1.png", "2.JPG", "0003"):
        (root / name).write_bytes(encoded(X))
    assert load(root).note == "3 images were not read, beside the class folders and so without a class: 0003 and 2 more"


def test_every_kind_has_its_line_and_its_count(root):
    (root / "ant" / "a.zip").write_bytes(b"PK")
    (root / "ant" / "b.nef").write_bytes(b"?")
    (root / "x.png").write_bytes(encoded(X))
    (root / "bee" / ".y.png").write_bytes(encoded(X))
    data = load(root, holdout=0)
    assert len(data.train) == 4 and len(data.note.split("; ")) == 4
    for line in (
        "1 archive was not read",
        "1 file was not read, of types",
        "1 image was not read, beside",
        "1 hidden image was",
    ):
        assert line in data.note


# --- links ------------------------------------------------------------------------------------------------------------


def test_a_linked_folder_inside_a_class_is_not_entered_and_is_told_of(root):
    (root / "ant" / "more").symlink_to(root / "bee")
    (root / "ant" / "circle").symlink_to(root / "ant")
    data = load(root, holdout=0)
    assert data.train.labels.tolist() == [0, 0, 1, 1]
    assert data.note == "2 linked folders were not read, inside a class: ant/circle and 1 more"


def test_links_to_files_are_followed_but_not_to_the_same_image_twice(root, tmp_path_factory):
    far = tmp_path_factory.mktemp("far") / "2.png"
    far.write_bytes(encoded(X))
    (root / "ant" / "2.png").symlink_to(far)
    (root / "ant" / "again.png").symlink_to("0.png")
    (root / "ant" / "0 again.png").symlink_to(far)
    data = load(root, holdout=0)
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert data.note == "2 links to images that are read anyway left out"
    (root / "bee" / "x.png").symlink_to("../ant/0.png")
    with pytest.raises(OcheError, match=r"bee/x\.png is a link to .*ant/0\.png, an image of another class"):
        load(root)


def test_a_test_image_that_is_a_link_to_a_training_image_is_refused(photos):
    (photos / "test" / "ant" / "x.png").symlink_to(photos / "train" / "ant" / "0.png")
    with pytest.raises(OcheError, match=r"test/ant/x\.png is a link to .*train/ant/0\.png, an image of the other part"):
        load(photos)


@pytest.mark.parametrize("target", ["gone.png", "x.png"])
def test_a_broken_or_circular_link_is_refused_by_name(root, target):
    (root / "ant" / "x.png").symlink_to(target)
    with pytest.raises(OcheError, match=r"ant/x\.png cannot be read") as error:
        load(root)
    assert "\n" not in str(error.value)
    assert "1 of 5 images were left out" in load(root, damaged="skip").note


def test_pipes_are_not_opened(root):
    os.mkfifo(root / "ant" / "x.png")
    assert load(root).note == "1 pipe or device was not read: ant/x.png"


def test_a_folder_that_cannot_be_opened_is_refused(root, monkeypatch):
    (root / "ant" / "deeper").mkdir()
    real = os.scandir

    def scandir(path):
        if str(path).endswith("deeper"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(listing.os, "scandir", scandir)
    with pytest.raises(OcheError, match=r"ant/deeper cannot be opened \(Permission denied\)"):
        load(root)


# --- HEIC -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def heif():
    """Forget what is known about the package pillow-heif, before and after."""
    decode.use_heif.cache_clear()
    yield
    decode.use_heif.cache_clear()


HEIC = b"\0\0\0\x18ftypheic" + bytes(100)


def test_heic_without_its_package_is_told_of(root, heif, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for name in ("a.heic", "b.HEIF", "c.hif"):
        (root / "ant" / name).write_bytes(HEIC)
    want = (
        "3 images were not read, for want of the package pillow-heif (pip install pillow-heif): ant/a.heic and 2 more"
    )
    assert load(root).note == want
    (root / "ant" / "d.jpg").write_bytes(HEIC)  # as some phones name them
    with pytest.raises(
        OcheError, match=r"d\.jpg cannot be read \(HEIC, which needs the package pillow-heif: pip install"
    ):
        load(root)
    write_classes(root / "cow", {})
    (root / "cow" / "a.heic").parent.mkdir()
    (root / "cow" / "a.heic").write_bytes(HEIC)
    with pytest.raises(
        OcheError, match=r"cow has no images that are read \(1 image was not read, for want of the package pillow-heif"
    ):
        load(root)


@pytest.mark.parametrize("name", ["a.heic", "b.HIF", "c.jpg"])
def test_heic_is_read_with_its_package(root, heif, monkeypatch, name):
    """The package is a stand-in that opens HEIC as a red image."""

    def register() -> None:
        def opened(file, filename):
            image = Image.new("RGB", (10, 10), (200, 10, 30))
            image.format = "HEIF"
            return image

        Image.register_open("HEIF", opened, lambda head: head[4:12] == b"ftypheic")

    module = ModuleType("pillow_heif")
    module.register_heif_opener = register
    monkeypatch.setitem(sys.modules, "pillow_heif", module)
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    (root / "ant" / name).write_bytes(HEIC)
    data = load(root, holdout=0)
    assert data.note == "" and data.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert data.train.gather(torch.tensor([2]))[0][0, :, 5, 5].tolist() == [200, 10, 30]
