"""Which folders are classes and which are parts, by what lies in them; and what is said about the rest."""

import shutil

import pytest

from data_files import encoded, pixels, write_classes
from oche.core.errors import OcheError
from oche.data import load


def flat(folder, count: int = 3, seed: int = 50) -> None:
    folder.mkdir(parents=True)
    for i, array in enumerate(pixels(count, 10, 10, 3, seed=seed)):
        (folder / f"{i}.png").write_bytes(encoded(array))


def refused(root, says: str) -> None:
    with pytest.raises(OcheError, match=says) as error:
        load(root)
    assert str(root) in str(error.value) and "\n" not in str(error.value)


# --- class names that are names of parts ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names", [("car", "train"), ("training", "yoga"), ("invalid", "valid"), ("car", "test", "train"), ("Val", "hill")]
)
def test_classes_may_be_called_like_parts(tmp_path, names):
    write_classes(tmp_path, dict.fromkeys(names, 4))
    data = load(tmp_path, holdout=0.25)
    assert data.classes == tuple(sorted(names)) and data.note == ""
    assert data.train.labels.bincount().tolist() == [3] * len(names) == [3 * n for n in data.test.labels.bincount()]


def test_parts_may_hold_classes_called_like_parts(tmp_path):
    for k, part in enumerate(("train", "test")):
        write_classes(tmp_path / part, {"car": 2, "train": 3}, seed=10 * k)
    data = load(tmp_path)
    assert data.classes == ("car", "train") and data.train.labels.tolist() == data.test.labels.tolist() == [
        0,
        0,
        1,
        1,
        1,
    ]


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("training_set", "test_set"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("TrainData", "ValidData"),
        ("Trainset", "testset"),
    ],
)
def test_parts_with_other_names_are_parts_where_they_hold_the_same_classes(tmp_path, train, test):
    for k, part in enumerate((train, test)):
        write_classes(tmp_path / part, {"ant": 2 + k, "bee": 3}, seed=10 * k)
    data = load(tmp_path)
    assert data.classes == ("ant", "bee")
    assert data.train.labels.bincount().tolist() == [2, 3] and data.test.labels.bincount().tolist() == [3, 3]


def test_nested_classes_that_are_called_alike_inside_stay_classes(tmp_path):
    for name in ("steam train", "tram"):
        write_classes(tmp_path / name, {"2019": 2, "2020": 2})
    data = load(tmp_path, holdout=0)
    assert data.classes == ("steam train", "tram") and data.train.labels.bincount().tolist() == [4, 4]


def test_parts_inside_of_classes_are_read_together_and_told_of(tmp_path):
    for k, name in enumerate(("ant", "bee")):
        write_classes(tmp_path / name, {"train": 3, "test": 1}, seed=10 * k)
    data = load(tmp_path, holdout=0)
    assert data.classes == ("ant", "bee") and data.train.labels.tolist() == [0] * 4 + [1] * 4
    assert data.note.startswith(
        "parts inside of classes are read together, as if they were none: test and train in ant (write"
    )


def test_a_folder_called_train_that_may_be_either_is_refused(tmp_path):
    write_classes(tmp_path / "train", {"steam": 2, "diesel": 2})
    (tmp_path / "train" / "1.png").write_bytes(encoded(pixels(10, 10, 3)))
    flat(tmp_path / "car")
    refused(tmp_path, "train holds class folders and images, beside car with images")


# --- parts without labels ---------------------------------------------------------------------------------------------


def test_an_unlabelled_test_part_is_not_measured_on(tmp_path):
    write_classes(tmp_path / "train", {"ant": 5, "bee": 5})
    flat(tmp_path / "test", 7)
    data = load(tmp_path, holdout=0.2)
    assert data.note == "not used, without class folders: test (7 images)"
    assert data.train.labels.bincount().tolist() == [4, 4] and data.test.labels.bincount().tolist() == [1, 1]


@pytest.mark.parametrize("inside", ["unknown", "images", "test"])
def test_one_folder_for_all_unlabelled_images_is_no_class(tmp_path, inside):
    write_classes(tmp_path / "train", {"ant": 5, "bee": 5})
    flat(tmp_path / "test" / inside, 4)
    data = load(tmp_path)
    assert data.note == "not used, without class folders: test (4 images)" and data.classes == ("ant", "bee")


def test_val_is_measured_on_where_test_is_unlabelled(tmp_path):
    write_classes(tmp_path / "train", {"ant": 5, "bee": 5})
    write_classes(tmp_path / "val", {"ant": 1, "bee": 2}, seed=10)
    flat(tmp_path / "test", 3)
    data = load(tmp_path)
    assert data.test.labels.tolist() == [0, 1, 1] and data.note == "not used, without class folders: test (3 images)"


