"""Damaged images: refused by default, left out where that is asked for, and told of either way."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

import oche
from data_files import encoded, pixels, write_classes
from oche.cli import main as cli
from oche.core.errors import OcheError
from oche.data import Streamed, load
from oche.data import loading as reading_module

COUNTS = {"ant": 12, "bee": 8}


@pytest.fixture
def folder(tmp_path):
    """train/ and test/; of train one image is empty, one text, one cut short behind a sound header; of test one cut short."""
    made = {part: write_classes(tmp_path / part, COUNTS, seed=10 * k) for k, part in enumerate(("train", "test"))}
    (tmp_path / "train/ant/3.png").write_bytes(b"")
    (tmp_path / "train/bee/0.png").write_text("no picture")
    for file in ("train/ant/7.png", "test/bee/2.png"):
        (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[:-120])
    return tmp_path, made


@pytest.mark.parametrize("free", [0, 10**9], ids=["streamed", "resident"])
def test_they_are_left_out_where_that_is_asked_for(folder, free, monkeypatch):
    root, made = folder
    monkeypatch.setattr(reading_module, "free_memory_or_estimate", lambda: free)
    data = load(root, damaged="skip")
    assert isinstance(data.train, Streamed) is (free == 0)
    assert data.note == f"4 of 40 images were left out, since they cannot be read: {root}/train/ant/3.png and 3 more"
    for split, part, gone in (
        (data.train, "train", {("ant", 3), ("bee", 0), ("ant", 7)}),
        (data.test, "test", {("bee", 2)}),
    ):
        # files in the order of their names: 0, 1, 10, 11, 2 …
        wanted = [
            (made[part][name][i], k)
            for k, (name, count) in enumerate(COUNTS.items())
            for i in sorted(range(count), key=str)
            if (name, i) not in gone
        ]  # fmt: skip
        images, labels = split.gather(torch.arange(len(split)))
        assert labels.tolist() == split.labels.tolist() == [k for _, k in wanted]
        assert np.array_equal(images.numpy(), np.stack([a.transpose(2, 0, 1) for a, _ in wanted]))


def test_they_are_refused_by_default(folder):
    root, _ = folder
    with pytest.raises(OcheError, match=r"train/ant/3\.png cannot be read \(empty\).* \(and 1 more like it\)"):
        load(root)
    with pytest.raises(OcheError, match="'refuse', 'skip' as damaged, found text 'drop'"):
        load(root, damaged="drop")


def test_sound_images_are_what_they_were(tmp_path):
    write_classes(tmp_path / "x", COUNTS)
    plain, skipping = load(tmp_path / "x"), load(tmp_path / "x", damaged="skip")
    assert plain.note == skipping.note == "" and (plain.mean, plain.std) == (skipping.mean, skipping.std)
    assert torch.equal(plain.train.gather(torch.arange(10))[0], skipping.train.gather(torch.arange(10))[0])


def test_a_class_that_would_be_left_without_images(tmp_path):
    write_classes(tmp_path / "x" / "train", {"ant": 3, "bee": 2})
    for i in range(2):
        (tmp_path / "x/train/bee" / f"{i}.png").write_bytes(b"\x89PNG")
    (tmp_path / "x/train/ant/0.png").write_bytes(b"")  # damaged too, and not what the message is about
    with pytest.raises(
        OcheError, match=r"class 'bee' has no training image that can be read; .*bee/0\.png cannot be read"
    ):
        load(tmp_path / "x", damaged="skip")


def test_a_test_part_that_would_be_left_without_images(tmp_path):
    write_classes(tmp_path / "x" / "train", {"ant": 3, "bee": 2})
    write_classes(tmp_path / "x" / "val", {"ant": 1})
    (tmp_path / "x/val/ant/0.png").write_bytes(b"")
    with pytest.raises(OcheError, match=r"no test image can be read; .*val/ant/0\.png cannot be read \(empty\)"):
        load(tmp_path / "x", damaged="skip")


def test_of_a_parquet_file(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    x = pixels(12, 9, 9, 3)
    images = [encoded(a) for a in x]
    images[4], images[9] = images[4][:-100], None
    pq.write_table(pa.table({"image": images, "label": [i % 2 for i in range(12)]}), tmp_path / "x.parquet")
    data = load(tmp_path / "x.parquet", damaged="skip", holdout=0)
    assert len(data.train) == 10 and "2 of 12 images were left out" in data.note and "row 4 and 1 more" in data.note
    assert np.array_equal(data.train.gather(torch.tensor([4]))[0][0].numpy(), x[5].transpose(2, 0, 1))


def test_a_run_tells_of_them(folder, tmp_path, quick, capsys):
    root, _ = folder
    out = tmp_path / "run"
    words = ["train", "DARTS_V2", "--data", str(root), "--recipe", "small", "--train.steps", "1", "--train.batch", "4"]
    words += ["--train.channels", "2", "--train.cells", "2", "--train.reductions", "1", "--out", str(out), "--quiet"]
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert "cannot be read (empty)" in error and "--damaged skip" in error and not out.exists()
    (root / "train/ant/more.zip").write_bytes(b"PK")
    assert cli.main([word for word in words if word != "--quiet"] + ["--damaged", "skip"]) == 0
    lines = capsys.readouterr().out.splitlines()
    told = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert any(line.endswith("weights (2 notes on the data are in the report)") for line in lines)
    archive = "1 archive was not read, since archives are not unpacked: train/ant/more.zip"
    assert told == [
        archive,
        f"4 of 40 images were left out, since they cannot be read: {root}/train/ant/3.png and 3 more",
    ]
    assert oche.Run.open(out).summary["note"] == "; ".join(told)


# --- images of which less is used than there is -----------------------------------------------------------------------


def first(data, k: int = 0) -> np.ndarray:
    return data.train.gather(torch.tensor([k]))[0][0].numpy()


def see_through(kind: str) -> tuple[str, dict, Image.Image, tuple[int, int, int]]:
    """A file's suffix, options for saving, an image that is transparent everywhere, and the colour below."""
    red = (200, 10, 30)
    palette = Image.new("P", (10, 10), 1)
    palette.putpalette([0, 0, 0, *red])
    return {
        "RGBA": (".png", {}, Image.new("RGBA", (10, 10), (*red, 0)), red),
        "LA": (".png", {}, Image.new("LA", (10, 10), (77, 0)), (77, 77, 77)),
        "palette": (".png", {"transparency": 1}, palette, red),
        "colour key": (".png", {"transparency": red}, Image.new("RGB", (10, 10), red), red),
        "gif": (".gif", {"transparency": 1}, palette, red),
        "webp": (".webp", {"lossless": True, "exact": True}, Image.new("RGBA", (10, 10), (*red, 0)), red),
        "tiff": (".tif", {}, Image.new("RGBA", (10, 10), (*red, 0)), red),
    }[kind]


