"""A manifest of images: matching by id, copies, its form in a file, and the recognition of the same data."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oche.core.errors import OcheError
from oche.data.manifest import FIRST, SECOND, TEST, UNUSED, Manifest, is_same_data, match

ids = st.lists(st.integers(-3, 6), max_size=12)


def tensor(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


def manifest(**changes) -> Manifest:
    own = dict(
        ids=tensor([10, -20, 30, 40]), labels=tensor([0, 1, 1, 0]),
        parts=torch.tensor([FIRST, SECOND, TEST, UNUSED], dtype=torch.uint8), classes=("ant", "bee"), published=False,
        facts={"seed": 3, "split": 0.5, "note": "n", "mean": [0.1]},
    )  # fmt: skip
    return Manifest(**{**own, **changes})


@given(wanted=ids, found=ids)
def test_match_is_that_of_a_loop(wanted, found):
    left = {}
    for row, value in enumerate(found):
        left.setdefault(value, []).append(row)
    expected = [left[v].pop(0) if left.get(v) else -1 for v in wanted]
    assert match(tensor(wanted), tensor(found)).tolist() == expected


def test_what_is_written_is_read():
    tensors, metadata = manifest().to_tensors()
    assert {k: t.dtype for k, t in tensors.items()} == {
        "ids": torch.int64, "labels": torch.int16, "parts": torch.uint8,
    }  # fmt: skip
    read = Manifest.from_tensors(tensors, metadata, "file")
    assert read.ids.tolist() == [10, -20, 30, 40] and read.labels.tolist() == [0, 1, 1, 0]
    assert read.parts.tolist() == [FIRST, SECOND, TEST, UNUSED] and read.classes == ("ant", "bee")
    assert read.published is False and dict(read.facts) == dict(manifest().facts) and read.halves == (0.5, 3)


@pytest.mark.parametrize(
    "damage",
    [
        lambda t, m: t.pop("ids"),
        lambda t, m: t.update(labels=tensor([0, 1, 2, 0])),
        lambda t, m: t.update(labels=tensor([0, 1])),
        lambda t, m: t.update(parts=torch.tensor([0, 1, 2, 9], dtype=torch.uint8)),
        lambda t, m: t.update(ids=t["ids"].float()),
        lambda t, m: m.update(facts="{"),
        lambda t, m: m.update(facts="[]"),
        lambda t, m: m.clear(),
    ],
)
def test_anything_else_is_refused_on_one_line(damage):
    tensors, metadata = manifest().to_tensors()
    damage(tensors, metadata)
    with pytest.raises(OcheError, match=r"^runs/x/m is no manifest of images; restore it, or remove it"):
        Manifest.from_tensors(tensors, metadata, "runs/x/m")


def test_halves_are_written_over_the_training_images():
    made = manifest().divided(torch.tensor([False, True]), 0.25, 8)
    assert made.parts.tolist() == [SECOND, FIRST, TEST, UNUSED] and made.halves == (0.25, 8)
    assert made.members(FIRST, SECOND).tolist() == [0, 1] and made.members(UNUSED, TEST).tolist() == [2, 3]


@pytest.mark.parametrize(
    ("found", "same"),
    [
        ([10, -20, 30, 40], True),
        ([40, 30, -20, 10], True),
        ([10, 30], True),  # half of them are left
        ([10, 1, 2], False),
        ([10, -20, 30, 40, 1, 2, 3, 4], True),  # half of what is there
        ([10, -20, 30, 40, 1, 2, 3, 4, 5], False),
        ([], False),
    ],
)
def test_the_same_data_have_most_images_in_common(found, same):
    assert is_same_data(manifest(), tensor(found)) is same
