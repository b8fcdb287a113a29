"""Fixtures of the tests in this folder."""

from multiprocessing import get_context

import pytest

from run_directories import hold, make

fork = get_context("fork")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs" / "x"


@pytest.fixture
def holder(path):
    """Another process that has the run open."""
    make(path)
    hear, tell = fork.Pipe(duplex=False)
    process = fork.Process(target=hold, args=(path, tell), daemon=True)
    process.start()
    assert hear.poll(20) and hear.recv() == "open"
    yield process
    process.kill()
    process.join(20)
