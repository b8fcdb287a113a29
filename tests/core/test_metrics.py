"""Means over batches of different sizes."""

import math

import pytest
import torch
import torch.nn.functional as F

from oche.core.metrics import Meter, WordMeter


def test_meter_weighs_batches_by_their_size():
    g = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(10, 3, generator=g), torch.randint(3, (10,), generator=g)
    meter = Meter()
    assert meter.means() == (None, None)
    for part in (slice(0, 7), slice(7, 10)):
        meter.add(logits[part], labels[part], F.cross_entropy(logits[part], labels[part]))
    loss, accuracy = meter.means()
    assert loss == pytest.approx(F.cross_entropy(logits.double(), labels).item(), rel=1e-6)
    assert accuracy == sum(int(row.argmax()) == y for row, y in zip(logits, labels, strict=True)) / 10


def test_word_meter():
    meter = WordMeter()
    assert meter.numbers("val") == {"val_loss": None, "val_ppl": None}
    meter.add_words(torch.tensor(1.0), 3)
    meter.add_words(torch.tensor(2.0), 1)
    assert meter.numbers("val") == {"val_loss": 1.25, "val_ppl": math.exp(1.25)}
    meter.add_words(torch.tensor(1e6), 1)
    assert meter.numbers("val")["val_ppl"] == math.inf
