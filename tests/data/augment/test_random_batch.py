"""Draws for a batch: those of the generator, one an image."""

import torch

from oche.core.seeds import generator
from oche.data.augment.random_batch import integers, uniform

X = torch.empty(7, 3, 2, 2, dtype=torch.uint8)


def test_draws_are_the_generators_own():
    drawn = integers(5, X, generator(3, "draws"))
    assert torch.equal(drawn, torch.randint(5, (7,), generator=generator(3, "draws"))) and drawn.dtype == torch.int64
    assert torch.equal(uniform(X, generator(3, "draws")), torch.rand(7, generator=generator(3, "draws")))


def test_rows_are_as_many_draws_one_after_another():
    source = generator(3, "draws")
    assert torch.equal(uniform(X, generator(3, "draws"), 4), torch.stack([uniform(X, source) for _ in range(4)]))


def test_without_a_generator_they_are_torchs_global_ones():
    torch.manual_seed(1)
    one = integers(9, X, None), uniform(X, None)
    torch.manual_seed(1)
    assert torch.equal(one[0], torch.randint(9, (7,))) and torch.equal(one[1], torch.rand(7))


def test_they_go_to_the_device_of_the_images():
    assert integers(2, X.to("meta"), generator(0, "draws")).device.type == "meta"
