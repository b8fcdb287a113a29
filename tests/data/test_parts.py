"""The parts of a data set: as drawn, as a run recorded them, and as a later run adopts them, while the data change."""

from __future__ import annotations

import pytest
import torch

from oche.core.errors import OcheError
from oche.data.batching import first_half, halves, training_halves
from oche.data.dataset import Dataset, Resident
from oche.data.drawing import Parts, draw
from oche.data.manifest import FIRST, SECOND, TEST, UNUSED
from oche.data.parts import adopt, recorded
from oche.data.readers.records import RawDataset
from oche.data.registry import Augment
from oche.data.splits import held_out, keep_copies_together


def raw(train: list[tuple[int, str]], test: list[tuple[int, str]] | None = None) -> RawDataset:
    """A data set of (number of the picture, class). The id of a picture is 1000 and its number."""
    classes = sorted({c for _, c in train})

    def split(items):
        images = torch.tensor([n for n, _ in items], dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
        made = Resident(images.contiguous(), torch.tensor([classes.index(c) for _, c in items]))
        made.ids = torch.tensor([1000 + n for n, _ in items])
        return made

    return RawDataset("mine", split(train), None if test is None else split(test), tuple(classes))


def numbers(split) -> list[int]:
    """The pictures of a split, in order, read from their pixels."""
    return split.gather(torch.arange(len(split)))[0][:, 0, 0, 0].tolist()


PICTURES = [(n, "ab"[n % 2]) for n in range(40)]
MORE = [(100 + n, "ab"[n % 2]) for n in range(10)]


def begun(limit=None, holdout=0.2, seed=0, split=0.5) -> Parts:
    parts = draw(raw(PICTURES), holdout, limit, seed)
    data = dataset(parts)
    made = parts.manifest.divided(first_half(data, split, seed), split, seed).with_facts(note="as it was")
    return Parts(parts.found, made)


def dataset(parts: Parts) -> Dataset:
    return Dataset(
        "mine", parts.found.train, parts.found.test, parts.found.classes, (0.5,), (0.5,), Augment(), "", parts.manifest,
        parts.first_half,
    )  # fmt: skip


# --- drawn ---------------------------------------------------------------------------------------------------------------


def test_a_new_run_draws_by_labels_as_before():
    parts = draw(raw(PICTURES), 0.2, None, 0)
    train, test = held_out(torch.tensor([n % 2 for n in range(40)]), 0.2)
    assert numbers(parts.found.train) == train.tolist() and numbers(parts.found.test) == test.tolist()
    codes = parts.manifest.parts
    assert (codes == TEST).nonzero().flatten().tolist() == test.tolist() and set(codes[train].tolist()) == {FIRST}


def test_images_left_out_by_a_limit_are_recorded_too():
    parts = draw(raw(PICTURES), 0.2, 10, 0)
    assert len(parts.found.train) == 10 and parts.manifest.members(UNUSED).shape == (22,)
    assert len(parts.manifest.ids) == 40 and parts.manifest.facts["limit"] == 10


@pytest.mark.parametrize("copies", [2, 5])
def test_copies_of_a_picture_land_in_one_part(copies):
    whole = raw([picture for picture in PICTURES for _ in range(copies)])
    parts = draw(whole, 0.2, None, 0)
    train, test = set(numbers(parts.found.train)), set(numbers(parts.found.test))
    assert not train & test and train | test == set(range(40)) and 3 <= len(test) <= 15
    first, second = halves(parts.found.train, 0.5, 0)
    assert not set(numbers(first)) & set(numbers(second))


def test_a_class_of_copies_alone_is_divided_all_the_same():
    parts = draw(raw([(7, "a")] * 10 + [(8, "b")] * 10), 0.2, None, 0)
    assert parts.found.test.labels.tolist() == [0, 0, 1, 1]
    assert "4 of the 4 test images are also training images" in parts.found.note


def test_copies_follow_the_first_one_and_no_class_is_lost():
    ids, labels = torch.tensor([5, 6, 5, 7, 8, 8]), torch.tensor([0, 0, 0, 0, 1, 1])
    chosen = torch.tensor([True, False, False, False, True, False])
    assert keep_copies_together(chosen, labels, ids).tolist() == [True, False, True, False, True, False]
    assert keep_copies_together(chosen, labels, None) is chosen


# --- a run that goes on --------------------------------------------------------------------------------------------------


def test_unchanged_data_give_the_same_parts_in_the_same_order():
    run = begun()
    parts = recorded(raw(PICTURES), run.manifest, "runs/x")
    assert numbers(parts.found.train) == numbers(run.found.train)
    assert numbers(parts.found.test) == numbers(run.found.test)
    assert parts.changes == "" and parts.found.note == "as it was"
    assert [numbers(p) for p in training_halves(dataset(parts), 0.5, 0)] == [
        numbers(p) for p in training_halves(dataset(run), 0.5, 0)
    ]


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (PICTURES[::-1], ""),  # renamed: another order
        (MORE + PICTURES, "10 new (in no part)"),
        (PICTURES[:20] + MORE[:1] + PICTURES[20:], "1 new (in no part)"),
        ([*PICTURES, (3, "b")], "1 new (in no part)"),  # a copy
        ([(n, "b" if n == 0 else c) for n, c in PICTURES], "1 in another class"),
    ],
)
def test_renamed_and_added_images_move_no_other(now, told):
    run = begun()
    parts = recorded(raw(now), run.manifest, "runs/x")
    assert numbers(parts.found.train) == numbers(run.found.train)
    assert numbers(parts.found.test) == numbers(run.found.test)
    assert parts.changes == (f"images of mine since runs/x began: {told}" if told else "")
    mine = [numbers(p) for p in training_halves(dataset(parts), 0.5, 0)]
    assert mine == [numbers(p) for p in training_halves(dataset(run), 0.5, 0)]


