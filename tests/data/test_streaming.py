"""Streaming: the same batches as from memory, decoding each image once, in whatever order, and stopping cleanly."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import oche
import small_runs
from data_files import encoded, pixels
from oche.core.errors import OcheError
from oche.core.seeds import generator
from oche.data import Streamed, batches, halves, load
from oche.data import loading as reading_module
from oche.data import streaming as stream_module
from oche.data.dataset import channel_moments
from oche.data.streaming import read_headers


class Counted:
    """Encoded images in memory that count how often each is read."""

    def __init__(self, images: list[bytes]) -> None:
        self.images, self.reads, self.lock = images, [0] * len(images), threading.Lock()

    def __len__(self) -> int:
        return len(self.images)

    def read(self, i: int) -> bytes:
        with self.lock:
            self.reads[i] += 1
        return self.images[i]

    def name(self, i: int) -> str:
        return f"image {i}"


@pytest.fixture
def both():
    x, y = pixels(50, 9, 11, 3), torch.arange(50) % 7
    items = Counted([encoded(a) for a in x])
    streamed = Streamed(items, y, (3, 9, 11))
    return items, streamed, torch.from_numpy(x.transpose(0, 3, 1, 2).copy())


def same(a, b) -> None:
    assert len(a) == len(b)
    for (x, y), (u, v) in zip(a, b, strict=True):
        assert torch.equal(x, u) and torch.equal(y, v)


def test_gather_is_what_was_encoded(both):
    _, streamed, x = both
    index = torch.tensor([3, 49, 3, 0])
    images, labels = streamed.gather(index)
    assert torch.equal(images, x[index]) and torch.equal(labels, index % 7)
    assert streamed.nbytes == x.numel() and images.dtype == torch.uint8


@pytest.mark.parametrize("workers", [1, 3])
def test_streamed_equals_resident(both, monkeypatch, workers):
    _, streamed, _ = both
    monkeypatch.setattr(stream_module, "WORKERS", workers)
    resident = streamed.resident()
    for start in (0, 2):
        options = {"seed": 5, "epoch": 3, "start": start}
        same(list(batches(streamed, 8, **options)), list(batches(resident, 8, **options)))
    for s, r in zip(halves(streamed, 0.4, 1), halves(resident, 0.4, 1), strict=True):
        same(
            list(batches(s, 6, seed=0, epoch=0, drop_last=False)), list(batches(r, 6, seed=0, epoch=0, drop_last=False))
        )
        assert channel_moments(s, 7) == channel_moments(r, 7)


def test_each_image_is_decoded_once(both):
    items, streamed, _ = both
    part = streamed.subset(torch.arange(0, 50, 2))
    resident = part.resident()
    for epoch in range(3):
        list(batches(resident, 5, seed=0, epoch=epoch))
    assert items.reads == [1, 0] * 25


def test_a_batch_is_decoded_when_its_turn_comes(both):
    """Skipped batches are not read at all; of those that come, a few are read ahead and not the whole epoch."""
    items, streamed, _ = both
    walk = batches(streamed, 5, seed=0, epoch=0, start=2, shuffle=False)
    next(walk)
    walk.close()
    stream_module._threads().submit(lambda: None).result()
    assert items.reads[:10] == [0] * 10 and items.reads[10:15] == [1] * 5
    assert sum(items.reads[10 + 5 * (stream_module.AHEAD + 1) :]) == 0


def test_the_first_error_is_raised_and_names_the_image(both):
    items, streamed, _ = both
    items.images[13] = items.images[13][:150]
    with pytest.raises(OcheError, match="image 13 cannot be read"):
        streamed.resident()
    walk = batches(streamed, 10, seed=0, epoch=0, shuffle=False)
    next(walk)
    with pytest.raises(OcheError, match="image 13 cannot be read"):
        next(walk)


def test_headers_count_what_is_wrong(both):
    items, _, _ = both
    assert [h.size for h in read_headers(items)] == [(9, 11)] * 50
    items.images[4], items.images[40] = b"", b"text"
    with pytest.raises(OcheError, match=r"image 4 cannot be read \(empty\).* \(and 1 more like it\)"):
        read_headers(items)


def test_subset_of_a_subset_and_its_device(both):
    _, streamed, x = both
    inner = streamed.subset(torch.arange(10, 30)).subset(torch.tensor([5, 1])).to("cpu")
    images, labels = inner.gather(torch.tensor([1, 0]))
    assert torch.equal(images, x[[11, 15]]) and labels.tolist() == [4, 1] and np.array_equal(inner.labels, [1, 4])


@pytest.mark.parametrize("world", [2, 3])
def test_every_rank_decodes_its_own_images_only(both, world):
    items, streamed, _ = both
    seen = []
    for rank in range(world):
        before = list(items.reads)
        own = list(batches(streamed, 4 * world, seed=2, epoch=1, rank=rank, world=world))
        seen.append({i for i in range(50) if items.reads[i] > before[i]})
        assert sum(len(images) for images, _ in own) == len(seen[-1]) == sum(items.reads) - sum(before)
    assert sum(map(len, seen)) == len(set().union(*seen)) == 50 // (4 * world) * 4 * world
    whole = list(batches(streamed, 4 * world, seed=2, epoch=1))
    parts = [list(batches(streamed, 4 * world, seed=2, epoch=1, rank=r, world=world)) for r in range(world)]
    for k, (images, labels) in enumerate(whole):  # image j of a batch is that of rank j % world
        assert all(torch.equal(images[r::world], parts[r][k][0]) for r in range(world))
        assert all(torch.equal(labels[r::world], parts[r][k][1]) for r in range(world))


# --- a folder of JPEG files, larger than the memory that it is said to have

COUNT = 1_000  # benchmarks/loader.py reads 10,000


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory):
    """JPEG files of 24 x 24 pixels in four class folders of train/, numbered by what they show: file i of class k is 4 i + k."""
    root = tmp_path_factory.mktemp("jpegs")
    for k in range(4):
        (root / "train" / f"c{k}").mkdir(parents=True)
    for n in range(COUNT):
        bits = np.array([n >> b & 1 for b in range(12)], np.uint8).reshape(3, 4) * 200 + 20  # blocks of 8 x 6 pixels
        block = np.kron(bits, np.ones((8, 6), np.uint8))
        Image.fromarray(block).convert("RGB").save(root / "train" / f"c{n % 4}" / f"{n // 4:04}.jpg", quality=95)
    return root


def numbers(images: torch.Tensor) -> list[int]:
    """What JPEG has left of the numbers in (B, 3, 24, 24)."""
    middle = images[:, 1, 4::8, 3::6].flatten(1) > 120
    return (middle * 2 ** torch.arange(12)).sum(1).tolist()


@pytest.mark.slow
def test_a_large_folder_streams(jpegs, monkeypatch):
    """Memory for 50 of 1,000 images is enough, the order is that of the seed, and a resumed epoch decodes only what is left."""
    monkeypatch.setattr(reading_module, "free_memory_or_estimate", lambda: 2 * 50 * 3 * 24 * 24)
    data = load(jpegs, holdout=0)
    assert isinstance(data.train, Streamed) and len(data.train) == COUNT and data.test is None
    began = [0, 0, 0]  # images being decoded now, at most, in all
    begin, finish = Streamed._begin, Streamed._finish

    def counted(self, index, share=None):
        began[0] += len(index)
        began[1], began[2] = max(began[:2]), began[2] + len(index)
        return begin(self, index, share)

    def done(self, pending):
        began[0] -= len(pending.index)
        return finish(self, pending)

    monkeypatch.setattr(Streamed, "_begin", counted)
    monkeypatch.setattr(Streamed, "_finish", done)
    epoch = [(numbers(x), y.tolist()) for x, y in batches(data.train, 32, seed=3, epoch=1)]
    shown = [n for images, _ in epoch for n in images]
    order = torch.randperm(COUNT, generator=generator(3, "order", 1))[: COUNT // 32 * 32]
    each = COUNT // 4  # of a class: the folder lists one class after another
    assert shown == [4 * (i % each) + i // each for i in order.tolist()]
    assert all(y == [n % 4 for n in images] for images, y in epoch)
    assert began[1] == 32 * (stream_module.AHEAD + 1) and began[2] == len(order)  # so few at once
    began[2] = 0
    rest = [(numbers(x), y.tolist()) for x, y in batches(data.train, 32, seed=3, epoch=1, start=25)]
    assert rest == epoch[25:] and began[2] == len(order) - 25 * 32


def test_a_training_that_streams_is_the_one_from_memory(jpegs, tmp_path, monkeypatch, quick):
    """And goes on, stopped in the midst of an epoch, to the same bits."""
    recipe = small_runs.recipe(steps=3, batch=16, channels=2, cells=2, reductions=(1,), auxiliary=0.0)

    def train(name: str, free: int, **options) -> Path:
        monkeypatch.setattr(reading_module, "free_memory_or_estimate", lambda: free)
        return oche.train(
            "DARTS_V2", jpegs, recipe=recipe, limit=120, holdout=0.02, out=tmp_path / name, **options
        ).path

    one, other = train("memory", 10**9), train("streamed", 0)
    assert small_runs.same_weights(one, other) and small_runs.metrics(one) == small_runs.metrics(other)
