"""Images in one file: parquet in the layouts people write, npz in theirs, and each mistake named with its row."""

import json
import pickle

import numpy as np
import pytest
import torch

from data_files import encoded, pixels, png16
from oche.core.errors import OcheError
from oche.data import load
from oche.data.pixel_range import UNIT, PixelRange

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
X = pixels(8, 9, 11, 3)
LABELS = [0, 1, 2, 0, 1, 2, 1, 0]
SPLIT = ["train"] * 6 + ["test"] * 2
NAMES = ("ant", "bee", "cow")


def everything(split) -> tuple[np.ndarray, list[int]]:
    x, y = split.gather(torch.arange(len(split)))
    return x.numpy(), y.tolist()


def write(path, metadata=None, **columns) -> None:
    table = pa.table(columns)
    pq.write_table(table.replace_schema_metadata(metadata or {}), path)


def planes(x: np.ndarray) -> np.ndarray:
    return x.transpose(0, 3, 1, 2)


def test_parquet_with_a_split_and_names(tmp_path):
    file = tmp_path / "animals.parquet"
    write(file, {"class_names": json.dumps(NAMES), "note": "drawn by hand"}, index=list(range(8)), label=LABELS, split=SPLIT,
          image=[encoded(a) for a in X])  # fmt: skip
    data = load(file)
    assert (data.name, data.classes, data.note) == ("animals", NAMES, "drawn by hand")
    for split, rows in ((data.train, slice(0, 6)), (data.test, slice(6, 8))):
        x, y = everything(split)
        assert np.array_equal(x, planes(X[rows])) and y == LABELS[rows]


def test_parquet_as_the_hub_writes_it(tmp_path):
    features = {
        "info": {"features": {"fine_label": {"names": list(NAMES), "_type": "ClassLabel"}, "img": {"_type": "Image"}}}
    }
    images = [{"bytes": encoded(a, "JPEG", quality=90), "path": None} for a in X]
    write(tmp_path / "x.parquet", {"huggingface": json.dumps(features)}, img=images, fine_label=LABELS)
    data = load(tmp_path / "x.parquet", holdout=0)
    assert data.classes == NAMES and everything(data.train)[1] == LABELS
    assert data.note == "images are stored as JPEG, which is lossy"


def test_parquet_labels_may_be_words_and_name_themselves(tmp_path):
    write(tmp_path / "x.parquet", image=[encoded(a) for a in X], label=["w", "v", "u", "w", "v", "u", "v", "w"])
    data = load(tmp_path / "x.parquet", holdout=0)
    assert data.classes == ("u", "v", "w") and everything(data.train)[1] == [2, 1, 0, 2, 1, 0, 1, 2]
    assert data.note == ""


def test_parquet_splits_by_class_without_a_split(tmp_path):
    write(tmp_path / "x.parquet", image=[encoded(a) for a in X], label=LABELS)
    data = load(tmp_path / "x.parquet", holdout=0.3)
    assert sorted(data.train.labels.tolist() + data.test.labels.tolist()) == sorted(LABELS)
    assert data.test.labels.unique().tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image": [b"?", *map(encoded, X[1:])]}, r"row 0 cannot be read \(not an image"),
        ({"image": [encoded(X[0]), None, *map(encoded, X[2:])]}, "row 1 has no image bytes"),
        ({"image": list(range(8))}, "images are of type int64"),
        ({"label": [0, 1, None, 0, 1, 2, 1, 0]}, "row 2 has no label"),
        ({"label": [0, 1, 2, 0, 1, 2, 1, 3]}, "row 7 has label 3; the 3 classes allow 0, 1, 2"),
        ({"label": [0, 1, 1, 0, 1, 1, 1, 0]}, "class 'cow' has no training image"),
        ({"label": [0.5] * 8}, "row 0 has label 0.5"),
        ({"split": ["test"] * 8}, "column split has test but no train part"),
    ],
)
def test_parquet_mistakes(tmp_path, change, says):
    file = tmp_path / "x.parquet"
    columns = {"image": [encoded(a) for a in X], "label": LABELS, "split": SPLIT} | change
    write(file, {"class_names": json.dumps(NAMES)}, **columns)
    with pytest.raises(OcheError, match=says) as error:
        load(file)
    assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_parquet_columns_and_files_that_are_none(tmp_path):
    write(tmp_path / "a.parquet", picture=[encoded(a) for a in X], sort=LABELS)
    with pytest.raises(OcheError, match="columns picture, sort and none of them is the label; name it 'label'"):
        load(tmp_path / "a.parquet")
    write(tmp_path / "b.parquet", image=pa.array([], pa.binary()), label=pa.array([], pa.int64()))
    (tmp_path / "c.parquet").write_text("PAR1 not really")
    (tmp_path / "d.parquet").write_bytes(b"")
    for name, says in {"b": "has no rows", "c": "cannot be read as a parquet file", "d": "it is empty"}.items():
        with pytest.raises(OcheError, match=rf"{name}\.parquet.*{says}"):
            load(tmp_path / f"{name}.parquet")


