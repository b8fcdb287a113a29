"""The share of the commonest class of the parts of a data set, and the classes that they lack."""

from dataclasses import replace

import pytest
import torch

from oche.core.console import Log, SilentLog
from oche.data import Resident
from oche.runs.chance import majority_shares
from tiny_images import dataset


def part(labels):
    return Resident(torch.zeros(len(labels), 1, 8, 8, dtype=torch.uint8), torch.tensor(labels))


@pytest.fixture
def data():
    return dataset(classes=4)


def test_shares_of_each_part_and_one_line_for_what_is_lacking(data, capsys):
    parts = {"validation": part([0, 1, 1, 2, 3]), "test": part([2, 2, 2, 0]), "none": None}
    assert majority_shares(data, parts, Log(quiet=True)) == {"validation": 0.4, "test": 0.75}
    said = capsys.readouterr()
    assert said.out == "" and said.err == (
        "the test images of stripes lack 2 of 4 classes (stripe 1, stripe 3): accuracy says nothing about them, and balanced "
        "accuracy is over the others\n"
    )


def test_nothing_is_said_where_every_class_has_an_image(data, capsys):
    assert majority_shares(data, {"test": data.test}, Log()) == {"test": 0.25}
    assert capsys.readouterr() == ("", "")


def test_other_ranks_say_nothing(data, capsys):
    majority_shares(data, {"test": part([1])}, SilentLog())
    assert capsys.readouterr() == ("", "")


def test_many_lacking_classes_are_cut_short(capsys):
    data = replace(dataset(), classes=tuple(f"c{k}" for k in range(9)))
    assert majority_shares(data, {"test": part([8, 8])}, Log()) == {"test": 1.0}
    assert "lack 8 of 9 classes (c0, c1, c2, c3, c4, …)" in capsys.readouterr().err
