"""`load` as a whole: words and paths, limit, size, memory, the same images whatever the seed; and real data where present."""

import tarfile

import numpy as np
import pytest
import torch

from data_files import encoded, pixels
from oche.core.errors import OcheError
from oche.data import Resident, Streamed, load
from oche.data import loading as reading_module
from oche.data.loading import load_measured
from oche.data.pixel_range import EIGHT_BITS
from paths import SHARED


def everything(split):
    return split.gather(torch.arange(len(split)))


def test_digits_are_split_by_class_the_same_for_every_seed():
    data = load("digits")
    assert len(data.train) == 1438 and len(data.test) == 359
    counts = data.train.labels.bincount() + data.test.labels.bincount()
    assert (data.test.labels.bincount() - 0.2 * counts).abs().max() <= 0.5
    other = load("digits", seed=99)
    assert all(torch.equal(a, b) for a, b in zip(everything(data.test), everything(other.test), strict=True))


def test_moments_are_those_of_the_training_part_alone():
    data = load("digits", holdout=0.5, limit=100)
    x = everything(data.train)[0].double().numpy() / 255
    np.testing.assert_allclose(data.mean, x.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(data.std, x.std((0, 2, 3)), rtol=1e-9)


def test_limit_is_even_and_follows_the_seed_and_leaves_the_test_part():
    data = load("digits", limit=25)
    assert sorted(data.train.labels.bincount().tolist()) == [2] * 5 + [3] * 5 and len(data.test) == 359
    again, other = load("digits", limit=25), load("digits", limit=25, seed=1)
    assert torch.equal(everything(data.train)[0], everything(again.train)[0])
    assert not torch.equal(everything(data.train)[0], everything(other.train)[0])
    assert len(load("digits", limit=10**6).train) == 1438


def test_size_scales_named_sets_too():
    data = load("digits", size=16)
    assert data.image == (16, 16) and data.train.shape == data.test.shape == (1, 16, 16) and data.augment.pad == 2


def test_streams_what_memory_does_not_hold(photos, monkeypatch):
    need = 22 * 300
    monkeypatch.setattr(reading_module, "free_memory_or_estimate", lambda: 2 * need)
    resident = load(photos)
    monkeypatch.setattr(reading_module, "free_memory_or_estimate", lambda: 2 * need - 2)
    streamed = load(photos)
    assert isinstance(resident.train, Resident) and isinstance(streamed.train, Streamed)
    assert isinstance(resident.test, Resident) and isinstance(streamed.test, Streamed)
    assert (resident.mean, resident.std, resident.classes) == (streamed.mean, streamed.std, streamed.classes)
    for a, b in ((resident.train, streamed.train), (resident.test, streamed.test)):
        assert all(torch.equal(x, y) for x, y in zip(everything(a), everything(b), strict=True))
    assert isinstance(load(photos, limit=4).train, Resident)  # 15 images fit


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("free", [0, 10**9])
def test_an_image_cut_short_is_found_at_once_streamed_or_not(photos, monkeypatch, part, free):
    monkeypatch.setattr(reading_module, "free_memory_or_estimate", lambda: free)
    file = photos / part / "bee" / "3.png"
    file.write_bytes(encoded(pixels(10, 10, 3))[:-150])  # the header is whole
    with pytest.raises(OcheError, match=f"{part}/bee/3.png cannot be read"):
        load(photos)


def test_files_larger_than_memory(tmp_path, monkeypatch):
    np.savez(tmp_path / "x.npz", x=pixels(40, 9, 9), y=np.arange(40) % 2)
    monkeypatch.setattr(reading_module, "free_memory_or_estimate", lambda: 2 * 40 * 81)
    with pytest.raises(OcheError, match=r"x\.npz takes .* GB of memory"):
        load(tmp_path / "x.npz")
    monkeypatch.setattr(reading_module, "free_memory_or_estimate", lambda: 10**6)
    with pytest.raises(OcheError, match="40 images of 200x200 pixels take"):
        load(tmp_path / "x.npz", size=200)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"limit": 0}, "limit=0"),
        ({"limit": 9}, "limit=9 .* 10 classes"),
        ({"size": 7}, "size=7"),
        ({"holdout": 1}, "holdout=1"),
    ],
)
def test_impossible_values(options, says):
    with pytest.raises(OcheError, match=says):
        load("digits", **options)


def test_bars_are_shown_on_the_error_stream_alone(photos, capsys):
    load(photos, progress=True)
    load(photos)
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(
    not (SHARED / "hymenoptera_64px.tar").exists(), reason="no hymenoptera_64px.tar beside the repository"
)
def test_real_photographs_in_folders(tmp_path):
    with tarfile.open(SHARED / "hymenoptera_64px.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    data = load(tmp_path / "hymenoptera_64px")
    assert data.classes == ("ants", "bees") and data.channels == 3 and len(data.train) + len(data.test) == 398
    assert all(0.2 < m < 0.7 for m in data.mean) and isinstance(data.train, Resident)


@pytest.mark.slow
@pytest.mark.skipif(
    not (SHARED / "cifar10_jpeg.parquet").exists(), reason="no cifar10_jpeg.parquet beside the repository"
)
def test_real_cifar10_as_jpeg():
    """Its first test image is the cat of CIFAR-10; and every accuracy on it carries that JPEG is lossy."""
    data = load(SHARED / "cifar10_jpeg.parquet", limit=500)
    assert data.train.labels.bincount().tolist() == [50] * 10 and data.test.labels.bincount().tolist() == [1000] * 10
    assert data.classes[data.test.labels[0]] == "cat" and data.image == (32, 32) and data.augment.pad == 4
    assert "JPEG, which is lossy" in data.note
    np.testing.assert_allclose(data.mean, (0.4914, 0.4822, 0.4465), atol=0.03)
    np.testing.assert_allclose(data.std, (0.2470, 0.2435, 0.2616), atol=0.02)


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 2, 3, 1)])
def test_the_axes_of_data_to_measure_follow_from_the_network(tmp_path, axes):
    x = pixels(6, 12, 9, 10)
    np.savez(tmp_path / "x.npz", x=x.transpose(axes), y=np.arange(6) % 2)
    with pytest.raises(OcheError, match="neither the second nor the last axis has 1 to 4 entries"):
        load(tmp_path / "x.npz")
    found = load_measured(tmp_path / "x.npz", ("0", "1"), channels=12, image=(9, 10), pixels=EIGHT_BITS)
    assert np.array_equal(everything(found.train)[0].numpy(), x)
