"""Run directories, made and refused."""

import time

import pytest

from oche.core.errors import OcheError
from oche.runs.directory import RunDir


def make(path, state=None, **more):
    with RunDir.create(path, "seed: 0\n", "search", **more) as run:
        if state:
            run.set_state(state)


def refusal(call, *args, **more) -> str:
    with pytest.raises(OcheError) as caught:
        call(*args, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def hold(path, tell):
    with RunDir.open(path):
        tell.send("open")
        time.sleep(60)
