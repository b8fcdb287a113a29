"""Every figure lies beside the page."""

from __future__ import annotations

import pytest


@pytest.mark.slow
def test_every_picture_lies_beside_the_page_as_svg_and_png(whole):
    names = {file.stem for file in (whole.parent / "pictures").iterdir()}
    assert names == {
        "cell-normal", "cell-reduce", "comparison", "search-curves", "train-curves", "entropy", "skip-share", "operations", "toy",
        "heatmap-normal", "heatmap-reduce", "snapshots-normal", "snapshots-reduce", "evolution-normal", "evolution-reduce",
        "network-search", "network-train",
    }  # fmt: skip
    for name in names:
        assert (whole.parent / f"pictures/{name}.png").read_bytes().startswith(b"\x89PNG")
        svg = (whole.parent / f"pictures/{name}.svg").read_text(encoding="utf-8")
        assert "<svg" in svg and svg.rstrip().endswith("</svg>")
