"""Streams of random numbers are named, stable and independent."""

import itertools
import subprocess
import sys

import torch
from hypothesis import given
from hypothesis import strategies as st

from oche.core.seeds import batch_integers, batch_uniform, derive_seed, generator

parts = st.lists(st.one_of(st.integers(-100, 100), st.text(max_size=3)), max_size=3)


def test_values_never_change():
    """They decide what a seed means: other values would make old runs unrepeatable."""
    streams = [derive_seed(0), derive_seed(0, "weights"), derive_seed(1, "order", 3)]
    assert streams == [6148773199958884930, 5224212574424572176, 5654239806967976487]


def test_another_process_with_another_hash_seed_agrees():
    code = "from oche.core.seeds import derive_seed; print(derive_seed(3, 'noise', 'normal', 7))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "5"}
    )
    assert int(done.stdout) == derive_seed(3, "noise", "normal", 7)


@given(st.integers(0, 5), parts, st.integers(0, 5), parts)
def test_different_names_are_different_streams(seed, one, other_seed, other):
    same = seed == other_seed and one == other
    assert (derive_seed(seed, *one) == derive_seed(other_seed, *other)) == same
    assert 0 <= derive_seed(seed, *one) < 2**63


def test_types_and_lengths_count():
    names = [("a", "b"), ("ab",), ("a", 1), ("a", "1"), ("a1",), (1, "a"), (11,), (1, 1), ("",), ()]
    for one, other in itertools.combinations(names, 2):
        assert derive_seed(0, *one) != derive_seed(0, *other)


def test_generators_repeat_and_leave_the_global_one_alone():
    before = torch.get_rng_state()
    draw = lambda *name: torch.rand(4, generator=generator(1, *name))  # noqa: E731
    assert torch.equal(draw("noise", 1), draw("noise", 1)) and not torch.equal(draw("noise", 1), draw("noise", 2))
    assert torch.equal(torch.get_rng_state(), before)


# --- one draw for each image of a batch ---------------------------------------------------------------------------------

IMAGES = torch.empty(7, 3, 2, 2, dtype=torch.uint8)


def test_draws_are_the_generators_own():
    drawn = batch_integers(5, IMAGES, generator(3, "draws"))
    assert torch.equal(drawn, torch.randint(5, (7,), generator=generator(3, "draws"))) and drawn.dtype == torch.int64
    assert torch.equal(batch_uniform(IMAGES, generator(3, "draws")), torch.rand(7, generator=generator(3, "draws")))


def test_rows_are_as_many_draws_one_after_another():
    source = generator(3, "draws")
    assert torch.equal(
        batch_uniform(IMAGES, generator(3, "draws"), 4), torch.stack([batch_uniform(IMAGES, source) for _ in range(4)])
    )


def test_draws_without_a_generator_are_torchs_global_ones():
    torch.manual_seed(1)
    one = batch_integers(9, IMAGES, None), batch_uniform(IMAGES, None)
    torch.manual_seed(1)
    assert torch.equal(one[0], torch.randint(9, (7,))) and torch.equal(one[1], torch.rand(7))


def test_draws_go_to_the_device_of_the_images():
    assert batch_integers(2, IMAGES.to("meta"), generator(0, "draws")).device.type == "meta"
