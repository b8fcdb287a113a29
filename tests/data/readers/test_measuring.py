"""Data read to be measured: the part that is chosen, the folders that hold the network's classes, one class alone."""

import numpy as np
import pytest

from class_folders import write
from oche.core.errors import OcheError
from oche.data.readers.labels import encode_labels
from oche.data.readers.listing import Unread
from oche.data.readers.measuring import choose_measured, find_measured, measured_classes, measuring
from oche.data.readers.records import ROLES, choose_splits


@pytest.mark.parametrize(
    ("names", "part", "note"),
    [
        (["train", "test", "val"], "test", "measured is its part test, not used: train, val"),
        (["Training", "Validation"], "Validation", "measured is its part Validation, not used: Training"),
        (["train"], "train", ""),
        (["extra"], "extra", ""),
    ],
)
def test_the_test_part_comes_before_validation_and_training(names, part, note):
    assert choose_measured(names, ROLES) == (part, note)
    with measuring(["a"]):
        assert choose_splits(names, "x") == (part, None, note)
    assert measured_classes() is None


def test_data_without_labels_cannot_be_measured():
    with pytest.raises(OcheError, match="no part of the data has labels"):
        choose_measured([], ROLES)


@pytest.mark.parametrize(
    ("layout", "classes", "found"),
    [
        (["a", "b"], "ab", ["a", "b"]),
        (["b"], "ab", ["b"]),
        (["outer/inner/a"], "ab", ["outer/inner/a"]),
        (["train/a", "test/b"], "ab", ["test/b"]),
        (["set/train/a", "set/val/a", "set/val/b"], "ab", ["set/val/a", "set/val/b"]),
        (["train", "test"], ["train", "test"], ["test", "train"]),  # classes with the names of parts
        (["a", "other"], "ab", ["a", "other"]),  # the unknown class is refused by name later
    ],
)
def test_class_folders_are_found_by_the_names_of_the_network(tmp_path, layout, classes, found):
    write(tmp_path, {name: [1] for name in layout})
    with measuring([*classes]):
        folders, test, _ = find_measured(tmp_path, Unread(tmp_path), ROLES)
    assert [str(f.relative_to(tmp_path)) for f in folders] == found and test is None


@pytest.mark.parametrize("layout", [["x", "y"], ["outer/x", "outer/y"], ["train/x"]])
def test_folders_without_a_known_class_are_listed(tmp_path, layout):
    write(tmp_path, {name: [1] for name in layout})
    with (
        measuring("ab"),
        pytest.raises(OcheError, match=r"no folder with the name of a class of the network \(a, b\); .*x"),
    ):
        find_measured(tmp_path, Unread(tmp_path), ROLES)


def test_one_class_is_enough_to_measure():
    rows = np.arange(3)
    with pytest.raises(OcheError, match="give at least 2 classes"):
        encode_labels(np.array(["b"] * 3), rows, None, None, str)
    with measuring("ab"):
        codes, classes = encode_labels(np.array(["b"] * 3), rows, None, None, str)
        assert (codes.tolist(), classes) == ([0, 0, 0], ("b",))
        codes, classes = encode_labels(np.array([1, 1, 1]), rows, None, ("a", "b"), str)
        assert (codes.tolist(), classes) == ([1, 1, 1], ("a", "b"))
