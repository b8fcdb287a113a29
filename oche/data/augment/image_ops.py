"""The fourteen operations of RandAugment on whole batches: each image has its own operation, and nothing loops over images.

Shapes: B images of C channels, H × W pixels, uint8. The operations compute what Pillow computes, which the published
codes use (1909.13719, 2103.10158), with nearest pixels, and black outside the image. There are three kinds of operation:
a gather (geometry), an interpolation with a second image, and a table of 256 values. Each kind is one pass over the batch
that leaves the other images as they are, so a step never waits for the device. The unit of an amount depends on the
operation:

========================  ==========================================================
shear_x, shear_y          tangent of the angle, about the upper left corner
translate_x, translate_y  pixels
rotate                    degrees, anticlockwise
brightness … sharpness    factor of Pillow's ImageEnhance − 1
posterize                 number of bits removed
solarize                  value from which pixels are inverted
others                    none (identity, autocontrast, equalize)
========================  ==========================================================
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

OPERATIONS = (
    "identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "color", "contrast",
    "sharpness", "posterize", "solarize", "autocontrast", "equalize",
)  # fmt: skip
SIGNED = OPERATIONS[1:10]  #: operations whose amount may have either sign
_INDEX = {name: i for i, name in enumerate(OPERATIONS)}


def apply_operations(x: Tensor, operation: Tensor, amount: Tensor) -> Tensor:
    """Change image i of x (B, C, H, W) uint8 by ``OPERATIONS[operation[i]]`` with ``amount[i]``.

    Both are (B,), on its device.
    """
    amount = amount.float()
    return _look_up(_blend(_move(x, operation, amount), operation, amount), operation, amount)


def _where(operation: Tensor, name: str, value: Tensor | float, other: Tensor | float) -> Tensor:
    """Return (B,): ``value`` for the images whose operation is called ``name``, ``other`` for the rest."""
    return torch.where(operation == _INDEX[name], value, other)


def _move(x: Tensor, operation: Tensor, amount: Tensor) -> Tensor:
    """Apply shears, translations and rotations. Output pixel p is input pixel ⌊A p + t⌋; outside the image it is black.

    Coordinates are half-integers at the centres of pixels.
    """
    _, _, h, w = x.shape
    angle = _where(operation, "rotate", -torch.deg2rad(amount), 0.0)
    cos, sin = (f(angle).view(-1, 1, 1) for f in (torch.cos, torch.sin))
    shift = [_where(operation, name, amount, 0.0).view(-1, 1, 1) for name in ("translate_x", "translate_y")]
    slope = [_where(operation, name, amount, 0.0).view(-1, 1, 1) for name in ("shear_x", "shear_y")]
    px = torch.arange(w, device=x.device).view(1, 1, w) + 0.5
    py = torch.arange(h, device=x.device).view(1, h, 1) + 0.5
    right, down = px - w / 2, py - h / 2
    column = (cos * right + sin * down + w / 2 + slope[0] * py + shift[0]).floor().long()
    row = (cos * down - sin * right + h / 2 + slope[1] * px + shift[1]).floor().long()
    inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
    which = torch.arange(len(x), device=x.device).view(-1, 1, 1)
    moved = x.permute(0, 2, 3, 1)[which, row.clamp(0, h - 1), column.clamp(0, w - 1)]
    return (moved * inside.unsqueeze(3)).permute(0, 3, 1, 2)


def _blend(x: Tensor, operation: Tensor, amount: Tensor) -> Tensor:
    """Apply brightness, color, contrast and sharpness: dull + (1 + amount) · (x − dull), cut to [0, 255], fractions dropped."""
    z, dull = x.float(), x.float()
    grey = luminance(x).float()
    for name, other in (
        ("brightness", torch.zeros_like(grey)),
        ("color", grey),
        ("contrast", (grey.mean((1, 2, 3), keepdim=True) + 0.5).floor()),
        ("sharpness", _smooth(z)),
    ):
        dull = torch.where((operation == _INDEX[name]).view(-1, 1, 1, 1), other, dull)
    return (dull + (1 + amount).view(-1, 1, 1, 1) * (z - dull)).clamp(0, 255).to(torch.uint8)


def luminance(x: Tensor) -> Tensor:
    """Return the grey image (B, 1, H, W) int32: Pillow's weights of red, green, blue (ITU-R 601), or the mean of others."""
    z = x.int()
    if x.shape[1] != 3:
        return (z.sum(1, keepdim=True) + x.shape[1] // 2) // x.shape[1]
    r, g, b = z.split(1, 1)
    return (19595 * r + 38470 * g + 7471 * b + 32768) >> 16


def _smooth(z: Tensor) -> Tensor:
    """Average each pixel, with weight five, and its eight neighbours. Border pixels stay."""
    c = z.shape[1]
    kernel = torch.ones(c, 1, 3, 3, device=z.device)
    kernel[:, :, 1, 1] = 5.0
    out = z.clone()
    out[:, :, 1:-1, 1:-1] = (F.conv2d(z, kernel, groups=c) / 13 + 0.5).floor()
    return out


def _look_up(x: Tensor, operation: Tensor, amount: Tensor) -> Tensor:
    """Apply posterize, solarize, autocontrast and equalize: replace each value by the entry of a table (B, C, 256)."""
    b, c, h, w = x.shape
    values = torch.arange(256, device=x.device).view(1, 1, 256)
    flat = x.reshape(b, c, h * w).long()
    counts = torch.zeros(b, c, 256, dtype=torch.int64, device=x.device).scatter_add_(2, flat, torch.ones_like(flat))
    table = values.expand(b, c, 256)
    for name, entries in (
        ("posterize", _posterized(values, amount)),
        ("solarize", torch.where(values < amount.view(-1, 1, 1), values, 255 - values)),
        ("autocontrast", _stretched(values, flat)),
        ("equalize", _equalised(values, counts)),
    ):
        table = torch.where((operation == _INDEX[name]).view(-1, 1, 1), entries, table)
    return table.gather(2, flat).to(torch.uint8).view(b, c, h, w)


def _posterized(values: Tensor, amount: Tensor) -> Tensor:
    """Return the table ``values`` (1, 1, 256) without their last ``amount`` bits."""
    unit = torch.exp2(amount.round().clamp(0, 8)).long().view(-1, 1, 1)
    return values // unit * unit


def _stretched(values: Tensor, flat: Tensor) -> Tensor:
    """Return the table that stretches the range of each channel to 0 … 255. A constant channel stays."""
    low, high = flat.amin(2, keepdim=True), flat.amax(2, keepdim=True)
    return torch.where(high > low, ((values - low) * 255 // (high - low).clamp_min(1)).clamp(0, 255), values)


def _equalised(values: Tensor, counts: Tensor) -> Tensor:
    """Return the table that equalises the histogram ``counts`` (B, C, 256) of each channel.

    Channels with one value, or with too few pixels for 255 steps, stay.
    """
    last = counts.gather(2, (values * (counts > 0)).amax(2, keepdim=True))  # pixels with the largest value
    step = (counts.sum(2, keepdim=True) - last) // 255
    below = counts.cumsum(2) - counts
    return torch.where(step > 0, ((below + step // 2) // step.clamp_min(1)).clamp(0, 255), values)
