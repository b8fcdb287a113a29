"""Fixtures of the tests in this folder."""

import pytest

from oche.cli import main as cli
from oche.core.errors import OcheError


@pytest.fixture
def oche_(capsys):
    """Types a command, as words or as one line; gives exit code, stdout, stderr."""

    def type_(*words):
        capsys.readouterr()
        try:
            code = cli.main([part for word in words for part in ([str(word)] if len(words) > 1 else word.split())])
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        return code, out, err

    return type_


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def told(monkeypatch):
    """What a command would run: the configuration and the words beside it."""
    found = []

    class Enough(OcheError):
        pass

    def work(config, **fields):
        found.append((config, fields))
        raise Enough("enough")

    monkeypatch.setattr("oche.cli.search.run_search", work)
    monkeypatch.setattr("oche.cli.train.run_train", work)
    return found
