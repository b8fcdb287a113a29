"""The forms of Python data: pairs, map-style data sets, loaders, tables of Hugging Face; and what is none of them."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    RandomSampler,
    Sampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from oche.core.errors import OcheError
from oche.data import load
from oche.data.readers.python_forms import SplitItems, hides_labels, is_table, read_part
from python_data import Items, Stream, Value, Vision, arrays, one_hot, pictures, table

X, Y = arrays()
T, L = torch.from_numpy(X), torch.from_numpy(Y)
PAIRS = Items(*zip(X, Y, strict=True))


def read(data, size=None, layout=None):
    return read_part(data, "data", 10**9, size=size, layout=layout)


def hwc(part):
    """The images of a part with channels last."""
    return part.images.transpose(0, 2, 3, 1) if part.images.shape[1] == 3 else part.images


# --- what is taken


@pytest.mark.parametrize(
    "data",
    [
        (X, Y), [X, Y], (T, L), (T.permute(0, 3, 1, 2), L), (X, Y.tolist()), (X, pd.Series(Y)), (X, Y[:, None]), (X, one_hot(Y)),
        (X, np.eye(4, dtype=bool)[Y]), (T, L.float()), (T.requires_grad_(False), L.to(torch.bfloat16)), (list(X), list(Y)),
        (tuple(T), L), TensorDataset(T, L), TensorDataset(T.permute(0, 3, 1, 2), L), PAIRS, list(zip(X, Y, strict=True)),
        ConcatDataset([Subset(PAIRS, range(10)), Subset(PAIRS, range(10, 24))]), DataLoader(PAIRS, 5, shuffle=True),
        DataLoader(TensorDataset(T, L), batch_size=None), DataLoader(PAIRS, sampler=SubsetRandomSampler(range(24))),
        DataLoader(PAIRS, sampler=WeightedRandomSampler([1.0] * 24, 24)),
    ],
)  # fmt: skip
def test_every_form_gives_the_same_images_and_labels(data):
    part = read(data)
    assert (hwc(part) == X).all() and part.labels.tolist() == Y.tolist() and part.classes is None


def test_text_and_numbers_from_one():
    names = np.array(["c", "a", "b", "d"])[Y]
    for labels in (names, names.tolist(), pd.Series(names), names.astype(object)):
        assert read((X, labels)).labels.tolist() == names.tolist()
    assert read((X, Y + 1)).labels.tolist() == (Y + 1).tolist()


def test_the_type_and_the_axes_of_a_pair_are_left_to_the_reader():
    part = read((X.astype(np.float32) / 255, Y), layout="NHWC")
    assert part.images.dtype == np.float32 and part.layout == "NHWC" and read((X, Y)).layout is None
    assert read(PAIRS).layout == "NHWC"


def test_class_names_of_torchvision_pass_through_subsets_and_joined_sets():
    vision = Vision(*zip(X, Y, strict=True))
    for data in (vision, Subset(vision, range(9)), ConcatDataset([vision, Subset(vision, [1])]), DataLoader(vision)):
        assert read(data).classes == ("ant", "bee", "cat", "dog")
    other = Vision(*zip(X, Y, strict=True))
    other.classes = ("u", "v", "w", "x")
    assert read(ConcatDataset([vision, other])).classes is None
    other.classes = 4
    assert read(other).classes is None


def test_a_loader_says_what_is_used_of_it():
    assert read(DataLoader(PAIRS)).notes == ("of the DataLoader its dataset is used; batches and order are oche's own",)
    part = read(DataLoader(PAIRS, sampler=SubsetRandomSampler([5, 3, 4])))
    assert part.labels.tolist() == Y[3:6].tolist() and part.notes[0].endswith("its sampler chose 3 items")


def test_data_that_oche_loaded_are_taken_again():
    digits = load("digits", limit=30)
    part = read(SplitItems(digits.train, digits.classes))
    images, labels = digits.train.gather(torch.arange(30))
    assert (part.images == images.permute(0, 2, 3, 1).numpy()).all() and part.labels.tolist() == labels.tolist()
    assert part.classes == digits.classes


# --- tables of Hugging Face


def test_a_table_is_read_by_the_types_of_its_columns():
    part = read(table())
    assert part.classes == ("ant", "bee") and part.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert (part.images == [np.asarray(p) for p, _ in pictures(*[(9, 9)] * 6)]).all()
    renamed = table(transform=lambda row: {"pixel_values": np.asarray(row["photo"]), "label": row["kind"]})
    assert (read(renamed).images == part.images).all() and is_table(renamed) and not is_table(PAIRS)
    untyped = table(image="img", label="fine_label", img=Value(), fine_label=Value())
    assert read(untyped).classes is None and (read(untyped).images == part.images).all()


def test_a_table_without_images_or_labels():
    with pytest.raises(
        OcheError, match=r"data has columns id \(Value\), photo \(Value\), kind \(ClassLabel\) and none of type Im"
    ):
        read(table(photo=Value()))
    with pytest.raises(OcheError, match="none of type ClassLabel; name one label"):
        read(table(kind=Value()))


def test_labels_that_are_hidden():
    assert hides_labels(table(labels=[-1] * 6)) and not hides_labels(table()) and not hides_labels(PAIRS)


# --- what is refused


def own_sampler():
    class Half(Sampler):
        def __iter__(self):
            return iter(range(0, 24, 2))

        def __len__(self):
            return 12

    return Half()


class Grouped(BatchSampler):
    pass


class NoLength:
    def __getitem__(self, i):
        return X[0], 0


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "data may be a name or path, .*; found None"),
        (3.5, "found float 3.5"),
        (b"cifar10", "found bytes b'cifar10'"),
        (object(), "found an object of class object"),
        (iter(PAIRS), "found an object of class iterator"),
        (zip(X, Y, strict=True), "found an object of class zip"),
        ({1, 2}, "found set of 2"),
        (Items, "found the class Items"),
        (lambda: PAIRS, "found the function <lambda>"),
        (range(5), "found an object of class range"),
        ((X, Y, X, Y), r"found tuple of 4 \(ndarray\)"),
        ((X,), r"found tuple of 1"),
        ((), r"found tuple of 0"),
        ([], "data has no items"),
        ([1, 2], r"data\[0\] is int 1; give \(image, label\)"),
        (X, r"data is ndarray of shape \(24, 12, 12, 3\) and type uint8 without labels; hand over a pair"),
        (T, "data is Tensor of shape .* without labels"),
        (pd.DataFrame({"a": [1]}), "data is an object of class DataFrame without labels"),
        ((X.reshape(24, -1), Y), r"data has images of shape \(24, 432\); give \(N, H, W\)"),
        ((X, Y[:9]), "data has 24 images and 9 labels"),
        ((X[:0], Y[:0]), "data has no images; give some"),
        (([], []), "data has no images"),
        ((list(X), list(Y[:9])), "data has 24 images and 9 labels"),
        ((X, 1), "the labels of data are int 1"),
        ((X, "cat"), "the labels of data are text 'cat'"),
        ((X, np.int64(3)), "the labels of data are int64 3"),
        ((X, np.array(3)), "the labels of data are a single value"),
        ((X, None), "the labels of data are None"),
        ((X, np.full((24, 4), 0.25)), r"data\[0\] has a row of 4 numbers as its label, 4 of them not 0"),
        ((X, np.zeros((24, 2, 2))), r"data\[0\] has ndarray of shape \(2, 2\) .* as its label"),
        ((X, Y + 0.5), r"data\[0\] has the label 0.5, which is no class"),
        ((X.astype(object), Y), "the array of images of data is ndarray of shape"),
        ((X.astype(complex), Y), "type complex128; give"),
        (Stream(), "an object of class Stream can only be read from its start to its end; hand over a map-style Dataset"),
        (DataLoader(Stream()), "the DataLoader is over an IterableDataset"),
        (DataLoader(PAIRS, sampler=own_sampler()), "the DataLoader has a sampler of its own, Half, which may leave images out"),
        (DataLoader(PAIRS, batch_sampler=Grouped(RandomSampler(PAIRS), 2, False)), "a sampler of its own, Grouped"),
        (TensorDataset(T), r"data\[0\] is tuple of 1 \(Tensor\); give \(image, label\)"),
        (TensorDataset(T, L, L), r"data\[0\] is tuple of 3"),
        (NoLength(), "an object of class NoLength has items by number and no length; give it __len__"),
    ],
)  # fmt: skip
def test_anything_else_is_one_line(data, words):
    with pytest.raises(OcheError, match=words) as caught:
        read(data)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