def test_folders_beside_the_parts_are_told_of(tmp_path):
    write_classes(tmp_path / "train", {"ant": 5, "bee": 5})
    flat(tmp_path / "extra", 1)
    (tmp_path / "validation").mkdir()
    data = load(tmp_path)
    assert data.classes == ("ant", "bee")
    assert data.note.split("; ") == [
        "1 folder has no images and so no class: validation",
        "not used, neither train, test nor val: extra (1 image)",
    ]


@pytest.mark.parametrize("second", ["Train", "training", "val"])
def test_a_second_folder_for_a_part_is_counted(tmp_path, second):
    write_classes(tmp_path / "train", {"ant": 2, "bee": 2})
    write_classes(tmp_path / "test", {"ant": 1, "bee": 2}, seed=10)
    write_classes(tmp_path / second, {"ant": 3, "bee": 4}, seed=20)
    data = load(tmp_path)
    used, other = ("Train", "train") if second == "Train" else ("train", second)  # the first by name
    assert len(data.train) == (7 if used == "Train" else 4) and data.test.labels.tolist() == [0, 1, 1]
    assert data.note.startswith("not used") and data.note.endswith(f": {other} ({4 if used == 'Train' else 7} images)")


@pytest.mark.parametrize("names", [("train",), ("train", "test"), ("Training", "val", "test")])
def test_images_without_classes_are_refused_with_what_to_do(tmp_path, names):
    for name in names:
        flat(tmp_path / name)
    trains = next(n for n in names if n.lower().startswith("train"))
    refused(
        tmp_path, f"{trains} holds images without class folders; put the images of each class in a folder of its name"
    )
    (tmp_path / "labels.csv").write_text("name,kind\nant,insect\n")
    refused(
        tmp_path,
        rf"{trains} holds images without class folders; labels\.csv names too few images",
    )


def test_a_table_of_labels_beside_images(tmp_path):
    flat(tmp_path / "x")
    (tmp_path / "x" / "train.csv").write_text("name,kind\nant,insect\n")
    refused(tmp_path / "x", r"x has no class folders; train\.csv names too few images in it")
    flat(tmp_path / "x" / "images", seed=60)
    refused(tmp_path / "x", r"x has one class folder, images; train\.csv names too few images")
    shutil.rmtree(tmp_path / "x")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "train-0.parquet").write_bytes(b"PAR1")
    (tmp_path / "x" / "train-1.parquet").write_bytes(b"PAR1")
    refused(tmp_path / "x", r"it holds 2 parquet files: give one of them, such as train-0\.parquet")


@pytest.mark.parametrize(
    "names", [("images", "masks"), ("JPEGImages", "SegmentationClass"), ("img", "labels", "thumbs")]
)
def test_images_and_their_annotations_are_no_classes(tmp_path, names):
    for k, name in enumerate(names):
        flat(tmp_path / name, seed=k)
    refused(tmp_path, "images and their annotations by the names, which are no classes")


@pytest.mark.parametrize(
    "names", [("train_images", "test_images"), ("TrainSet", "ValSet"), ("training-data", "testing-data")]
)
def test_parts_with_other_names_and_no_classes_are_refused(tmp_path, names):
    for k, name in enumerate(names):
        flat(tmp_path / name, seed=k)
    refused(tmp_path, "holds images without class folders")


# --- what lies around and beside --------------------------------------------------------------------------------------


@pytest.mark.parametrize("around", ["archive", "archive/dataset", "a/b/c"])
@pytest.mark.parametrize("parts", [True, False])
def test_folders_around_everything_are_entered(tmp_path, around, parts):
    for k, part in enumerate(("train", "test") if parts else ("",)):
        write_classes(tmp_path / "up" / around / part, {"ant": 4, "bee": 4}, seed=10 * k)
    data = load(tmp_path / "up", holdout=0.25)
    assert data.name == "up" and data.note == f"read is {around} in up"
    assert data.train.labels.bincount().tolist() == ([4, 4] if parts else [3, 3])
    assert data.test.labels.bincount().tolist() == ([4, 4] if parts else [1, 1])


def test_one_folder_with_parts_beside_others_is_entered(tmp_path):
    write_classes(tmp_path / "up" / "pets" / "train", {"ant": 4, "bee": 4})
    flat(tmp_path / "up" / "paper", 2)
    data = load(tmp_path / "up")
    assert data.classes == ("ant", "bee")
    assert data.note == "not used, beside the folder that is read: paper (2 images); read is pets in up"


