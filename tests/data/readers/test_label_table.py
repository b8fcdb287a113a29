"""Images in one folder with a table of labels, as competitions have them; and tables that are none."""

import numpy as np
import pytest
import torch

from data_files import encoded, pixels, write_classes
from oche.core.errors import OcheError
from oche.data import load

X = pixels(6, 10, 10, 3)
LABELS = ["ant", "bee", "ant", "cow", "bee", "cow"]


def images(folder, names=range(6), suffix=".png", seed=None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(names, X if seed is None else pixels(len([*names]), 10, 10, 3, seed=seed), strict=True):
        (folder / f"{name}{suffix}").write_bytes(encoded(array))


def table(path, rows, header="id,label", between=",") -> None:
    lines = [header] * bool(header) + [between.join(map(str, row)) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")


def assert_read(data, labels=LABELS) -> None:
    assert data.classes == tuple(sorted({*labels}))
    assert [data.classes[k] for k in data.train.labels] == labels
    assert np.array_equal(data.train.gather(torch.arange(6))[0].numpy(), X.transpose(0, 3, 1, 2))


def refused(root, says: str) -> None:
    with pytest.raises(OcheError, match=says) as error:
        load(root)
    assert str(root) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("folder", ["train", "images", ".", "my photos"])
@pytest.mark.parametrize("form", ["{}", "{}.png", "somewhere/{}.png", "C:\\x\\{}.png"])
def test_names_with_and_without_suffix_and_folders(tmp_path, folder, form):
    images(tmp_path / folder)
    table(tmp_path / "labels.csv", [(form.format(k), label) for k, label in enumerate(LABELS)])
    data = load(tmp_path, holdout=0)
    assert_read(data)
    assert data.note == "labels are those of labels.csv" and data.name == tmp_path.name


@pytest.mark.parametrize(
    ("name", "header", "between", "order"),
    [
        ("train.csv", "image,category", ",", (0, 1)), ("x.tsv", "file\tclass", "\t", (0, 1)), ("x.csv", "id;breed", ";", (0, 1)),
        ("x.csv", "", ",", (0, 1)), ("x.csv", "diagnosis,image_id", ",", (1, 0)), ("X.CSV", "ID , Label", ",", (0, 1)),
    ],
)  # fmt: skip
def test_forms_of_tables(tmp_path, name, header, between, order):
    images(tmp_path / "train")
    table(tmp_path / name, [[(k, label)[i] for i in order] for k, label in enumerate(LABELS)], header, between)
    assert_read(load(tmp_path, holdout=0))


def test_numbers_as_labels_are_not_taken_for_names_of_images(tmp_path):
    images(tmp_path / "train")
    labels = ["0", "1", "0", "2", "1", "2"]
    table(tmp_path / "x.csv", zip(labels, range(6), strict=True), "label,id")
    assert_read(load(tmp_path, holdout=0), labels)


def test_other_columns_and_a_split(tmp_path):
    images(tmp_path / "train")
    split = ["train"] * 4 + ["test", "val"]
    table(
        tmp_path / "x.csv",
        [(k, 1.5, label, s) for (k, label), s in zip(enumerate(LABELS), split, strict=True)],
        "id,age,label,split",
    )
    data = load(tmp_path)
    assert (
        data.classes == ("ant", "bee", "cow")
        and data.train.labels.tolist() == [0, 1, 0, 2]
        and data.test.labels.tolist() == [1]
    )
    assert data.note == "labels are those of x.csv; not used: val (1 image)"


def test_a_whole_competition(tmp_path):
    images(tmp_path / "train")
    images(tmp_path / "train", ["more", "more2"], seed=7)
    images(tmp_path / "test", ["t0", "t1"], seed=8)
    (tmp_path / "train" / "a.nef").write_bytes(b"?")
    table(tmp_path / "train.csv", enumerate(LABELS))
    table(tmp_path / "sample_submission.csv", [("t0", "ant"), ("t1", "ant")])
    table(tmp_path / "breeds.csv", [("ant", "insect"), ("cow", "mammal")], "name,kind")
    data = load(tmp_path, holdout=0)
    assert_read(data)
    assert data.note.split("; ") == [
        "labels are those of train.csv", "not used, for want of a line in train.csv: 2 images (train/more.png and 1 more)",
        "not used, without labels: test (2 images)", "1 file was not read, of types that oche does not read: train/a.nef",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "header", "says"),
    [
        (
            [*enumerate(LABELS), (9, "ant"), (10, "ant")],
            "id,label",
            r"line 8 names '9', of which there is no image in .*train \(and 1 more",
        ),
        ([*enumerate(LABELS), (3, "ant")], "id,label", r"line 8 names .*train/3\.png, as an earlier line does"),
        ([(0, "ant"), (1, ""), (2, "bee"), (3, "")], "id,label", r"line 3 has no label \(''\), nor has 1 more row"),
        ([(0, 1), (1, -1), (2, 0)], "id,label", "line 3 has label '-1', which mostly means"),
        ([(0, "ant"), (1, "ant")], "id,label", "are of one class, 'ant'"),
        (
            [(0, 0, 1), (1, 1, 0)],
            "id,healthy,ill",
            "has the columns id, healthy, ill and none of them is the label; name it 'label'",
        ),
    ],
)
def test_mistakes(tmp_path, rows, header, says):
    images(tmp_path / "train")
    table(tmp_path / "x.csv", rows, header)
    refused(tmp_path, says)


def test_two_tables_of_labels_are_refused(tmp_path):
    images(tmp_path / "train")
    for name in ("a.csv", "b.csv"):
        table(tmp_path / name, enumerate(LABELS))
    refused(tmp_path, r"has a\.csv and b\.csv, which both name images; leave the one")


@pytest.mark.parametrize(
    "content", [b"", b"id,label\n", b"id,label\nx,y\nz,w\n", b"a,b\n1\n", b"\xff\xfe\x00,\x01\n1,2\n", b"\0" * 50]
)
def test_tables_that_are_none(tmp_path, content):
    images(tmp_path / "train")
    (tmp_path / "x.csv").write_bytes(content)
    refused(tmp_path, r"train holds images without class folders; x\.csv names too few images in it")


def test_class_folders_come_before_a_table(tmp_path):
    write_classes(tmp_path, {"ant": 2, "bee": 2})
    table(tmp_path / "x.csv", [("ant/0.png", "wasp"), ("ant/1.png", "fly")])
    data = load(tmp_path)
    assert data.classes == ("ant", "bee") and data.note == "x.csv was not read, since the classes are the folders"
