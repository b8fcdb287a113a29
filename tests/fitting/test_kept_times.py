"""Times that are kept between fits: found again for the same step alone, and never an obstacle."""

from __future__ import annotations

import json

import pytest

from oche.devices.engine import Engine
from oche.fitting import kept_times
from oche.fitting.kept_times import KeptTimes
from tiny_images import dataset


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(kept_times, "cache_folder", lambda: tmp_path)
    return tmp_path / "step-times"


def kept(threads=0, **options) -> KeptTimes:
    return KeptTimes(dataset(), Engine("cpu", threads), **options)


def test_a_kept_value_is_found_by_its_step_alone(folder):
    times = kept()
    times.keep(0.5, "train", "RESNET", 16)
    assert not times.used
    assert times.recall("train", "RESNET", 16) == 0.5 and times.used
    assert kept().recall("train", "RESNET", 24) is None
    assert kept(threads=3).recall("train", "RESNET", 16) is None
    assert kept(read=False).recall("train", "RESNET", 16) is None


def test_old_and_damaged_files_are_passed_over(folder, monkeypatch):
    kept().keep(0.5, "train")
    (file,) = folder.iterdir()
    whole = json.loads(file.read_text())
    monkeypatch.setattr(kept_times, "LIFE", -1.0)
    assert kept().recall("train") is None
    monkeypatch.setattr(kept_times, "LIFE", 60.0)
    assert kept().recall("train") == 0.5
    for text in ("{", "[]", json.dumps({**whole, "step": "another"})):
        file.write_text(text)
        assert kept().recall("train") is None
    kept().keep(0.25, "train")
    assert kept().recall("train") == 0.25


def test_a_disk_that_cannot_be_written_is_no_obstacle(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(kept_times, "cache_folder", lambda: tmp_path / "file")
    kept().keep(0.5, "train")
    assert kept().recall("train") is None
