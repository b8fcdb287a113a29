"""The named sets through `load`, from small archives in the published layout, put in --data-dir by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from data_files import (
    CIFAR10,
    FINE,
    cifar10_members,
    cifar100_members,
    idx_bytes,
    pixels,
    write_mnist,
    write_svhn,
    write_tar,
)
from oche.core.errors import OcheError
from oche.data import DATASETS, load
from oche.data.readers import named
from oche.data.readers.named import NAMED


def everything(split):
    return split.gather(torch.arange(len(split)))


def test_every_listed_set_has_a_reader():
    assert set(NAMED) | {"digits"} == set(DATASETS)


def test_digits_are_scikit_learns():
    data = load("digits", holdout=0)
    x, y = everything(data.train)
    source = load_digits()
    assert data.test is None and x.shape == (1797, 1, 8, 8) and x.dtype == torch.uint8
    assert np.array_equal(y.numpy(), source.target)
    assert np.abs(x[:, 0].numpy() / 255 - source.images / 16).max() <= 0.5 / 255
    assert x.max() == 255


@pytest.mark.parametrize("package", [None, SimpleNamespace(origin="/nowhere/__init__.py")])
def test_digits_are_the_same_where_the_file_of_scikit_learn_is_elsewhere(monkeypatch, package):
    table = named._digits_table()
    monkeypatch.setattr(named, "find_spec", lambda name: package)
    again = named._digits_table.__wrapped__()
    assert table.shape == (1797, 65) and np.array_equal(again, table)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("below", ["", "own", "torchvision"])
def test_mnist(tmp_path, name, packed, below):
    inner = {"": "", "own": name, "torchvision": {"mnist": "MNIST/raw", "fashion-mnist": "FashionMNIST/raw"}[name]}
    made = write_mnist(tmp_path / inner[below], packed)
    data = load(name, data_dir=tmp_path)
    for split, part in ((data.train, "train"), (data.test, "t10k")):
        x, y = everything(split)
        assert np.array_equal(x[:, 0].numpy(), made[f"{part}-images-idx3-ubyte"])
        assert np.array_equal(y.numpy(), made[f"{part}-labels-idx1-ubyte"])
    assert data.channels == 1 and data.image == (28, 28) and len(data.classes) == 10
    assert data.classes[8] == {"mnist": "8", "fashion-mnist": "Bag"}[name]
    assert data.augment.flip == (name == "fashion-mnist")
    # archives that are not the published ones are used, and said to be others
    assert ("differs from the published file" in data.note) == packed


@pytest.mark.parametrize("packed", [True, False])
def test_cifar10(tmp_path, packed):
    files, images, labels = cifar10_members()
    if packed:
        write_tar(tmp_path / "cifar-10-binary.tar.gz", "cifar-10-batches-bin", files)
    else:
        (tmp_path / "cifar-10-batches-bin").mkdir()
        for name, content in files.items():
            (tmp_path / "cifar-10-batches-bin" / name).write_bytes(content)
    data = load("cifar10", data_dir=str(tmp_path))
    x, y = everything(data.train)
    assert np.array_equal(x.numpy(), images) and np.array_equal(y.numpy(), labels)
    assert data.classes == CIFAR10 and data.test.labels.tolist() == [9, 0, 5]
    if not packed:  # the unpacked folder itself will do
        again = load("cifar10", data_dir=tmp_path / "cifar-10-batches-bin")
        assert torch.equal(everything(again.train)[0], x) and again.note == ""


def test_cifar100_has_fine_labels(tmp_path):
    files, images, fine = cifar100_members()
    write_tar(tmp_path / "cifar-100-binary.tar.gz", "cifar-100-binary", files)
    data = load("cifar100", data_dir=tmp_path)
    x, y = everything(data.train)
    assert np.array_equal(x.numpy(), images) and np.array_equal(y.numpy(), fine)
    assert data.classes == FINE and data.test.labels.tolist() == [7, 2]


def test_svhn(tmp_path):
    x, y = pixels(32, 32, 3, 20), np.arange(20) % 10 + 1
    write_svhn(tmp_path / "train_32x32.mat", x, y)
    write_svhn(tmp_path / "test_32x32.mat", pixels(32, 32, 3, 2), np.array([10, 3]))
    data = load("svhn", data_dir=tmp_path)
    images, labels = everything(data.train)
    assert np.array_equal(images.numpy(), x.transpose(3, 2, 0, 1)) and labels.tolist() == [*range(1, 10), 0] * 2
    assert data.test.labels.tolist() == [0, 3] and not data.augment.flip


def test_wrong_contents_name_the_file(tmp_path):
    def broken(name: str, array: np.ndarray, says: str) -> None:
        write_mnist(tmp_path, packed=False)
        (tmp_path / name).write_bytes(idx_bytes(array))
        with pytest.raises(OcheError, match=says):
            load("mnist", data_dir=tmp_path)

    broken("train-labels-idx1-ubyte", np.arange(19) % 10, "train-labels-idx1-ubyte has 19 labels for 20 images")
    broken("t10k-labels-idx1-ubyte", np.full(10, 10), "t10k-labels-idx1-ubyte: label 0 has label 10")
    broken("train-labels-idx1-ubyte", np.arange(20) % 9, "class '9' has no training image .*train-labels")
    broken("t10k-images-idx3-ubyte", pixels(10, 27, 28), r"t10k-labels.* \(1, 27, 28\)")


def test_data_dir_without_the_archive_says_what_to_put_there(tmp_path):
    with pytest.raises(OcheError) as error:
        load("cifar10", data_dir=tmp_path)
    for word in (str(tmp_path), "cifar-10-binary.tar.gz", "cifar-10-batches-bin", "https://www.cs.toronto.edu/~kriz/"):
        assert word in str(error.value)
