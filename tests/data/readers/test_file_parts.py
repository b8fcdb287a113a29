"""Parts of npz and parquet files: which are used, and that every other one is told of with its number of images."""

import numpy as np
import pytest

from data_files import encoded, pixels
from oche.core.errors import OcheError
from oche.data import load

X = pixels(8, 9, 11, 3)
Y = np.array([0, 1, 2, 0, 1, 2, 1, 0])


def npz(path, **arrays):
    np.savez(path, **{k: np.asarray(v) for k, v in arrays.items()})
    return load(path, holdout=0.4)


# --- npz --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "labels"),
    [("x_{}", "y_{}"), ("X_{}", "Y_{}"), ("{}_images", "{}_labels"), ("images_{}", "labels_{}"), ("{}_x", "{}_y")],
)
@pytest.mark.parametrize("val", ["val", "valid"])
def test_without_a_test_part_validation_is_tested_on(tmp_path, images, labels, val):
    parts = {"train": slice(0, 6), val: slice(6, 8)}
    arrays = {images.format(k): X[rows] for k, rows in parts.items()} | {
        labels.format(k): Y[rows] for k, rows in parts.items()
    }
    data = npz(tmp_path / "x.npz", **arrays)
    assert data.test.labels.tolist() == [1, 0] and data.train.labels.tolist() == Y[:6].tolist() and data.note == ""


def test_three_parts_as_medmnist_has_them(tmp_path):
    data = npz(
        tmp_path / "x.npz", train_images=X[:5], train_labels=Y[:5, None], val_images=X[5:6], val_labels=Y[5:6, None],
        test_images=X[6:], test_labels=Y[6:, None],
    )  # fmt: skip
    assert data.test.labels.tolist() == [1, 0] and len(data.train) == 5 and data.note == "not used: val (1 image)"


def test_test_images_without_labels_are_not_used(tmp_path):
    data = npz(tmp_path / "a.npz", x_train=X, y_train=Y, x_test=X[:3])
    assert len(data.train) + len(data.test) == 8 and data.note == "arrays not used: x_test"
    data = npz(tmp_path / "b.npz", x_train=X, y_train=Y, x_test=X[:3], y_test=[-1, -1, -1])
    assert len(data.train) + len(data.test) == 8 and data.note == "not used for want of labels: test (3 images)"
    data = npz(
        tmp_path / "c.npz", x_train=X[:5], y_train=Y[:5], x_test=X[:2], y_test=[-1, -1], x_val=X[5:], y_val=Y[5:]
    )
    assert data.test.labels.tolist() == [2, 1, 0] and data.note == "not used for want of labels: test (2 images)"


def test_other_arrays_are_named(tmp_path):
    data = npz(tmp_path / "x.npz", x=X, y=Y, ids=range(8), x_test=X[:1], classes=["a", "b", "c"])
    assert data.note == "arrays not used: ids, x_test" and data.classes == ("a", "b", "c")
    with pytest.raises(OcheError, match="has two arrays called x, but for the case"):
        npz(tmp_path / "y.npz", x=X, X=X, y=Y)
    with pytest.raises(OcheError, match="has arrays x_val, y_val; give x and y"):
        npz(tmp_path / "z.npz", x_val=X, y_val=Y)


@pytest.mark.parametrize("labels", [["a", "", "b", "a", "b", "a", "b", "a"], [0, 1, -1, 0, 1, 2, 1, -1]])
def test_labels_of_an_npz_that_are_none(tmp_path, labels):
    with pytest.raises(OcheError, match=r"x\.npz: y\[[12]\] has (no )?label"):
        npz(tmp_path / "x.npz", x=X, y=labels)


# --- parquet ----------------------------------------------------------------------------------------------------------

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
IMAGES = [encoded(a) for a in X]


def parquet(path, **columns):
    pq.write_table(pa.table({"image": IMAGES, "label": Y.tolist()} | columns), path)
    return load(path, holdout=0.4)


def test_rows_of_other_parts_are_counted(tmp_path):
    split = ["train", "Train", " train", "train", "val", "test", "test", "extra"]
    data = parquet(tmp_path / "x.parquet", split=split)
    assert data.train.labels.tolist() == [0, 1, 2, 0] and data.test.labels.tolist() == [2, 1]
    assert data.note == "not used: extra (1 image), val (1 image)"


@pytest.mark.parametrize("missing", [None, -1])
def test_a_part_of_rows_without_labels_is_not_tested_on(tmp_path, missing):
    split = ["train"] * 5 + ["test"] * 3
    data = parquet(tmp_path / "x.parquet", split=split, label=[0, 1, 0, 1, 0, missing, missing, missing])
    assert len(data.train) + len(data.test) == 5 and data.note == "not used for want of labels: test (3 images)"
    with pytest.raises(OcheError, match=r"row 6 has (no )?label"):
        parquet(tmp_path / "y.parquet", split=split, label=[0, 1, 0, 1, 0, 1, missing, 1])


@pytest.mark.parametrize(
    "labels",
    [
        pa.array([0, 1, None, 0, 1, 0, None, 0]), pa.array([0.0, 1.0, float("nan"), 0.0, 1.0, 0.0, None, 1.0]),
        pa.array(["a", "b", "", "a", "b", "a", None, "b"]), pa.array([True, False, None, True, False, True, None, True]),
        pa.array(["a", "b", None, "a", "b", "a", None, "b"]).dictionary_encode(),
    ],
    ids=["integers", "floats", "text", "booleans", "categories"],
)  # fmt: skip
def test_missing_labels_in_columns_of_every_type(tmp_path, labels):
    with pytest.raises(OcheError, match=r"x\.parquet: row 2 has no label.*, nor has 1 more row"):
        parquet(tmp_path / "x.parquet", label=labels)


def test_columns_that_might_have_been_meant_are_named(tmp_path):
    data = parquet(
        tmp_path / "x.parquet",
        index=range(8),
        coarse_label=Y.tolist(),
        mask=IMAGES,
        partition=["a"] * 8,
        price=[1.5] * 8,
    )
    assert data.note == "columns not used: coarse_label, mask, partition"
    with pytest.raises(OcheError, match="has columns label and Label, either of which may be the label; rename one"):
        parquet(tmp_path / "y.parquet", Label=Y.tolist())


@pytest.mark.parametrize(
    ("name", "others", "told"),
    [
        (
            "train-00000-of-00003",
            ("train-00001-of-00003", "train-00002-of-00003"),
            "train-00001-of-00003.parquet and 1 more",
        ),
        ("train", ("test", "notes"), "test.parquet"),
        ("part-0", ("part-1", "part-2"), "part-1.parquet and 1 more"),
        ("data_train", ("data_val", "other_val"), "data_val.parquet"),
        ("pets", ("cars", "pets2"), ""),
    ],
)
def test_shards_and_parts_beside_the_file_are_told_of(tmp_path, name, others, told):
    for other in others:
        (tmp_path / f"{other}.parquet").write_bytes(b"")
    note = parquet(tmp_path / f"{name}.parquet").note
    assert note == (told and f"only {name}.parquet is read, not the other shards or parts beside it: {told}")