def test_gone_images_are_told_and_the_others_stay_where_they_were():
    run = begun()
    tested = numbers(run.found.test)
    gone = {tested[0], *numbers(run.found.train)[:3]}
    parts = recorded(raw([p for p in PICTURES if p[0] not in gone]), run.manifest, "runs/x")
    assert numbers(parts.found.test) == tested[1:] and numbers(parts.found.train) == numbers(run.found.train)[3:]
    assert parts.changes == "images of mine since runs/x began: 4 gone (1 of them test images)"
    before, after = ([set(numbers(p)) for p in training_halves(dataset(d), 0.5, 0)] for d in (run, parts))
    assert [half - gone for half in before] == after


def test_new_classes_do_not_shift_the_numbers_of_the_old_ones():
    run = begun()
    parts = recorded(raw([*PICTURES, (200, "Aa"), (201, "Aa")]), run.manifest, "runs/x")
    assert parts.found.classes == ("a", "b") and "2 new" in parts.changes
    assert parts.found.train.labels.tolist() == run.found.train.labels.tolist()


def test_a_limit_is_kept_by_content():
    run = begun(limit=10)
    parts = recorded(raw(MORE + PICTURES[::-1]), run.manifest, "runs/x")
    assert numbers(parts.found.train) == numbers(run.found.train) and len(parts.found.train) == 10


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (MORE, "mine holds 0 of the 40 images that runs/x was begun with, so it is other data"),
        (PICTURES[:15], "mine holds 15 of the 40 images"),
        (
            [(n, "bee" if c == "b" else c) for n, c in PICTURES],
            r"begun with the classes a, b, and 20 .* are in bee now",
        ),
    ],
)
def test_other_data_are_refused(now, words):
    with pytest.raises(OcheError, match=words):
        recorded(raw(now), begun().manifest, "runs/x")


def test_a_run_without_its_test_images_is_refused():
    run = begun()
    left = [p for p in PICTURES if p[0] not in numbers(run.found.test)]
    with pytest.raises(OcheError, match="none of the 8 test images of runs/x is left in mine"):
        recorded(raw(left), run.manifest, "runs/x")


# --- published parts -----------------------------------------------------------------------------------------------------


def published() -> Parts:
    return draw(raw(PICTURES[:30], PICTURES[30:]), 0.2, None, 0)


@pytest.mark.parametrize(
    ("train", "test", "words"),
    [
        (PICTURES[:31], PICTURES[31:], "1 test images of runs/x are in the training part of mine now"),
        (PICTURES[1:30], PICTURES[30:] + PICTURES[:1], "1 training images of runs/x are in the test part of mine now"),
    ],
)
def test_images_that_went_from_one_published_part_to_the_other_are_refused(train, test, words):
    with pytest.raises(OcheError, match=words):
        recorded(raw(train, test), published().manifest, "runs/x")


def test_published_parts_may_grow_and_be_merged():
    run = published()
    grown = recorded(raw(MORE[:4] + PICTURES[:30], PICTURES[30:] + MORE[4:]), run.manifest, "runs/x")
    merged = recorded(raw(PICTURES), run.manifest, "runs/x")
    for parts in (grown, merged):
        assert numbers(parts.found.train) == list(range(30)) and numbers(parts.found.test) == list(range(30, 40))


def test_test_images_that_were_training_images_from_the_start_are_told_once():
    parts = draw(raw(PICTURES[:30], PICTURES[25:]), 0.2, None, 0)
    assert parts.found.note == "5 of the 15 test images are also training images"
    again = recorded(raw(PICTURES[:30], PICTURES[25:]), parts.manifest, "runs/x")
    assert numbers(again.found.test) == list(range(25, 40)) and again.changes == ""
    later = adopt(raw(PICTURES[:30], PICTURES[25:]), parts.manifest, 0.2, None, 0, "runs/x")
    assert numbers(later.found.test) == list(range(25, 40))


