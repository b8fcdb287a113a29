"""Fixtures of the tests in this folder."""

import pytest

from data_files import write_classes


@pytest.fixture
def photos(tmp_path):
    for part, seed in (("train", 0), ("test", 5)):
        write_classes(tmp_path / part, {"ant": 6, "bee": 5}, seed=seed)
    return tmp_path
