"""The batches of a search on images: halves, crops, epochs, and where they were left."""

import pytest
import torch

from oche.data import Augment
from oche.devices.engine import Engine
from oche.methods.hypergradients import joint
from search_steps import make, method
from tiny_images import dataset, marked, marks


def epochs(task, count, per_epoch):
    """The batches of ``count`` epochs: [{name: [batch …]} …]."""
    found = []
    for epoch in range(count):
        task.drawn.clear()
        task.begin(epoch, 0)
        for i in range(per_epoch):
            task.step(epoch * per_epoch + i, 0.0)
        found.append({n: [x for name, _, x, _ in task.drawn if name == n] for n in ("train", "val")})
    return found


def test_halves_are_disjoint_shuffled_anew_each_epoch_and_cropped_anew():
    task = make(method(batch=5), marked(20), engine=Engine("cpu"))
    assert task.per_epoch() == 2
    first, second = epochs(task, 2, 2)
    orders = [[[m for x in epoch[name] for m in marks(x)] for epoch in (first, second)] for name in ("train", "val")]
    (train, train_again), (val, val_again) = orders
    assert len(set(train)) == len(set(val)) == 10 and not set(train) & set(val)
    assert set(train) == set(train_again) and train != train_again
    assert set(val) == set(val_again) and val != val_again
    assert set(train) | set(val) == set(range(20))
    pictures = [
        {m: img for x in epoch["train"] for m, img in zip(marks(x), x, strict=True)} for epoch in (first, second)
    ]
    moved = [not torch.equal(pictures[0][m], pictures[1][m]) for m in train]
    assert sum(moved) >= 7  # 24 of 25 shifts move an image


def test_crops_belong_to_the_step():
    """The same images in the same order: cropped alike in the same step of two searches, otherwise in another step."""
    drawn = []
    for step in (3, 3, 4):
        task = make(method(batch=5), marked(20), engine=Engine("cpu"))
        task.begin(0, 0)
        task.step(step, 0.0)
        drawn.append({name: x for name, _, x, _ in task.drawn})
    for name in ("train", "val"):
        one, again, other = (d[name] for d in drawn)
        assert marks(one) == marks(other) and torch.equal(one, again)
        assert sum(not torch.equal(a, b) for a, b in zip(one, other, strict=True)) >= 3
    assert not torch.equal(drawn[0]["train"] > 0, drawn[0]["val"] > 0)  # both halves move, not alike


def test_a_validation_half_of_another_size_has_epochs_of_its_own():
    task = make(method(batch=3, split=0.75), marked(24), engine=Engine("cpu"))  # 18 to train, 6 to validate
    assert task.per_epoch() == 6
    (epoch,) = epochs(task, 1, 6)
    val = [m for x in epoch["val"] for m in marks(x)]
    assert all(len(set(val[i : i + 6])) == 6 for i in (0, 6, 12)) and len(set(val)) == 6
    assert val[:6] != val[6:12]


@pytest.mark.parametrize("start", [0, 1, 4, 5])
def test_data_go_on_where_they_were_left(start):
    whole = make(method(batch=3, split=0.75), marked(24), engine=Engine("cpu"))
    (epoch,) = epochs(whole, 1, 6)
    before = make(method(batch=3, split=0.75), marked(24), engine=Engine("cpu"))
    before.begin(0, 0)
    for step in range(start):
        before.step(step, 0.0)
    task = make(method(batch=3, split=0.75), marked(24), engine=Engine("cpu"))
    task.load(before.state())
    task.begin(0, start)
    task.step(start, 0.0)
    for name, _, x, _ in task.drawn:
        assert torch.equal(x, epoch[name][start])


def test_one_level_search_trains_on_the_whole_set_and_draws_one_batch_a_step():
    task = make(method(hypergrad=joint, batch=5), marked(20), engine=Engine("cpu"))
    assert task.per_epoch() == 4 and set(task.meters) == {"train"}
    (epoch,) = epochs(task, 1, 4)
    assert not epoch["val"] and sorted(m for x in epoch["train"] for m in marks(x)) == list(range(20))


def test_own_augmentation_of_the_search():
    data = dataset(augment=Augment(pad=1, flip=True, cutout=4))
    assert make(method(), data).feed.augment == Augment(pad=1, flip=True, cutout=0)
    assert make(method(pad=0, flip=False), data).feed.augment == Augment(pad=0, flip=False, cutout=0)
