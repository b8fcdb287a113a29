"""Folders of class folders in every layout, and each mistake named before work starts."""

import shutil

import numpy as np
import pytest
import torch

from data_files import encoded, pixels, write_classes
from oche.core.errors import OcheError
from oche.data import load

COUNTS = {"ant": 5, "bee": 10, "cow": 5}


def everything(split):
    return split.gather(torch.arange(len(split)))


def sorted_bytes(x) -> list[bytes]:
    return sorted(np.asarray(a, np.uint8).tobytes() for a in x)


def test_class_folders_are_split_by_class(tmp_path):
    made = write_classes(tmp_path / "pets", COUNTS)
    data = load(tmp_path / "pets", holdout=0.4)
    assert data.name == "pets" and data.classes == ("ant", "bee", "cow") and data.note == ""
    assert data.train.labels.bincount().tolist() == [3, 6, 3] and data.test.labels.bincount().tolist() == [2, 4, 2]
    for k, name in enumerate(data.classes):
        x = torch.cat([everything(s)[0][s.labels == k] for s in (data.train, data.test)])
        assert sorted_bytes(x) == sorted_bytes(a.transpose(2, 0, 1) for a in made[name])
    assert load(tmp_path / "pets", holdout=0).test is None


@pytest.mark.parametrize(
    ("parts", "test", "unused"),
    [
        (("train", "test"), "test", ""), (("train", "val"), "val", ""), (("training", "validation"), "validation", ""),
        (("Train", "Valid"), "Valid", ""), (("train", "val", "test"), "test", "not used: val (5 images)"),
    ],
)  # fmt: skip
def test_parts(tmp_path, parts, test, unused):
    made = {p: write_classes(tmp_path / p, {"ant": 2, "bee": 3}, seed=10 * k) for k, p in enumerate(parts)}
    data = load(str(tmp_path))
    assert data.note == unused
    for split, part in ((data.train, parts[0]), (data.test, test)):
        assert split.labels.tolist() == [0, 0, 1, 1, 1]
        expected = made[part]["ant"] + made[part]["bee"]
        assert np.array_equal(everything(split)[0].numpy(), np.stack(expected).transpose(0, 3, 1, 2))


def test_train_alone_is_split(tmp_path):
    write_classes(tmp_path / "train", COUNTS)
    assert len(load(tmp_path, holdout=0.2).test) == 4


def test_classes_called_like_a_part_are_classes(tmp_path):
    write_classes(tmp_path, {"test": 3, "weld": 3})
    assert load(tmp_path).classes == ("test", "weld")


def test_deeper_images_hidden_files_and_others(tmp_path):
    write_classes(tmp_path, {"ant": 2, "bee": 2})
    write_classes(tmp_path / "ant", {"deeper": 2, ".hidden": 2})
    (tmp_path / "ant" / "notes.txt").write_text("no image")
    (tmp_path / "ant" / "._0.png").write_bytes(b"left by macOS")
    (tmp_path / ".git").mkdir()
    (tmp_path / "ant" / "0.png").rename(tmp_path / "ant" / "0.PNG")
    assert load(tmp_path, holdout=0).train.labels.tolist() == [0] * 4 + [1] * 2


def test_the_home_directory_and_a_relative_path(tmp_path, monkeypatch):
    write_classes(tmp_path / "pets", {"ant": 2, "bee": 2})
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "pets")
    assert load("~/pets").name == load(".").name == load("../pets").name == "pets"


def test_sizes_and_colour(tmp_path):
    write_classes(tmp_path, {"ant": 2, "bee": 2}, side=12)
    assert load(tmp_path).image == (12, 12) and load(tmp_path, size=9).image == (9, 9)
    (tmp_path / "bee" / "grey.png").write_bytes(encoded(pixels(20, 14)))
    data = load(tmp_path)
    assert data.channels == 3 and data.image == (12, 12) and "differing sizes were scaled and cut to 12x12" in data.note
    grey = tmp_path / "grey"
    for name in ("a", "b"):
        (grey / name).mkdir(parents=True)
        (grey / name / "1.png").write_bytes(encoded(pixels(9, 15)))
    data = load(grey, holdout=0)
    assert data.channels == 1 and data.image == (9, 15) and data.augment.pad == 1


def broken(tmp_path, change, says: str) -> None:
    root = tmp_path / "set"
    shutil.rmtree(root, ignore_errors=True)
    for part in ("train", "test"):
        write_classes(root / part, {"ant": 2, "bee": 2})
    change(root)
    with pytest.raises(OcheError, match=says) as error:
        load(root)
    assert str(root) in str(error.value) and "\n" not in str(error.value)


def test_mistakes(tmp_path):
    def empty(root, part):
        shutil.rmtree(root / part / "bee")
        (root / part / "bee").mkdir()

    broken(tmp_path, lambda r: (r / "train/ant/1.png").write_bytes(b""), r"train/ant/1\.png cannot be read \(empty\)")
    broken(
        tmp_path, lambda r: (r / "test/bee/0.png").write_text("hello"), r"test/bee/0\.png cannot be read \(not an image"
    )
    broken(
        tmp_path,
        lambda r: (r / "test/bee/0.png").write_bytes(encoded(pixels(10, 10, 3))[:120]),
        r"test/bee/0\.png cannot",
    )
    broken(
        tmp_path, lambda r: (r / "train/bee/9.png").write_bytes(encoded(pixels(7, 9, 3))), r"train/bee/9\.png has 9x7"
    )
    broken(tmp_path, lambda r: empty(r, "train"), "train/bee has no images")
    broken(tmp_path, lambda r: empty(r, "test"), "test/bee has no images")
    broken(
        tmp_path,
        lambda r: (r / "test/bee").rename(r / "test/bees"),
        "test/bees is a class without training images.*'bee'",
    )
    broken(tmp_path, lambda r: shutil.rmtree(r / "train/bee"), "train has one class folder, ant")
    broken(tmp_path, lambda r: (r / "train").rename(r / "val"), "has test, val but no train part")


def test_folders_without_classes(tmp_path):
    (tmp_path / "1.png").write_bytes(encoded(pixels(9, 9, 3)))
    with pytest.raises(OcheError, match="has no class folders"):
        load(tmp_path)
