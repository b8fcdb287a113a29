"""Python data as one npz file: parts, class names, notes; the same data set as from a file."""

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset

from oche.core.errors import OcheError
from oche.data import load
from oche.data.readers import python_objects
from oche.data.readers.python_objects import as_file, is_python_object, name_of
from python_data import CIFAR10, Items, Vision, arrays, pictures, table

X, Y = arrays()
VISION = Vision(*zip(X, Y, strict=True))


def written(data, **options):
    with as_file(data, **options) as path, np.load(path) as file:
        return {name: file[name] for name in file.files}


def all_images(data):
    return torch.cat([s.gather(torch.arange(len(s)))[0] for s in (data.train, data.test) if s is not None])


def test_what_is_an_object(tmp_path):
    assert not is_python_object("digits") and not is_python_object(tmp_path)
    assert is_python_object((X, Y)) and is_python_object(None) and is_python_object(b"digits")


def test_the_file_is_there_for_a_while():
    with as_file((X, Y)) as path:
        assert path.name == "arrays.npz" and path.is_file()
    assert not path.exists()


def test_a_pair_is_written_as_it_is():
    found = written((X, Y))
    assert found.keys() == {"x", "y"} and (found["x"] == X).all() and (found["y"] == Y).all()
    deep = written(((X * 256.0).astype(np.float32), Y + 1), layout="NHWC")
    assert deep["x"].dtype == np.float32 and str(deep["layout"]) == "NHWC" and deep["y"].min() == 1


def test_parts_by_name():
    found = written({"Train": (X, Y), "valid": (X[:8], Y[:8])})
    assert found.keys() == {"x_train", "y_train", "x_test", "y_test"} and len(found["x_test"]) == 8
    both = written({"train": (X, Y), "val": (X[:8], Y[:8]), "test": (X[:5], Y[:5])})
    assert len(both["x_test"]) == 5 and str(both["note"]) == "not used: val"
    for whole in ({"test": (X[:5], Y[:5])}, {"train": (X, Y), "val": (X[:5], Y[:5])}):
        assert len(written(whole, whole=True)["x"]) == 5
    hidden = written({"train": table(), "validation": table(), "test": table(labels=[-1] * 6)})
    assert str(hidden["note"]) == "not used for want of labels: test" and hidden["y_test"].tolist() == [0, 1] * 3


def test_the_test_part_is_scaled_as_the_training_part():
    found = written(
        {"train": Items(*pictures((20, 30), (26, 22), (24, 24))), "test": Items(*pictures((40, 40), (9, 9)))}
    )
    assert found["x_train"].shape == (3, 22, 22, 3) and found["x_test"].shape == (2, 22, 22, 3)
    assert written({"train": Items(*pictures((20, 30), (26, 22), (24, 24)))}, size=16)["x"].shape == (3, 16, 16, 3)


def test_classes_are_those_that_training_has_in_their_own_order():
    found = written(VISION)
    assert found["classes"].tolist() == ["ant", "bee", "cat", "dog"] and found["y"].tolist() == Y.tolist()
    some = Subset(VISION, np.flatnonzero(np.isin(Y, (3, 1))).tolist())
    found = written({"train": some, "test": Subset(VISION, [1, 3])})
    assert found["classes"].tolist() == ["bee", "dog"] and found["y_test"].tolist() == [0, 1]
    with pytest.raises(OcheError, match="the test part has the class 'ant', of which training has no image"):
        written({"train": some, "test": VISION})
    twice = Vision(*zip(X, Y, strict=True))
    twice.classes = ("a", "b", "a", "c")
    assert written(twice)["classes"].tolist() == ["a (0)", "b", "a (2)", "c"]
    twice.classes = ("a", "b")  # too few: the labels are the classes
    assert "classes" not in written(twice)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "the dict of data has nothing; name its parts train, val and test"),
        ({"a": (X, Y)}, "the dict of data has 'a'"),
        ({1: (X, Y)}, "the dict of data has 1"),
        ({"image": X, "label": Y}, "the dict of data has 'image', 'label'"),
        ({"test": (X, Y)}, "the dict of data has test but no train part"),
        ({"train": None}, "data may be a name or path"),
        ({"train": (X, Y), "test": "digits"}, r"test\[0\] is text 'd'; give \(image, label\)"),
        ({"train": (X, Y), "test": {"train": (X, Y)}}, "found dict of 1"),
        ({"train": (X, Y), "test": VISION}, "train is an array and test are items"),
    ],
)
def test_parts_that_cannot_be(data, words):
    with pytest.raises(OcheError, match=words):
        written(data)


def test_names():
    assert name_of((X, Y)) == name_of(TensorDataset(torch.zeros(1), torch.zeros(1))) == name_of([1]) == "arrays"
    assert name_of(VISION) == name_of(Subset(VISION, [0])) == name_of({"train": DataLoader(VISION)}) == "Vision"
    assert name_of(ConcatDataset([CIFAR10(1)])) == "cifar10"  # as the published set, whose augmentation suits it
    assert name_of(table()) == "bees" and name_of(load("digits", limit=10)) == "digits" and name_of({}) == "data"
    assert name_of(type("Ünï_code", (), {})()) == "n-code"


def test_a_full_disk_is_one_line(monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(python_objects.np, "savez", full)
    with pytest.raises(OcheError, match=r"cannot write .*arrays\.npz: No space left on device"):
        written((X, Y))
    monkeypatch.setattr(python_objects, "TemporaryDirectory", full)
    with pytest.raises(OcheError, match="No space left on device"):
        written((X, Y))


# --- oche.data.load


@pytest.mark.parametrize(
    "data", [(X, Y), TensorDataset(*map(torch.from_numpy, (X, Y))), VISION, load("digits", limit=40)]
)
def test_an_object_is_loaded_as_its_file_would_be(data, tmp_path):
    direct = load(data, holdout=0.25, seed=3)
    with as_file(data) as path:
        filed = load(path, holdout=0.25, seed=3)
    assert torch.equal(all_images(direct), all_images(filed)) and torch.equal(direct.train.labels, filed.train.labels)
    assert direct.classes == filed.classes and direct.mean == filed.mean and direct.name == name_of(data)


def test_floats_and_their_axes():
    floats = torch.from_numpy(X).permute(0, 3, 1, 2) / 255
    same = load((floats, Y), holdout=0)
    assert torch.equal(all_images(same), torch.from_numpy(X).permute(0, 3, 1, 2)) and "rounded" in same.note
    wide = np.random.default_rng(0).random((24, 9, 9, 9))
    with pytest.raises(OcheError, match=r"data: x has shape \(24, 9, 9, 9\), .*write layout=NHWC if it is the last"):
        load((wide, Y))
    assert load((wide, Y), layout="NHWC").channels == 9


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (Y - 1, r"data: y\[0\] has label -1 \(and 5 more like it\), which mostly means that the class is not known"),
        (np.zeros(24, int), "of one class"),
        (np.where(Y == 0, "", "cat"), r"data: y\[0\] has no label"),
    ],
)
def test_labels_that_the_reader_refuses_name_the_data(labels, words):
    with pytest.raises(OcheError, match=words) as caught:
        load((X, labels))
    assert "oche-data-" not in str(caught.value)


def test_images_that_the_reader_refuses_name_the_data():
    with pytest.raises(OcheError, match=r"data: x has images of 6x6 pixels; networks need 8 a side"):
        load((X[:, :6, :6], Y))
    broken = X.astype(np.float32)
    broken[3, 0, 0, 0] = np.nan
    with pytest.raises(OcheError, match=r"data: x\[3\] has pixels that are nan"):
        load((broken, Y))