@pytest.mark.parametrize("layout", ["grey", "last", "first"])
@pytest.mark.parametrize(("kind", "scale"), [(np.uint8, 1), (np.int64, 1), (np.float32, 255)])
def test_npz_layouts_and_types(tmp_path, layout, kind, scale):
    first = {"grey": X[..., :1], "last": X, "first": X}[layout].transpose(0, 3, 1, 2)
    stored = {"grey": first[:, 0], "last": first.transpose(0, 2, 3, 1), "first": first}[layout]
    np.savez(tmp_path / "x.npz", x=(stored / scale).astype(kind) if scale > 1 else stored.astype(kind), y=LABELS)
    data = load(tmp_path / "x.npz", holdout=0)
    x, y = everything(data.train)
    assert np.array_equal(x, first) and y == LABELS and data.classes == ("0", "1", "2")
    assert data.note == ("float images were rounded to 8 bits" if scale > 1 else "")


@pytest.mark.parametrize(
    "keys", [("x_train", "y_train", "x_test", "y_test"), ("train_images", "train_labels", "test_images", "test_labels")]
)
def test_npz_with_a_test_part(tmp_path, keys):
    arrays = dict(zip(keys, (X[:6], np.array(LABELS[:6])[:, None], X[6:], LABELS[6:]), strict=True))
    np.savez_compressed(tmp_path / "x.npz", **arrays, classes=np.array(NAMES))
    data = load(tmp_path / "x.npz")
    assert np.array_equal(everything(data.train)[0], planes(X[:6])) and everything(data.test)[1] == LABELS[6:]
    assert data.classes == NAMES


_TWO = {"x_train": X[:6], "y_train": LABELS[:6], "x_test": X[6:], "y_test": LABELS[6:]}


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": X}, "has arrays x; give x and y"),
        ({"x": X, "y": LABELS[:7]}, r"y has shape \(7,\) and type int64; 8 images need \(8,\)"),
        ({"x": X, "y": np.array(LABELS) / 2}, "type float64"),
        ({"x": np.full((8, 9, 9), np.nan), "y": LABELS}, r"x\[\d\] has pixels that are nan or infinite"),
        ({"x": np.full((8, 9, 9), 999), "y": LABELS}, "all pixels of the training images are 999"),
        ({"x": X.astype(complex), "y": LABELS}, "x is complex128; give images of integers, floats or bools"),
        ({"x": pixels(8, 12, 9, 9), "y": LABELS}, "neither the second nor the last axis has 1 to 4 entries"),
        ({"x": pixels(8, 3, 9, 3), "y": LABELS}, "both the second and the last axis have 1 to 4 entries"),
        ({"x": X, "y": LABELS, "layout": np.array("CHWN")}, "layout is 'CHWN'; write NHWC or NCHW"),
        (
            {**_TWO, "x_train": _TWO["x_train"] * 16.0 - 3},
            "the training part has float64 values .*, the test part 8-bit images",
        ),
        ({"x": X[:, :7], "y": LABELS}, "images of 11x7 pixels"),
        ({"x": X[0], "y": [1]}, "images of 3x11|y has shape"),
        ({"x": X.ravel(), "y": LABELS}, "x has shape"),
        ({**_TWO, "y_test": [0, 5]}, r"y_test\[1\] has label 5, which no training image has; training has 0, 1, 2"),
        ({**_TWO, "x_test": X[6:, :, :10]}, r"test images \(3, 9, 10\)"),
        ({"x": X, "y": [4] * 8}, "of one class, '4'"),
        ({"x": X, "y": LABELS, "classes": np.array(["a", "b", "c", "d"])}, "class 'd' has no training image"),
        ({"x": X, "y": np.array(LABELS, dtype=object)}, "not an npz file of plain arrays"),
    ],
)
def test_npz_mistakes(tmp_path, arrays, says):
    np.savez(tmp_path / "x.npz", **{k: np.asarray(v) for k, v in arrays.items()})
    with pytest.raises(OcheError, match=says) as error:
        load(tmp_path / "x.npz")
    assert str(tmp_path / "x.npz") in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("kind", [np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_npz_of_other_ranges(tmp_path, kind):
    """The range of the training part becomes 0..255; what the test part has beyond is clipped."""
    signed = np.dtype(kind).kind in "if"
    train, test = (X[rows].astype(np.int32) * 16 - (1024 if signed else 0) for rows in (slice(0, 6), slice(6, 8)))
    test[0, 0, 0, 0] = 32767
    np.savez(
        tmp_path / "x.npz", x_train=train.astype(kind), y_train=LABELS[:6], x_test=test.astype(kind), y_test=LABELS[6:]
    )
    data = load(tmp_path / "x.npz")
    low, high = int(train.min()), int(train.max())
    assert data.pixels == PixelRange(low, high, "floats" if np.dtype(kind).kind == "f" else "integers")
    for split, x in ((data.train, train), (data.test, test)):
        expected = np.rint((x - low) * (255 / (high - low))).clip(0, 255)
        assert np.array_equal(everything(split)[0], planes(expected))
    assert data.note.startswith(
        f"{np.dtype(kind)} values {low}..{high} were mapped to 0..255 (those of the test part, "
    )
    assert "..32767, were clipped to them)" in data.note


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16, np.uint32])
def test_npz_of_8_bit_values_in_another_type(tmp_path, kind):
    np.savez(tmp_path / "x.npz", x=X.astype(kind), y=LABELS)
    data = load(tmp_path / "x.npz", holdout=0)
    assert np.array_equal(everything(data.train)[0], planes(X)) and data.pixels.usual and data.note == ""


