"""Labels that are classes get their numbers; those that are none are refused, with the row and the number of such rows."""

import decimal

import numpy as np
import pandas as pd
import pytest

from oche.core.errors import OcheError
from oche.data.readers.labels import encode_labels, has_labels, label_notes


def encode(labels, test: int = 0, names=None):
    values = np.empty(len(labels), dtype=object)
    values[:] = labels
    rows = np.arange(len(labels))
    train, held = rows[: len(rows) - test], rows[len(rows) - test :] if test else None
    codes, classes = encode_labels(values, train, held, names, lambda i: f"row {i}")
    return codes.tolist(), classes


@pytest.mark.parametrize(
    ("labels", "codes", "classes"),
    [
        ([2, 0, 1, 0], [2, 0, 1, 0], ("0", "1", "2")),
        ([1, 2, 3, 1], [0, 1, 2, 0], ("1", "2", "3")),
        ([-1, 1, 1, -1], [0, 1, 1, 0], ("-1", "1")),
        ([7, 300, 7], [0, 1, 0], ("7", "300")),
        ([1.0, 0.0, 2.0], [1, 0, 2], ("0.0", "1.0", "2.0")),
        ([1, 0.0, 1.0], [1, 0, 1], ("0.0", "1")),
        ([True, False, True], [1, 0, 1], ("False", "True")),
        (["b", "a", "b"], [1, 0, 1], ("a", "b")),
        (["10", "9", "A"], [0, 1, 2], ("10", "9", "A")),
        (["none", "None", "null", "NA"], [2, 1, 3, 0], ("NA", "None", "none", "null")),
        ([2**62, 3], [1, 0], ("3", str(2**62))),
    ],
)
def test_labels_that_are_classes(labels, codes, classes):
    assert encode(labels) == (codes, classes)


MISSING = [None, float("nan"), np.float64("nan"), pd.NA, pd.NaT, "", "  ", "nan", "NaN", "<NA>"]


@pytest.mark.parametrize("missing", MISSING, ids=repr)
@pytest.mark.parametrize("others", [[0, 1, 0], ["a", "b", "a"], [0.0, 1.0, 0.0]], ids=["integers", "text", "floats"])
def test_missing_labels_of_every_type_are_refused_with_their_number(missing, others):
    with pytest.raises(OcheError, match=r"^row 1 has no label") as error:
        encode([others[0], missing, *others[1:], missing, missing])
    assert "nor have 2 more rows; give each a label or remove the row" in str(error.value)
    with pytest.raises(OcheError, match="row 3 has no label"):
        encode([*others, missing], test=1)
    assert not has_labels([missing] * 3) and has_labels([missing, others[0]])


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (
            [0, 1, -1, 2, -1],
            r"row 2 has label -1 \(and 1 more like it\), which mostly means that the class is not known",
        ),
        ([0, 1, -7], "row 2 has label -7, which mostly means"),
        ([-1.0, 0.0, 1.0], "row 0 has label -1.0, which mostly means"),
        (["0", "-1", "1"], "row 1 has label '-1', which mostly means"),
        ([0.0, 1.5, 0.25, 1.0], r"row 1 has label 1.5 \(and 1 more like it\), which is not whole"),
        ([0.0, float("inf")], "row 1 has label inf, which is not whole"),
        (["cat", "inf", "dog"], "row 1 has label 'inf', which is not whole"),
        (["cat", "0.5", "dog"], "row 1 has label '0.5', which is not whole"),
        (["cat", "dog", "-3"], "row 2 has label '-3', which mostly means"),
        (["-1", "1", "cat"], "row 0 has label '-1', which mostly means"),
        (["cat", "dog", 3], "row 2 has label 3 and row 0 'cat', of another type"),
        ([0, 1, "2"], "row 2 has label '2' and row 0 0, of another type"),
        ([0, True, 2], "row 1 has label True and row 0 0, of another type"),
        ([b"a", b"b"], "row 0 has a label of type bytes"),
        ([0, [1], 2], "row 1 has a label of type list"),
        ([decimal.Decimal(1), decimal.Decimal(2)], "row 0 has a label of type Decimal"),
        ([5, 5, 5], "row 0 and all others are of one class, '5'"),
    ],
)
def test_labels_that_are_no_classes(labels, says):
    with pytest.raises(OcheError, match=says) as error:
        encode(labels)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("labels", "test", "names", "says"),
    [
        (
            [0, 1, 2, 5, 6],
            2,
            None,
            r"row 3 has label 5 \(and 1 more like it\), which no training image has; training has 0, 1, 2$",
        ),
        (["a", "b", "B"], 1, None, "row 2 has label 'B', which no training image has; training has a, b"),
        ([0, 1, 3, 3], 0, ("a", "b"), r"row 2 has label 3 \(and 1 more like it\); the 2 classes allow 0, 1$"),
        (
            [1, 2, 3, 1],
            0,
            ("a", "b", "c"),
            "row 2 has label 3; the 3 classes allow 0, 1, 2; labels start at 0: subtract 1",
        ),
        ([0, 1, -1], 0, ("a", "b"), "row 2 has label -1; the 2 classes allow 0, 1$"),
        (["a", "b", "c"], 0, ("a", "b"), "row 2 has label 'c'; the 2 classes allow a, b"),
        ([0, 1], 0, ("a", "a"), "two classes are called 'a'"),
        ([0, 1, 0], 0, ("a", "b", "c"), "class 'c' has no training image"),
    ],
)
def test_labels_beside_known_classes(labels, test, names, says):
    with pytest.raises(OcheError, match=says):
        encode(labels, test, names)


def test_given_names_may_be_numbers():
    assert encode(["1.5", "-1", "1.5"], names=("-1", "1.5")) == ([1, 0, 1], ("-1", "1.5"))
    assert encode([1.0, 0, 1], names=("-1", "1.5")) == ([1, 0, 1], ("-1", "1.5"))


def test_parts_without_labels():
    assert not has_labels([-1, -1]) and not has_labels(["-1", ""]) and not has_labels([-1.0, None])
    assert has_labels([-1, 0]) and has_labels(["x"]) and not has_labels([])


def test_notes_about_names_of_classes():
    assert label_notes(("ant", "bee")) == label_notes(("0", "1", "A", "b")) == []
    assert label_notes(("Cat", "cat", "dog")) == ["classes 'Cat' and 'cat' differ in case or spaces alone"]
    assert label_notes(("cat ", "cat", "dog")) == ["classes 'cat ' and 'cat' differ in case or spaces alone"]
    assert label_notes(("12", "dog", "cat")) == ["class names are words and numbers, such as 'dog' and '12'"]
    assert label_notes(("-1", "1")) == ["labels -1 and 1 are two classes"]
