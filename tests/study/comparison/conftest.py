"""Fixtures of the tests in this folder."""

from __future__ import annotations

import itertools
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from oche.core.nasbench201 import OPERATIONS


@pytest.fixture(scope="session")
def table(tmp_path_factory) -> Path:
    """A table in which all cells reach 50 %, and the one of 3 × 3 convolutions 60 %."""
    archs = ["|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*row) for row in itertools.product(OPERATIONS, repeat=6)]
    path = tmp_path_factory.mktemp("table") / "made.parquet"
    values = [60.0 if arch.count("nor_conv_3x3") == 6 else 50.0 for arch in archs]
    pq.write_table(pa.table({"arch": archs, "cifar10_test_200ep": values}), path)
    return path
