"""Names of data, and what stands for them."""

from pathlib import Path

import pytest

from oche.cli.lookup import TABLES
from oche.core.errors import OcheError
from oche.data import DATASETS, FORMS, load
from oche.data.registry import TEXT_FORMS, TEXTS


def test_unknown_words_name_the_nearest_and_what_is_possible(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OcheError, match=r"no data called 'cifar-10'.*did you mean 'cifar10'") as error:
        load("cifar-10")
    assert all(word in str(error.value) for word in (*DATASETS, *FORMS))
    with pytest.raises(OcheError, match=r"no such file or folder as 'here/x\.npz'"):
        load("here/x.npz")
    Path("x.tar").write_bytes(b"")
    with pytest.raises(OcheError, match=r"x\.tar, a file of an unknown kind; unpack it"):
        load("x.tar")


def test_a_word_wins_over_a_folder_of_its_name(photos, monkeypatch):
    monkeypatch.chdir(photos)
    (photos / "train").rename(photos / "digits")
    assert len(load("digits").classes) == 10 and load("./digits").classes == ("ant", "bee")


def test_the_list_of_data_has_names_and_forms():
    assert [row[0] for row in TABLES["data"]()[1]] == [*DATASETS, *TEXTS, *FORMS, *TEXT_FORMS]
