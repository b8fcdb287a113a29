"""Order, resumption and halves: what an epoch visits, and that it depends on (seed, epoch) alone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oche.core.errors import OcheError
from oche.data import Resident, batches, halves, steps_per_epoch


def numbered(n: int) -> Resident:
    """n images of 8x8 pixels, the number of each in its first two pixels, its label its number modulo 5."""
    x = torch.zeros(n, 1, 8, 8, dtype=torch.uint8)
    k = torch.arange(n)
    x[:, 0, 0, 0], x[:, 0, 0, 1] = (k // 256).to(torch.uint8), (k % 256).to(torch.uint8)
    return Resident(x, k % 5)


def numbers(x: torch.Tensor) -> list[int]:
    return (x[:, 0, 0, 0].int() * 256 + x[:, 0, 0, 1].int()).tolist()


def visited(split, batch, **options) -> list[list[int]]:
    out = []
    for x, y in batches(split, batch, **options):
        assert y.tolist() == [k % 5 for k in numbers(x)]
        out.append(numbers(x))
    return out


@given(n=st.integers(1, 400), batch=st.integers(1, 70), seed=st.integers(0, 5), epoch=st.integers(0, 5))
def test_an_epoch_visits_each_image_at_most_once(n, batch, seed, epoch):
    seen = visited(numbered(n), batch, seed=seed, epoch=epoch)
    flat = [k for piece in seen for k in piece]
    assert len(set(flat)) == len(flat) == (n // batch * batch if n >= batch else n)
    assert len(seen) == steps_per_epoch(n, batch)
    assert {len(piece) for piece in seen} == {min(n, batch)}
    whole = visited(numbered(n), batch, seed=seed, epoch=epoch, drop_last=False)
    assert (
        sorted(k for piece in whole for k in piece) == list(range(n))
        and whole[: len(seen) - (n < batch)] == seen[: len(seen) - (n < batch)]
    )


@given(start=st.integers(0, 14), seed=st.integers(0, 3))
def test_start_goes_on_where_an_epoch_was_left(start, seed):
    split = numbered(100)
    whole = visited(split, 9, seed=seed, epoch=2)
    assert len(whole) == 11
    assert visited(split, 9, seed=seed, epoch=2, start=start) == whole[start:]


def test_the_order_is_new_each_epoch_and_for_each_seed():
    split = numbered(100)
    orders = [visited(split, 100, seed=s, epoch=e)[0] for s in range(3) for e in range(3)]
    assert len({tuple(o) for o in orders}) == 9
    torch.manual_seed(123)  # and owes nothing to the global generator
    assert visited(split, 100, seed=0, epoch=0)[0] == orders[0]


def test_without_shuffling_the_order_is_the_splits_own():
    assert visited(numbered(7), 3, seed=4, epoch=9, shuffle=False, drop_last=False) == [[0, 1, 2], [3, 4, 5], [6]]


def test_every_position_is_equally_likely():
    """Image 0 comes in each of 4 batches about a quarter of 400 epochs; 5 deviations."""
    split = numbered(40)
    counts = [0] * 4
    for epoch in range(400):
        order = visited(split, 10, seed=1, epoch=epoch)
        counts[next(k for k, piece in enumerate(order) if 0 in piece)] += 1
    assert max(abs(c - 100) for c in counts) < 5 * (400 * 0.25 * 0.75) ** 0.5


@pytest.mark.parametrize(("batch", "start"), [(0, 0), (-3, 0), (4, -1)])
def test_impossible_batches(batch, start):
    with pytest.raises(OcheError, match=f"batch={batch}, start={start}"):
        list(batches(numbered(5), batch, seed=0, epoch=0, start=start))


@given(n=st.integers(2, 300), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 3))
def test_halves_are_disjoint_and_whole(n, fraction, seed):
    split = numbered(n)
    if not 0 < round(fraction * n) < n:
        with pytest.raises(OcheError, match="leaves one part empty"):
            halves(split, fraction, seed)
        return
    a, b = (numbers(part.gather(torch.arange(len(part)))[0]) for part in halves(split, fraction, seed))
    assert len(a) == round(fraction * n) and sorted(a + b) == list(range(n))
    again, _ = halves(split, fraction, seed)
    assert numbers(again.gather(torch.arange(len(again)))[0]) == a


def test_halves_differ_by_seed_and_keep_labels():
    split = numbered(60)
    parts = [halves(split, 0.5, seed)[0] for seed in range(3)]
    assert len({tuple(numbers(p.gather(torch.arange(30))[0])) for p in parts}) == 3
    for part in parts:
        x, y = part.gather(torch.arange(30))
        assert torch.equal(y, part.labels) and y.tolist() == [k % 5 for k in numbers(x)]


@given(
    n=st.integers(1, 120),
    share=st.integers(1, 9),
    world=st.integers(1, 4),
    start=st.integers(0, 5),
    drop_last=st.booleans(),
)
def test_the_shares_of_all_processes_are_the_batches_of_one(n, share, world, start, drop_last):
    options = dict(seed=3, epoch=1, start=start, drop_last=drop_last)
    whole = visited(numbered(n), share * world, **options)
    parts = [visited(numbered(n), share * world, rank=r, world=world, **options) for r in range(world)]
    for k, batch in enumerate(whole):
        got = [part[k] if k < len(part) else [] for part in parts]
        assert sorted(i for own in got for i in own) == sorted(batch)
        assert max(map(len, got)) - min(map(len, got)) <= (len(batch) < share * world)
    assert all(len(part) <= len(whole) for part in parts)


@pytest.mark.parametrize(("batch", "rank", "world"), [(7, 0, 2), (8, 2, 2), (8, -1, 2), (8, 0, 0)])
def test_shares_that_do_not_come_out_even(batch, rank, world):
    with pytest.raises(OcheError, match=f"batch={batch} cannot be shared by {world} processes"):
        list(batches(numbered(50), batch, seed=0, epoch=0, rank=rank, world=world))
