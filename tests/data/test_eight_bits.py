"""Whole data sets of more than 8 bits: one range for all images, in memory or streamed, and what cannot be compared."""

import numpy as np
import pytest
import torch
from PIL import Image

from data_files import encoded, pixels, png16
from oche.core.errors import OcheError
from oche.data import load
from oche.data import loading as reading_module
from oche.data.drawing import draw
from oche.data.eight_bits import to_eight_bits
from oche.data.loading import load_parts
from oche.data.pixel_range import AS_BEFORE, EIGHT_BITS, PixelRange
from oche.data.readers.decode import Damaged
from oche.data.streaming import Streamed

SIDE = 9


def write(root, made: dict[str, np.ndarray], form: str = "png") -> None:
    """Class folders: ``made`` is folder → images (N, H, W) or (N, H, W, C)."""
    for folder, images in made.items():
        (root / folder).mkdir(parents=True)
        for i, x in enumerate(images):
            data = png16(x) if form == "png" else encoded(x, "TIFF")
            (root / folder / f"{i}.{form}").write_bytes(data)


def deep(n: int, seed: int, top: int = 4096, *more: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, top, (n, SIDE, SIDE, *more)).astype(np.uint16)


def everything(split) -> np.ndarray:
    return split.gather(torch.arange(len(split)))[0].numpy()


