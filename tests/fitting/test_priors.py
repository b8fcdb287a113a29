"""Known cells and the sizes of their networks."""

from __future__ import annotations

from oche.core import genotypes
from oche.fitting.priors import CONTROL, PRIOR, STACKED, STAGED, is_staged, sizes_of, title_of


def test_networks_of_the_benchmark_have_sizes_of_their_own():
    assert is_staged("RESNET") and not is_staged("DARTS_V2")
    assert sizes_of(PRIOR) == sizes_of(CONTROL) == STAGED and sizes_of("PDARTS") == STACKED


def test_cells_are_named_as_published():
    assert title_of(str(genotypes.PDARTS)) == "PDARTS" and title_of("RESNET") == "RESNET"
    other = "|none~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"
    assert title_of(other) == "the given cell"
