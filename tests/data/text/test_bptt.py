"""Streams and windows: every token once and in order, lengths distributed as published."""

from random import Random

import pytest
import torch

from oche.core.errors import OcheError
from oche.data.text.bptt import fixed_windows, parallel_streams, varying_windows


def test_streams_are_pieces_of_the_text_side_by_side():
    tokens = torch.arange(23)
    streams = parallel_streams(tokens, 4)
    assert streams.shape == (5, 4) and streams.is_contiguous()
    assert streams.t().flatten().tolist() == list(range(20))


@pytest.mark.parametrize(("count", "batch", "bptt"), [(64 * 36, 64, 35), (2, 1, 1), (12, 2, 5)])
def test_streams_just_long_enough(count, batch, bptt):
    assert len(parallel_streams(torch.arange(count), batch, bptt)) == bptt + 1
    with pytest.raises(OcheError, match=rf"bptt={bptt} is longer than a stream: .* make {bptt} steps? each"):
        parallel_streams(torch.arange(count - batch), batch, bptt)


def targets(windows):
    return [start + k + 1 for start, length in windows for k in range(length)]


@pytest.mark.parametrize("steps", [2, 7, 35, 36, 37, 71, 500])
def test_windows_predict_every_token_but_the_first_once(steps):
    for windows in (
        fixed_windows(steps, 35),
        varying_windows(steps, 35, Random(0)),
        varying_windows(steps, 3, Random(1)),
    ):
        assert targets(windows) == list(range(1, steps))


def test_fixed_windows():
    assert fixed_windows(8, 3) == [(0, 3), (3, 3), (6, 1)]


def test_varying_lengths_are_those_of_the_released_code():
    windows = varying_windows(2_000_000, 35, Random(3))[:-1]
    lengths = torch.tensor([length for _, length in windows], dtype=torch.float64)
    assert lengths.min() >= 5 and lengths.max() <= 55
    # the closed form of max(5, floor(N(m, 5))) with m = 35 or, in one of twenty, 17.5
    normal = torch.distributions.Normal(torch.tensor([35.0, 17.5], dtype=torch.float64), 5.0)
    edges = torch.arange(6, 56, dtype=torch.float64).unsqueeze(1)
    cdf = torch.cat([normal.cdf(edges), torch.ones(1, 2, dtype=torch.float64)])
    mass = cdf - torch.cat([torch.zeros(1, 2, dtype=torch.float64), cdf[:-1]])
    expected = mass @ torch.tensor([0.95, 0.05], dtype=torch.float64)
    found = lengths.long().bincount(minlength=56)[5:56] / len(lengths)
    error = (expected * (1 - expected) / len(lengths)).sqrt()
    assert ((found - expected).abs() < 5 * error + 1e-4).all()


def test_windows_follow_their_generator():
    assert (
        varying_windows(999, 35, Random(5))
        == varying_windows(999, 35, Random(5))
        != varying_windows(999, 35, Random(6))
    )
