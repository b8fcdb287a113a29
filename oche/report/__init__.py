"""Reports of run directories: pictures and self-contained pages. They read files only, never a search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def write_report(run_dir: Path | str) -> Path:
    """Makes the pictures and report.html of a run directory; see `oche.report.run_page.write_report`."""
    from oche.report.run_page import write_report as write  # matplotlib and jinja2 wait until a report is wanted

    return write(run_dir)


def write_comparison(paths: Sequence[Path], out: Path) -> Path:
    """Writes one page about several runs; see `oche.report.comparison_page.write_comparison`."""
    from oche.report.comparison_page import write_comparison as write

    return write(paths, out)
