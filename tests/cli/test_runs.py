"""oche report of a finished run."""

import shutil

import pytest


@pytest.mark.slow
def test_report_of_a_real_run(searched, oche_, here):
    shutil.copytree(searched.path, here / "x")
    code, out, err = oche_("report", "x")
    assert code == 0 and not err and out == "x/report.html\n"
    assert (here / "x" / "report.html").stat().st_size > 50_000
    assert {"heatmap-normal.svg", "cell-reduce.svg", "search-curves.svg"} <= {
        p.name for p in (here / "x/pictures").iterdir()
    }
