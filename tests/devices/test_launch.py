"""The environment of torchrun: read, refused, and processes that do not find each other."""

import socket
from dataclasses import replace
from datetime import timedelta

import pytest
import torch

import several_processes
from oche.cli.main import main
from oche.core.errors import OcheError
from oche.devices import launch
from oche.devices.launch import join_process_group, read_environment, reports_error
from oche.devices.process_group import SINGLE_PROCESS
from process_group_tasks import RECIPES, go

pytestmark = pytest.mark.slow  # processes that wait for each other

RECIPES["accumulated"] = replace(RECIPES["training"], accumulate=2, ema=0.9)
TORCHRUN = dict(
    RANK="1", WORLD_SIZE="2", LOCAL_RANK="1", LOCAL_WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT="1"
)


@pytest.fixture
def environment(monkeypatch):
    """Sets what torchrun sets, but for changes."""

    def set_to(**changes):
        for name, value in {**TORCHRUN, **changes}.items():
            monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)

    return set_to


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(MASTER_ADDR=None), "MASTER_ADDR is missing"),
        (dict(MASTER_PORT=None), "MASTER_PORT is missing"),
        (dict(LOCAL_RANK=None), "LOCAL_RANK is missing; start them with torchrun"),
        (dict(RANK="x"), "RANK is 'x'"),
        (dict(RANK="2"), "RANK=2 of WORLD_SIZE=2"),
    ],
)
def test_environments_that_contradict_themselves(environment, changes, words):
    environment(**changes)
    with pytest.raises(OcheError, match=words):
        read_environment()


def test_a_process_by_itself(environment, monkeypatch):
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    assert read_environment() == SINGLE_PROCESS == join_process_group()
    environment(WORLD_SIZE="1", RANK="0")
    assert read_environment() == SINGLE_PROCESS == join_process_group()
    assert not torch.distributed.is_initialized()


def test_ranks_that_do_not_find_each_other(environment, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # and does not listen
        environment(MASTER_PORT=str(port := free.getsockname()[1]))
        monkeypatch.setattr(launch, "JOIN_TIMEOUT", timedelta(seconds=1))
        with pytest.raises(OcheError, match=f"2 ranks have not found each other at 127.0.0.1:{port} within 1 s"):
            join_process_group()


def test_the_first_rank_of_a_machine_tells_what_goes_wrong_before_they_meet(environment, capsys):
    for local, told in (("0", True), ("1", False)):
        environment(LOCAL_RANK=local, RANK=local)
        assert main(["demo"]) == 2
        assert ("oche demo cannot run on several ranks" in capsys.readouterr().err) == told
        assert reports_error(OcheError("x")) == told
    said = OcheError("x")
    said.said = True
    assert not reports_error(said)


def test_a_directory_in_the_way_is_told_by_rank_0_alone(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "mine.txt").touch()
    ends = several_processes.crew(go, tmp_path / "ends", str(tmp_path / "x"))
    assert [end.code for end in ends] == [2, 2]
    assert ends[0].error.startswith("OcheError: ") and "is not a run and not empty" in ends[0].error
    assert ends[1].error.startswith("ReportedElsewhere: ")
