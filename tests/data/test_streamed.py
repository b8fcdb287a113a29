"""Streaming: the same batches as from memory, decoding each image once, in whatever order, and stopping cleanly."""

import threading

import numpy as np
import pytest
import torch
from data_files import encoded, pixels

from oche.data import Streamed, batches, halves
from oche.data import stream as stream_module
from oche.data.core import moments
from oche.data.stream import headers
from oche.errors import OcheError


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
        assert moments(s, 7) == moments(r, 7)


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
    assert [h.size for h in headers(items)] == [(9, 11)] * 50
    items.images[4], items.images[40] = b"", b"text"
    with pytest.raises(OcheError, match=r"image 4 cannot be read \(empty\).* \(and 1 more like it\)"):
        headers(items)


def test_subset_of_a_subset_and_its_device(both):
    _, streamed, x = both
    inner = streamed.subset(torch.arange(10, 30)).subset(torch.tensor([5, 1])).to("cpu")
    images, labels = inner.gather(torch.tensor([1, 0]))
    assert torch.equal(images, x[[11, 15]]) and labels.tolist() == [4, 1] and np.array_equal(inner.labels, [1, 4])