def test_npz_of_bools(tmp_path):
    np.savez(tmp_path / "x.npz", x=X > 127, y=LABELS)
    assert np.array_equal(everything(load(tmp_path / "x.npz", holdout=0).train)[0], planes(np.where(X > 127, 255, 0)))


def test_npz_of_parts_in_two_usual_types(tmp_path):
    np.savez(tmp_path / "x.npz", **{**_TWO, "x_train": (_TWO["x_train"] / 255).astype(np.float32)})
    data = load(tmp_path / "x.npz")
    assert np.array_equal(everything(data.train)[0], planes(X[:6])) and data.pixels == UNIT
    assert np.array_equal(everything(data.test)[0], planes(X[6:]))


@pytest.mark.parametrize("by", ["option", "array"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_npz_whose_axes_are_told(tmp_path, layout, by):
    x = pixels(8, 9, 10, 11)
    told = {"layout": np.array(layout)} if by == "array" else {}
    np.savez(tmp_path / "x.npz", x=x, y=LABELS, **told)
    data = load(tmp_path / "x.npz", holdout=0, **({"layout": layout} if by == "option" else {}))
    expected = x if layout == "NCHW" else planes(x)
    assert np.array_equal(everything(data.train)[0], expected) and data.channels == expected.shape[1]


def test_npz_with_a_note(tmp_path):
    np.savez(tmp_path / "x.npz", x=X, y=LABELS, note=np.array("drawn by hand"))
    assert load(tmp_path / "x.npz", holdout=0).note == "drawn by hand"


def test_parquet_of_16_bits(tmp_path):
    x = X.astype(np.uint16) * 16
    write(tmp_path / "x.parquet", image=[png16(a) for a in x], label=LABELS, split=SPLIT)
    data = load(tmp_path / "x.parquet")
    low, high = int(x[:6].min()), int(x[:6].max())
    assert data.pixels == PixelRange(low, high)
    assert np.array_equal(
        everything(data.test)[0], planes(np.rint((x[6:] - float(low)) * (255 / (high - low))).clip(0, 255))
    )
    assert data.note == f"uint16 values {low}..{high} were mapped to 0..255"


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", pickle.dumps(Trap())])
def test_npz_files_that_are_none(tmp_path, content):
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(OcheError, match="not an npz file of plain arrays"):
        load(tmp_path / "x.npz")
