"""Streams of random numbers are named, stable and independent."""

import itertools
import subprocess
import sys

import torch
from hypothesis import given
from hypothesis import strategies as st

from oche.core.seeds import fold, generator

parts = st.lists(st.one_of(st.integers(-100, 100), st.text(max_size=3)), max_size=3)


def test_values_never_change():
    """They decide what a seed means: other values would make old runs unrepeatable."""
    streams = [fold(0), fold(0, "weights"), fold(1, "order", 3)]
    assert streams == [6148773199958884930, 5224212574424572176, 5654239806967976487]


def test_another_process_with_another_hash_seed_agrees():
    code = "from oche.core.seeds import fold; print(fold(3, 'noise', 'normal', 7))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "5"}
    )
    assert int(done.stdout) == fold(3, "noise", "normal", 7)


@given(st.integers(0, 5), parts, st.integers(0, 5), parts)
def test_different_names_are_different_streams(seed, one, other_seed, other):
    same = seed == other_seed and one == other
    assert (fold(seed, *one) == fold(other_seed, *other)) == same
    assert 0 <= fold(seed, *one) < 2**63


def test_types_and_lengths_count():
    names = [("a", "b"), ("ab",), ("a", 1), ("a", "1"), ("a1",), (1, "a"), (11,), (1, 1), ("",), ()]
    for one, other in itertools.combinations(names, 2):
        assert fold(0, *one) != fold(0, *other)


def test_generators_repeat_and_leave_the_global_one_alone():
    before = torch.get_rng_state()
    draw = lambda *name: torch.rand(4, generator=generator(1, *name))  # noqa: E731
    assert torch.equal(draw("noise", 1), draw("noise", 1)) and not torch.equal(draw("noise", 1), draw("noise", 2))
    assert torch.equal(torch.get_rng_state(), before)
