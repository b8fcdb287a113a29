"""Rank correlations against scipy's manual."""

from __future__ import annotations

import subprocess
import sys

import pytest

from oche.analysis import (
    Undetermined,
    correlate_ranks,
)


def test_rank_correlations_of_scipys_manual():
    assert correlate_ranks([12, 2, 1, 12, 2], [1, 4, 7, 1, 0]).kendall == pytest.approx(-0.47140452079103173)
    assert correlate_ranks([1, 2, 3, 4, 5], [5, 6, 7, 8, 7]).spearman == pytest.approx(0.8207826816681233)
    assert isinstance(correlate_ranks([1, 2], [1, 2]), Undetermined) and isinstance(
        correlate_ranks([1, 2, 3], [4, 4, 4]), Undetermined
    )


def test_importing_it_loads_neither_scipy_nor_torch():
    code = "import sys, oche.analysis; print({m.partition('.')[0] for m in sys.modules} & {'scipy', 'torch', 'numpy'})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
