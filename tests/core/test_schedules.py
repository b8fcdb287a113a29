"""Schedules between two values and schedules of learning rates, at points computed by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oche.core.errors import OcheError
from oche.core.optimizers import Sgd
from oche.core.schedules import Cosine, Exponential, OneCycle, cosine, linear


@given(st.floats(1e-4, 10), st.floats(0, 1), st.floats(0, 1))
def test_cosine_is_half_a_cosine(start, share, progress):
    end = share * start
    rate = cosine(start, end, progress)
    assert rate == pytest.approx(end + (start - end) * math.cos(math.pi * progress / 2) ** 2, rel=1e-9)
    assert cosine(start, end, 0) == pytest.approx(start) and cosine(start, end, 1) == pytest.approx(end)


# --- schedules


def test_schedules_at_points_computed_by_hand():
    warmed = Sgd(lr=0.8, lr_min=0.2, schedule=Cosine(warmup=0.2))
    assert [warmed.rate(p) for p in (0.0, 0.1, 0.2, 0.6, 1.0)] == pytest.approx([0.0, 0.4, 0.8, 0.5, 0.2])
    cycle = Sgd(lr=0.8, schedule=OneCycle(warmup=0.25))
    assert [cycle.rate(p) for p in (0.0, 0.125, 0.25, 0.625, 1.0)] == pytest.approx([0.0, 0.4, 0.8, 0.4, 0.0])
    falling = Sgd(lr=0.1, lr_min=0.1 * 0.97**250, schedule=Exponential())
    for epoch in (0, 1, 7, 250):  # the published rate after so many epochs
        assert falling.rate(epoch / 250) == pytest.approx(0.1 * 0.97**epoch)


def test_without_a_warm_up_the_cosine_is_the_published_one():
    assert [Sgd().rate(p / 7) for p in range(8)] == [cosine(0.025, 0.0, p / 7) for p in range(8)]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Cosine(warmup=1.0), "use 0 <= warmup < 1"),
        (lambda: OneCycle(warmup=-0.1), r"warmup=-0.1"),
        (lambda: Sgd(schedule=Exponential()), r"never reaches lr_min=0; .* use lr_min > 0"),
        (lambda: Sgd(nesterov=True, momentum=0.0), "momentum=0 has none"),
    ],
)
def test_impossible_schedules_are_refused(make, words):
    with pytest.raises(OcheError, match=words):
        make()


@pytest.mark.parametrize(("progress", "want"), [(-0.5, 10.0), (0.0, 10.0), (0.25, 7.525), (1.0, 0.1), (1.5, 0.1)])
def test_linear_schedule(progress, want):
    assert linear((10.0, 0.1), progress) == pytest.approx(want, rel=1e-12)
    assert linear((10.0, 0.1), torch.tensor(progress, dtype=torch.float64)).item() == pytest.approx(want, rel=1e-12)
    assert linear((3.0, 3.0), progress) == 3.0