def levels(x: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.rint((x.astype(float) - low) * (255 / (high - low))).clip(0, 255)


@pytest.mark.parametrize("free", [0, 10**9], ids=["streamed", "resident"])
@pytest.mark.parametrize("kind", ["12 bits", "colour", "int16", "float32"])
def test_a_folder_keeps_its_picture(tmp_path, monkeypatch, free, kind):
    """The range is that of the training part, not of one image: 12 of 16 bits keep 256 levels and not 16."""
    monkeypatch.setattr(reading_module, "free_memory_or_estimate", lambda: free)
    colours = (3,) if kind == "colour" else ()
    a, b, c, d = (deep(4, seed, 4096 - 500 * seed, *colours) for seed in range(4))
    if kind in ("int16", "float32"):
        a, b, c, d = ((x.astype(np.int32) - 1024).astype(kind) for x in (a, b, c, d))
    parts = {"train/ant": a, "train/bee": b, "test/ant": c, "test/bee": d}
    write(tmp_path, parts, "png" if kind in ("12 bits", "colour") else "tif")
    data = load(tmp_path)
    assert isinstance(data.train, Streamed) is (free == 0)
    low, high = float(min(a.min(), b.min())), float(max(a.max(), b.max()))
    assert (data.pixels.low, data.pixels.high) == (low, high)
    for split, images in ((data.train, (a, b)), (data.test, (c, d))):
        x = np.concatenate(images)
        expected = levels(x, low, high)
        expected = expected.transpose(0, 3, 1, 2) if colours else expected[:, None]
        assert np.array_equal(everything(split), expected)
    assert len(np.unique(everything(data.train))) > 220
    assert "were mapped to 0..255" in data.note and f"{int(low)}..{int(high)}" in data.note
    x = everything(data.train) / 255
    np.testing.assert_allclose(data.mean, x.mean((0, 2, 3)), rtol=1e-9)


def test_the_range_is_that_of_the_images_that_train(tmp_path):
    """Held-out images do not count."""
    a, b = deep(10, 0), deep(10, 1)
    write(tmp_path, {"ant": a, "bee": b})
    data = load(tmp_path, holdout=0.3)
    whole = np.concatenate([a, b])
    seen = everything(data.train)[:, 0]
    used = [x for x in whole if any(np.array_equal(levels(x, data.pixels.low, data.pixels.high), s) for s in seen)]
    assert len(used) == len(data.train) and data.pixels == PixelRange(int(np.min(used)), int(np.max(used)))


def test_deep_values_of_8_bits_stay(tmp_path):
    a, b = deep(4, 0, 256), deep(4, 1, 16)
    write(tmp_path, {"ant": a, "bee": b})
    data = load(tmp_path, holdout=0)
    assert data.pixels == EIGHT_BITS and data.note == ""
    assert np.array_equal(everything(data.train), np.concatenate([a, b])[:, None])


def test_depths_that_are_mixed_are_refused(tmp_path):
    write(tmp_path, {"ant": deep(4, 0), "bee": deep(4, 1)})
    (tmp_path / "bee" / "8bit.png").write_bytes(encoded(pixels(SIDE, SIDE)))
    with pytest.raises(OcheError) as error:
        load(tmp_path, holdout=0)
    text = str(error.value)
    assert "1 with 8 bits a channel (" in text and "bee/8bit.png" in text and "\n" not in text
    assert "8 with integers of more than 8 bits a channel (" in text and "save all in one depth" in text


def test_parts_of_two_depths_are_refused(tmp_path):
    write(tmp_path, {"train/ant": deep(4, 0), "train/bee": deep(4, 1)})
    for name in ("ant", "bee"):
        (tmp_path / "test" / name).mkdir(parents=True)
        (tmp_path / "test" / name / "0.png").write_bytes(encoded(pixels(SIDE, SIDE, seed=len(name))))
    with pytest.raises(OcheError, match=r"the training part has uint16 values \d+\.\.\d+, the test part 8-bit images"):
        load(tmp_path)


def test_images_that_show_nothing_are_refused(tmp_path):
    flat = np.full((3, SIDE, SIDE), 1200, np.uint16)
    write(tmp_path, {"ant": flat, "bee": flat})
    with pytest.raises(OcheError, match="all pixels of the training images are 1200"):
        load(tmp_path, holdout=0)


def test_values_that_are_not_finite_name_their_image(tmp_path):
    x = np.random.default_rng(0).normal(0, 3, (6, SIDE, SIDE)).astype(np.float32)
    x[4, 1, 1] = np.nan
    write(tmp_path, {"ant": x[:3], "bee": x[3:]}, "tif")
    with pytest.raises(Damaged, match=r"bee/1.tif cannot be read \(pixels that are nan or infinite\).*--damaged skip"):
        load(tmp_path, holdout=0)
    data = load(tmp_path, holdout=0, damaged="skip")
    rest = np.delete(x, 4, 0)
    assert len(data.train) == 5 and data.pixels == PixelRange(float(rest.min()), float(rest.max()), "floats")


def test_a_range_stretched_by_outliers_is_told(tmp_path):
    a, b = (1000 + np.arange(4 * SIDE * SIDE, dtype=np.uint16).reshape(4, SIDE, SIDE) % 1000 for _ in range(2))
    a[0, 0, 0] = 65535
    write(tmp_path, {"ant": a, "bee": b})
    note = load(tmp_path, holdout=0).note
    assert (
        note.startswith("uint16 values 1000..65535 were mapped to 0..255, of which most lie in 1")
        and "clip them" in note
    )


def parts(path, pixels: PixelRange | None):
    return load_parts(path, lambda found: draw(found, 0, None, 0), pixels=pixels)


def test_images_are_mapped_by_the_range_of_a_network(tmp_path):
    a, b = deep(4, 0), deep(4, 1)
    write(tmp_path, {"ant": a, "bee": b})
    data = parts(tmp_path, PixelRange(100, 4000))
    assert data.pixels == PixelRange(100, 4000) and "values 100..4000, as trained, were mapped" in data.note
    assert np.array_equal(everything(data.train), levels(np.concatenate([a, b]), 100, 4000)[:, None])
    for other in (EIGHT_BITS, PixelRange(0, 300), PixelRange(0, 65535)):
        with pytest.raises(OcheError, match="and the network was trained on"):
            parts(tmp_path, other)


def test_runs_of_earlier_versions_read_as_they_did(tmp_path):
    a = deep(4, 0, 65536)
    write(tmp_path / "f", {"ant": a[:2], "bee": a[2:]})
    (tmp_path / "f" / "bee" / "8bit.png").write_bytes(encoded(pixels(SIDE, SIDE)))
    data = parts(tmp_path / "f", AS_BEFORE)
    expected = [*(a >> 8), pixels(SIDE, SIDE)]
    assert data.pixels == AS_BEFORE and np.array_equal(everything(data.train)[:, 0], expected)
    np.savez(tmp_path / "x.npz", x=pixels(6, 12, SIDE, SIDE + 9), y=np.arange(6) % 2)
    assert parts(tmp_path / "x.npz", AS_BEFORE).channels == 12
    np.savez(tmp_path / "x.npz", x=deep(6, 0), y=np.arange(6) % 2)
    with pytest.raises(OcheError, match="was trained on 8-bit images"):
        parts(tmp_path / "x.npz", AS_BEFORE)


def test_8_bits_are_not_touched(tmp_path):
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.fromarray(pixels(SIDE, SIDE, 3, seed=i)).save(tmp_path / name / f"{i}.png")
    found = reading_module._read(str(tmp_path), None, None, 10**9, False, False)
    same, used = to_eight_bits(found, None, "x")
    assert used == EIGHT_BITS and np.array_equal(everything(same.train), everything(found.train))
