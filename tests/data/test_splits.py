"""The held-out test part and the limited training part: by class, disjoint, and the same every time."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oche.core.errors import OcheError
from oche.data.splits import balanced_subset, held_out

labellings = st.lists(st.integers(0, 4), min_size=1, max_size=120).map(lambda v: torch.tensor(v))


@given(labels=labellings, share=st.floats(0.01, 0.99))
def test_held_out_takes_its_share_of_each_class(labels, share):
    counts = labels.bincount()
    if counts.max() < 2:
        with pytest.raises(OcheError, match="one image in each class"):
            held_out(labels, share)
        return
    train, test = held_out(labels, share)
    assert torch.cat([train, test]).sort().values.tolist() == list(range(len(labels)))
    assert train.tolist() == sorted(train.tolist()) and test.tolist() == sorted(test.tolist())
    for c, n in enumerate(counts.tolist()):
        k = int((labels[test] == c).sum())
        assert k == (0 if n < 2 else min(max(1, round(share * n)), n - 1))
    assert torch.equal(held_out(labels, share)[1], test)


def test_held_out_is_not_simply_the_first_or_last_of_a_class():
    labels = torch.arange(200) % 2
    _, test = held_out(labels, 0.2)
    places = test // 2
    assert places.min() < 20 and places.max() > 80 and len(test) == 40


@pytest.mark.parametrize("share", [-0.1, 1.0, 2])
def test_no_share(share):
    with pytest.raises(OcheError, match=f"holdout={share}"):
        held_out(torch.tensor([0, 1, 0, 1]), share)


@given(labels=labellings, limit=st.integers(1, 130), seed=st.integers(0, 3))
def test_evenly_levels_the_classes(labels, limit, seed):
    counts = labels.bincount()
    present = counts[counts > 0].tolist()
    if limit < len(present) and limit < len(labels):
        with pytest.raises(OcheError, match=f"limit={limit}"):
            balanced_subset(labels, limit, seed)
        return
    chosen = balanced_subset(labels, limit, seed)
    assert chosen.tolist() == sorted(set(chosen.tolist())) and len(chosen) == min(limit, len(labels))
    taken = [int((labels[chosen] == c).sum()) for c in counts.nonzero().flatten().tolist()]
    # No class could give more to one that has two fewer, unless that one is used up: this defines the even choice.
    for t, n in zip(taken, present, strict=True):
        assert t >= max(taken) - 1 or t == n
    assert torch.equal(balanced_subset(labels, limit, seed), chosen)


def test_evenly_depends_on_the_seed():
    labels = torch.arange(300) % 3
    assert len({tuple(balanced_subset(labels, 60, seed).tolist()) for seed in range(4)}) == 4
