"""Pixels that are handed to a loaded network: converted to the grey levels that it takes, or refused, never taken as they are.

Shapes: B images of C channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import torch
from torch import Tensor

from oche.core.errors import OcheError
from oche.data.pixel_range import AS_BEFORE, EIGHT_BITS, NARROW, OUTSIDE, UNIT, Extent, PixelRange, number

_EDGE = 1e-3  # by which floats may leave [0, 1], as scaled images do
_BEYOND = 2  # times the span of normalised values by which images may leave it
_BELOW = -0.5  # normalised black, below which pixels of [0, 1] alone are no normalised image


def describe_input(pixels: PixelRange) -> str:
    """Return the images that a network of ``pixels`` takes, in words."""
    if pixels == UNIT or pixels in (EIGHT_BITS, AS_BEFORE):
        return "uint8 images, or floats in [0, 1]"
    return "uint8 images, or floats in 0..255" if pixels.usual else f"{pixels.kind} in {pixels}"


def levels_for(images: Tensor, pixels: PixelRange) -> Tensor:
    """Return the grey levels, uint8, of ``images`` of any shape for a network of ``pixels``.

    A network for 8-bit images takes uint8, bool (0 and 255), other integers in 0..255, and floats in [0, 1]. One that was
    trained on floats in 0..255 takes those instead of [0, 1]. One of another range takes the values of that range, clipped.

    Raises `OcheError` where the type or the values are others, as far as can be told. Values are not looked at while a
    program is traced or compiled.
    """
    pixels = EIGHT_BITS if pixels == AS_BEFORE else pixels
    if images.is_complex() or (images.dtype in (torch.uint8, torch.bool) and not pixels.usual):
        raise OcheError(
            f"images are {_type(images)}, and the network takes {describe_input(pixels)}, as it was trained on them; for the "
            "uint8 images of oche.data write net(net.normalise(images))"
        )
    if images.dtype == torch.uint8:
        return images
    if images.dtype == torch.bool:
        return images.to(torch.uint8) * 255
    used = pixels
    if pixels.usual:  # floats of [0, 1] and levels of 0..255 are the same pictures
        used = EIGHT_BITS if not images.is_floating_point() else UNIT if pixels == EIGHT_BITS else pixels
    if _has_values(images):
        _check_values(images, used, pixels)
    return used.levels_of_tensor(images)


def _check_values(images: Tensor, used: PixelRange, pixels: PixelRange) -> None:
    """Raise `OcheError` where ``images`` are not of the range ``used``, by which a network of ``pixels`` would map them."""
    values = images.detach().to(torch.float32 if images.device.type == "mps" else torch.float64)
    low, high = (v.item() for v in torch.aminmax(values))
    if not (isfinite(low) and isfinite(high)):
        raise OcheError("images have values that are nan or infinite; give finite ones")
    said = f"images are {_type(images)} from {number(low)} to {number(high)}, and the network takes {describe_input(pixels)}"
    if used.usual:
        edge = _EDGE if used == UNIT else 0.0
        strange = low < used.low - edge or high > used.high + edge
    else:
        strange = ((values < used.low) | (values > used.high)).double().mean().item() > OUTSIDE
    if strange:
        raise OcheError(f"{said}; map them to that range")
    if used != UNIT and low < high:  # a constant image tells nothing
        floats = images.is_floating_point()
        other = Extent(low, high, "floats" if floats else "integers", not floats, "").usual_range
        if other is not None and used.high - used.low >= NARROW * (other.high - other.low):
            raise OcheError(
                f"{said}; these look like {'floats' if other == UNIT else '8-bit values'} of {other}: map them to that"
            )


def check_normalised(x: Tensor, mean: Sequence[float], std: Sequence[float]) -> None:
    """Raise `OcheError` where floats x (B, C, H, W) are pixels rather than normalised images, as far as can be told.

    They are pixels if they lie far outside of (0 − mean) / std to (1 − mean) / std, or if all lie in [0, 1], where a
    normalised image has negative values, and fill it or are multiples of 1/255.
    """
    if not _has_values(x):
        return
    black = max(-m / s for m, s in zip(mean, std, strict=True))
    bounds = [(v - m) / s for m, s in zip(mean, std, strict=True) for v in (0.0, 1.0)]
    lowest, highest = min(bounds), max(bounds)
    beyond = _BEYOND * (highest - lowest)
    low, high = (v.item() for v in torch.aminmax(x.detach()))
    if (
        low < lowest - beyond
        or high > highest + beyond
        or (low >= 0 and high <= 1 and black < _BELOW and _is_unit(x, low, high))
    ):
        raise OcheError(
            f"images lie in {number(low)}..{number(high)}, and normalised ones in {number(lowest)}..{number(highest)}; these "
            "look like pixels: write net(net.prepare(images)), or net.probabilities(images)"
        )


def _is_unit(x: Tensor, low: float, high: float) -> bool:
    """Tell whether values in [0, 1], not all equal, fill it or are multiples of 1/255."""
    if low == high:
        return False
    levels = x.detach().float() * 255
    return high - low > 0.9 or bool(((levels - levels.round()).abs() < 1e-3).all())


def _has_values(x: Tensor) -> bool:
    """Tell whether the values of ``x`` can be looked at: not in a program that is traced, compiled or captured."""
    tracing = torch.compiler.is_compiling() or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    captured = x.is_cuda and torch.cuda.is_current_stream_capturing()
    return bool(x.numel()) and not (x.is_meta or tracing or captured)


def _type(images: Tensor) -> str:
    return str(images.dtype).removeprefix("torch.")