def test_images_beside_the_classes_in_the_one_folder_that_has_any(tmp_path):
    write_classes(tmp_path / "up" / "pets", {"ant": 2, "bee": 2})
    (tmp_path / "up" / "pets" / "1.png").write_bytes(encoded(pixels(10, 10, 3)))
    refused(tmp_path / "up", "up has one class folder, pets; if the folders in it are the classes, give .*up/pets")
    assert load(tmp_path / "up" / "pets").classes == ("ant", "bee")
    for k, part in enumerate(("training_set", "test_set")):
        write_classes(tmp_path / "x" / part, {"ant": 2, "bee": 2}, seed=10 * k)
    (tmp_path / "x" / "training_set" / "1.png").write_bytes(encoded(pixels(10, 10, 3)))
    data = load(tmp_path / "x")
    assert data.classes == ("ant", "bee") and len(data.test) == 4 and "1 image was not read, beside" in data.note


LEFT = (
    "__MACOSX/ant/._0.png",
    "@eaDir/0.png",
    "$RECYCLE.BIN/x",
    "lost+found/x",
    ".ipynb_checkpoints/x.txt",
    "System Volume Information/x",
)


@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize("at", ["", "train", "train/ant"])
def test_what_systems_leave_is_no_class(tmp_path, left, at):
    for k, part in enumerate(("train", "test")):
        write_classes(tmp_path / part, {"ant": 2, "bee": 2}, seed=10 * k)
    (tmp_path / at / left).parent.mkdir(parents=True)
    (tmp_path / at / left).write_bytes(b"\0\x05\x16\7")
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (tmp_path / at / name).write_bytes(b"\xd0\xcf\x11\xe0")
    data = load(tmp_path)
    assert data.classes == ("ant", "bee") and data.train.labels.tolist() == [0, 0, 1, 1]
    hidden = "/".join(filter(None, (at, left)))
    assert data.note == (f"1 hidden image was not read: {hidden}" if left == "@eaDir/0.png" else "")


def test_empty_folders_beside_the_classes(tmp_path):
    write_classes(tmp_path, {"ant": 3, "bee": 3})
    for name in ("cow", "docs"):
        (tmp_path / name).mkdir()
    (tmp_path / "docs" / "read me.txt").write_text("nothing")
    data = load(tmp_path)
    assert data.classes == ("ant", "bee") and data.note == "2 folders have no images and so no class: cow, docs"


def test_a_class_in_a_form_that_is_not_read_is_refused(tmp_path):
    write_classes(tmp_path, {"ant": 3, "bee": 3})
    (tmp_path / "cow").mkdir()
    (tmp_path / "cow" / "all.zip").write_bytes(b"PK")
    refused(
        tmp_path,
        r"cow has no images that are read \(1 archive was not read, since archives are not unpacked: all\.zip\)",
    )


def test_links(tmp_path):
    write_classes(tmp_path / "far", {"ant": 3, "bee": 3})
    root = tmp_path / "root"
    root.mkdir()
    for name in ("ant", "bee"):
        (root / name).symlink_to(tmp_path / "far" / name)
    assert load(root, holdout=0).train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    (root / "cow").symlink_to(tmp_path / "far" / "cow")
    refused(root, "root/cow is a link to .*far/cow, which is not there")
    (root / "cow").unlink()
    (root / "wasp").symlink_to("bee")
    refused(root, "bee and .*wasp are the same folder under two names")
    (root / "wasp").unlink()
    write_classes(root, {"cow": 2})
    (root / "wasp").symlink_to(".")  # a circle
    refused(root, "wasp leads to a folder that holds the images of .*cow too")
    parts = tmp_path / "parts"
    write_classes(parts / "train", {"ant": 3, "bee": 3})
    (parts / "test").symlink_to("train")
    refused(parts, "test and .*train are the same folder")
    (parts / "test").unlink()
    write_classes(parts / "test", {"ant": 2})
    (parts / "test" / "bee").symlink_to("../train/bee")
    refused(parts, "train/bee and .*test/bee are the same folder under two names")


def test_a_class_that_only_one_part_has_images_of(tmp_path):
    write_classes(tmp_path / "train", {"ant": 2, "bee": 2})
    write_classes(tmp_path / "test", {"ant": 2})
    (tmp_path / "test" / "bee").mkdir()
    refused(tmp_path, "test/bee has no images")
    (tmp_path / "test" / "bee").rmdir()
    assert load(tmp_path).test.labels.tolist() == [0, 0]
    write_classes(tmp_path / "test", {"Bee": 1})
    refused(tmp_path, "test/Bee is a class without training images; did you mean 'bee'")
