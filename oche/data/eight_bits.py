"""Map the images of a data set that have more than 8 bits to 0..255, by one range for all of them."""

from __future__ import annotations

from dataclasses import replace

from oche.core.errors import OcheError
from oche.data.dataset import Split
from oche.data.pixel_range import AS_BEFORE, EIGHT_BITS, Extent, PixelRange, check_range, choose_range
from oche.data.readers.records import RawDataset
from oche.data.streaming import Streamed

_BEFORE = "of pixels with more than 8 bits the upper 8 were kept, as in the version of oche that trained the network"


def to_eight_bits(
    found: RawDataset, pixels: PixelRange | None, where: str, show: bool = False
) -> tuple[RawDataset, PixelRange]:
    """Return ``found`` with images of 8 bits, and the range by which those of its training part were mapped.

    ``pixels``: the range of a network that the images are for; None: that of the training part is measured. ``where`` names
    the data in errors. Raises
    `OcheError` where depths are mixed, where a value is not finite, and where the images are not of the network's range.
    """
    splits = [found.train] if found.test is None else [found.train, found.test]
    if pixels == AS_BEFORE and _reads_as_before(splits):
        return _mapped(found, [AS_BEFORE] * len(splits), _BEFORE), AS_BEFORE
    extents = [split.extent(pixels, show) if len(split) else None for split in splits]
    if all(extent is None for extent in extents):
        ranges, note = [EIGHT_BITS] * len(splits), ""
        if pixels is not None:
            check_range(where, None, pixels)
    elif pixels is not None:
        ranges, note = _given(where, splits, extents, pixels)
    else:
        ranges, note = _measured(where, splits, extents)
    used = ranges[0] if pixels is None or pixels == AS_BEFORE else pixels
    return _mapped(found, ranges, note), used


def _reads_as_before(splits: list[Split]) -> bool:
    """Tell whether ``splits`` hold integers of more than 8 bits in image files, of which earlier versions kept the upper 8."""
    kinds = {kind for split in splits if isinstance(split, Streamed) for kind in split.kinds}
    return "integers" in kinds and "floats" not in kinds


def _given(
    where: str, splits: list[Split], extents: list[Extent | None], pixels: PixelRange
) -> tuple[list[PixelRange], str]:
    """Return the range of each part of images for a network of ``pixels``, and a note."""
    ranges = [check_range(where, e, pixels) if len(s) else pixels for s, e in zip(splits, extents, strict=True)]
    clipped = sum(e.outside for e in extents if e is not None)
    share = clipped / max(1, sum(e.count for e in extents if e is not None))
    told = f" ({100 * share:.2g} % of them were clipped)" if clipped and not pixels.usual else ""
    return ranges, "" if pixels.usual else f"values {pixels}, as trained, were mapped to 0..255{told}"


def _measured(where: str, splits: list[Split], extents: list[Extent | None]) -> tuple[list[PixelRange], str]:
    """Return the range of each part of images that a network will be trained on, and a note."""
    there = [e for s, e in zip(splits, extents, strict=True) if len(s)]
    train, test = there[0], there[-1]
    if train is not None and test is not None and train.kind == test.kind:
        pixels, note = choose_range(where, train, test if len(there) > 1 else None)
        return [pixels] * len(splits), note
    own = [EIGHT_BITS if e is None else e.usual_range for e in extents]
    if None in own:  # both are usual, or the one cannot be compared with the other
        was, other = ("8-bit images" if e is None else str(e) for e in extents)
        raise OcheError(f"{where}: the training part has {was}, the test part {other}; save both in one type")
    note = "" if train is None else choose_range(where, train, None)[1]
    return [r for r in own if r is not None], note


def _mapped(found: RawDataset, ranges: list[PixelRange], note: str = "") -> RawDataset:
    test = None if found.test is None else found.test.mapped(ranges[1])
    notes = "; ".join(filter(None, (found.note, note)))
    return replace(found, train=found.train.mapped(ranges[0]), test=test, note=notes)