# --- a later run ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [None, 12])
def test_a_later_run_on_unchanged_data_has_the_parts_of_a_new_one(limit):
    run, own = begun(), draw(raw(PICTURES), 0.2, limit, 5)
    later = adopt(raw(PICTURES), run.manifest, 0.2, limit, 5, "runs/x")
    assert numbers(later.found.train) == numbers(own.found.train) and later.changes == ""
    assert numbers(later.found.test) == numbers(own.found.test)
    assert later.manifest.parts.tolist() == own.manifest.parts.tolist()


def test_new_images_train_and_the_tested_ones_stay():
    run = begun()
    now = MORE + PICTURES[::-1] + [(numbers(run.found.test)[0], "a")]
    later = adopt(raw(now), run.manifest, 0.2, None, 0, "runs/x")
    tested = numbers(run.found.test)
    assert numbers(later.found.test) == tested
    assert numbers(later.found.train) == numbers(run.found.train) + [n for n, _ in MORE]
    assert later.changes.endswith("10 new (in training), 1 new copies of test images (left out)")
    codes = later.manifest.parts.tolist()
    assert codes.count(TEST) == 8 and codes.count(UNUSED) == 1


def test_the_halves_of_the_search_stay_and_new_images_join_the_first():
    run = begun()
    later = adopt(raw(MORE + PICTURES), run.manifest, 0.2, None, 0, "runs/x")
    before, after = ([numbers(p) for p in training_halves(dataset(d), 0.5, 0)] for d in (run, later))
    assert after[1] == before[1] and sorted(after[0]) == sorted(before[0] + [n for n, _ in MORE])
    assert later.manifest.members(SECOND).shape == (16,)


def test_another_seed_or_limit_draws_its_own_halves():
    run = begun()
    assert adopt(raw(PICTURES), run.manifest, 0.2, None, 1, "runs/x").first_half is None
    assert adopt(raw(PICTURES), run.manifest, 0.2, 20, 0, "runs/x").first_half is None


@pytest.mark.parametrize(
    ("holdout", "was", "words"),
    [
        (0.3, 0.2, "holdout=0.3 would test on images that runs/x has seen, which held out 0.2"),
        (0.1, 0.2, "holdout=0.1 would test on"),
        (0.2, 0.0, "holdout=0.2 would test on images that runs/x has seen, which held out 0"),
    ],
)
def test_another_holdout_would_test_on_what_the_search_saw(holdout, was, words):
    run = draw(raw(PICTURES), was, None, 0)
    with pytest.raises(OcheError, match=words):
        adopt(raw(PICTURES), run.manifest, holdout, None, 0, "runs/x")


def test_without_a_test_part_all_may_train():
    later = adopt(raw(PICTURES), begun().manifest, 0.0, None, 0, "runs/x")
    assert later.found.test is None and len(later.found.train) == 40


def test_a_published_test_part_with_images_that_the_search_saw_is_refused():
    run = begun()
    seen = numbers(run.found.train)[:2]
    train = [p for p in PICTURES if p[0] not in seen]
    with pytest.raises(
        OcheError, match="2 of the 12 test images of mine are images that runs/x has seen in its training"
    ):
        adopt(raw(train, [p for p in PICTURES if p[0] in seen] + MORE), run.manifest, 0.2, None, 0, "runs/x")
    fresh = adopt(raw(PICTURES, MORE), run.manifest, 0.2, None, 0, "runs/x")
    assert numbers(fresh.found.test) == [n for n, _ in MORE] and len(fresh.found.train) == 40


def test_other_data_test_nothing_that_the_search_saw():
    run = begun()
    seen = numbers(run.found.train)
    now = [(n, c) for n, c in PICTURES if n in seen[:10]] + [(100 + n, "ab"[n % 2]) for n in range(40)]
    later = adopt(raw(now), run.manifest, 0.4, None, 0, "runs/x")
    tested = numbers(later.found.test)
    assert (
        tested and not set(tested) & set(seen) and len(tested) < len(numbers(draw(raw(now), 0.4, None, 0).found.test))
    )
    assert sorted(numbers(later.found.train) + tested) == sorted(n for n, _ in now)
    with pytest.raises(OcheError, match="has seen so many images of mine that none is left to test on"):
        adopt(raw([(n, c) for n, c in PICTURES if n in seen[:12]]), run.manifest, 0.2, None, 0, "runs/x")


def test_a_run_can_be_adopted_from_one_that_adopted():
    first = adopt(raw(MORE[:4] + PICTURES), begun().manifest, 0.2, 12, 3, "runs/x")
    second = adopt(raw(PICTURES + MORE), first.manifest, 0.2, 12, 3, "runs/x/train")
    assert numbers(second.found.test) == numbers(first.found.test)
    again = recorded(raw(MORE + PICTURES), second.manifest, "runs/x/train-2")
    assert numbers(again.found.train) == numbers(second.found.train)
