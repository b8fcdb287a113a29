"""Fixtures of the tests in this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from oche.report.run_page import write_report
from report_runs import made, make_run


@pytest.fixture(scope="session")
def four(tmp_path_factory):
    out = tmp_path_factory.mktemp("four")
    for method, base in (("darts", 0.90), ("gdas", 0.80)):
        for seed in (0, 1):
            made(out / f"{method}-{seed}", method, seed, round(base + seed / 50, 2), 4 if seed else 1)
    return out


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> Path:
    """A report of everything that `oche demo` leaves."""
    return write_report(make_run(tmp_path_factory.mktemp("runs") / "whole", epochs=4))
