"""How many processes fit: slots, and memory as it turns out to be needed; what the system tells of memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from oche.core import memory
from oche.study.processes import resources
from oche.study.processes.resources import ResourcePool, core_slots, gpu_slots, usable_cores

MB = 2**20


@pytest.fixture
def machine(monkeypatch):
    """A machine with 1,000 MB free, on which process 1 has needed 300 MB at most and holds 250 now."""
    known = {1: (300 * MB, 250 * MB)}
    monkeypatch.setattr(resources, "process_memory", known.get)
    monkeypatch.setattr(resources, "free_memory", lambda: 1000 * MB)
    return known


def test_slots_are_taken_and_given_back():
    a, b = {"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}
    place = ResourcePool([a, b, a])
    assert place.free_slot([], {}) == a
    assert place.free_slot([a], {1: 0.0}) == b
    assert place.free_slot([a, b], {}) == a
    assert place.free_slot([a, a, b], {}) is None
    with pytest.raises(ValueError, match="no slots"):
        ResourcePool([])


def test_the_first_process_is_alone_until_it_has_shown_what_it_needs(machine):
    place, first = ResourcePool([{}] * 4, measured=True), 1
    assert place.free_slot([], {}) == {}
    assert place.free_slot([{}], {first: 0.0}) is None
    assert place.free_slot([{}], {first: 0.1}) == {} and place.need == 300 * MB


def test_what_those_under_way_may_still_take_is_left_to_them(machine):
    place = ResourcePool([{}] * 9, measured=True, need=300 * MB)
    machine.update({2: (10 * MB, 10 * MB), 3: (10 * MB, 10 * MB)})
    one, two = 1, 2
    # 1,000 free; process 1 may take 50 more, process 2 290 more: 660 are left, and 300 are asked for
    assert place.free_slot([{}, {}], {one: 0.5, two: 0.0}) == {}
    # process 3 may take 290 more as well: 370 are left; with a fourth like it, 80
    assert place.free_slot([{}] * 3, {one: 0.5, two: 0.0, 3: 0.0}) == {}
    machine[4] = (10 * MB, 10 * MB)
    assert place.free_slot([{}] * 4, {one: 0.5, two: 0.0, 3: 0.0, 4: 0.0}) is None


def test_the_largest_counts_and_without_measuring_none_does(machine):
    machine[2] = (900 * MB, 900 * MB)
    both = {1: 0.5, 2: 0.5}
    assert ResourcePool([{}] * 3, measured=True).free_slot([{}, {}], both) is None
    assert ResourcePool([{}] * 3).free_slot([{}, {}], both) == {}


@pytest.mark.parametrize("lacking", ["process_memory", "free_memory"])
def test_where_the_system_does_not_tell_the_slots_alone_count(machine, monkeypatch, lacking):
    monkeypatch.setattr(resources, lacking, lambda *args: None)
    assert ResourcePool([{}] * 2, measured=True).free_slot([{}], {1: 0.0}) == {}


def test_slots_of_a_machine(monkeypatch):
    assert core_slots(1) == [{}] * usable_cores() and core_slots(10**6) == [{}] and core_slots(4, 3) == [{}] * 3
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [s["CUDA_VISIBLE_DEVICES"] for s in gpu_slots(0.5)] == ["0", "1", "0", "1"]
    assert [s["CUDA_VISIBLE_DEVICES"] for s in gpu_slots(1 / 3, jobs=3)] == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-ab")
    assert [s["CUDA_VISIBLE_DEVICES"] for s in gpu_slots(1)] == ["5", "GPU-ab"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the memory in use")
def test_the_system_tells_what_processes_hold_and_what_is_left():
    most, now = memory.process_memory(os.getpid())
    assert 0 < now <= most
    assert 0 < memory.free_memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert memory.process_memory(process.pid) is None
