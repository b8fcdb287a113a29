"""Tensors and numbers that are not finite are found and named."""

from math import inf, nan

import pytest
import torch

from oche.core.finite import all_finite, describe_not_finite, first_not_finite

SOUND = {"count": torch.tensor([2**62]), "w": torch.tensor([3e38, -3e38, 0.0]), "flags": torch.tensor([True])}


def test_large_numbers_integers_and_nothing_are_finite():
    """The sum of these is infinite in float32; each of them is finite."""
    assert all_finite(SOUND.values()) and all_finite([]) and all_finite([torch.zeros(0)])
    assert describe_not_finite(SOUND) == ""


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([nan, 1.0, nan], "b is not finite (2 of 3 values are nan)"),
        ([-inf], "b is not finite (1 of 1 value is infinite)"),
        ([inf, 1.0, nan, 2.0], "b is not finite (2 of 4 values are nan or infinite)"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_first_broken_tensor_is_named_with_its_values(values, says, dtype):
    tensors = {**SOUND, "b": torch.tensor(values, dtype=dtype), "c": torch.tensor([nan])}
    assert not all_finite(tensors.values()) and describe_not_finite(tensors) == says


def test_a_broken_value_among_many_is_found_whatever_the_strides():
    t = torch.zeros(4, 5, 6, 7).contiguous(memory_format=torch.channels_last)
    t[3, 4, 5, 6] = nan
    assert not all_finite([t]) and describe_not_finite({"t": t}) == "t is not finite (1 of 840 values is nan)"


def test_the_first_broken_number_of_a_record():
    assert first_not_finite({"step": 3, "name": "nan", "loss": 1e308, "none": None, "of": {"a": 0.0}}) is None
    assert first_not_finite({"a": 1.0, "b": -inf, "c": inf}) == ("b", -inf)
    assert first_not_finite({"a": 1.0, "entropy": {"normal": 0.5, "reduce": inf}}) == ("entropy reduce", inf)
    name, value = first_not_finite({"val_loss": nan}) or ("", 0.0)
    assert name == "val_loss" and value != value