@pytest.mark.parametrize("kind", ["RGBA", "LA", "palette", "colour key", "gif", "webp", "tiff"])
def test_the_colour_below_transparency_is_used_and_said(tmp_path, kind):
    write_classes(tmp_path, {"ant": 2, "bee": 2})
    suffix, options, image, colour = see_through(kind)
    image.save(tmp_path / "ant" / f"-{suffix}", **options)  # the first by its name
    data = load(tmp_path, holdout=0)
    assert first(data)[:, 5, 5].tolist() == list(colour)
    assert data.note == f"1 of 5 images have transparency, which is dropped: ant/-{suffix}"


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_the_first_of_several_pictures_is_used_and_said(tmp_path, form):
    write_classes(tmp_path, {"ant": 2, "bee": 2})
    red, blue = (Image.new("RGB", (10, 10), colour) for colour in ((200, 10, 30), (10, 20, 200)))
    options = {"lossless": True} if form == "WEBP" else {}
    name = f"a.{'tif' if form == 'TIFF' else form.lower()}"
    red.save(tmp_path / "ant" / name, form, save_all=True, append_images=[blue, blue], **options)
    data = load(tmp_path, holdout=0)
    assert np.abs(first(data, 2)[:, 5, 5].astype(int) - (200, 10, 30)).max() <= (8 if form == "AVIF" else 0)
    assert data.note == f"1 of 5 images hold several pictures, of which the first is used: ant/{name}"


def test_a_photograph_with_its_preview_is_one_picture(tmp_path):
    write_classes(tmp_path, {"ant": 2, "bee": 2})
    photo = Image.new("RGB", (10, 10), (200, 10, 30))
    photo.save(tmp_path / "ant" / "a.jpg", "MPO", save_all=True, append_images=[photo.resize((4, 4))])
    assert load(tmp_path, holdout=0).note == ""


@pytest.mark.parametrize(
    ("form", "ink", "colour"),
    [
        ("TIFF", (0, 255, 255, 0), (255, 0, 0)),
        ("JPEG", (0, 0, 0, 255), (0, 0, 0)),
        ("TIFF", (0, 0, 0, 0), (255, 255, 255)),
    ],
)
def test_inks_become_colours(tmp_path, form, ink, colour):
    write_classes(tmp_path, {"ant": 2, "bee": 2})
    Image.new("CMYK", (10, 10), ink).save(tmp_path / "ant" / "a.jpg", form)
    data = load(tmp_path, holdout=0)
    assert data.note == "" and np.abs(first(data, 2)[:, 5, 5].astype(int) - colour).max() <= 2


@pytest.mark.parametrize("size", [(1, 300), (300, 1), (7, 7), (1, 1)])
def test_images_that_are_too_narrow(tmp_path, size):
    write_classes(tmp_path, {"ant": 2, "bee": 2})
    Image.new("RGB", size, (200, 10, 30)).save(tmp_path / "ant" / "a.png")
    with pytest.raises(OcheError, match=rf"ant/a\.png has {size[0]}x{size[1]} pixels; images need 8 a side"):
        load(tmp_path)
    data = load(tmp_path, size=12, holdout=0)
    assert data.note == "1 of 5 images are enlarged from less than 8 pixels a side: ant/a.png"
    assert first(data, 2).shape == (3, 12, 12) and first(data, 2)[:, 6, 6].tolist() == [200, 10, 30]


@pytest.mark.parametrize("side", [20_000, 70_000, 2**31 - 1])
def test_bombs_are_refused_by_their_header(tmp_path, side):
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    write_classes(tmp_path, {"ant": 2, "bee": 2})
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    (tmp_path / "bee" / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )
    with pytest.raises(OcheError, match=r"bee/a\.png cannot be read \(.*pixels.*\)") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)
    assert "1 of 5 images were left out" in load(tmp_path, damaged="skip").note
