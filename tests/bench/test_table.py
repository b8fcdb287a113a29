"""`oche bench`: what takes part, that turns are fair, the numbers of the table, the published code, and what cannot run."""

from __future__ import annotations

from pathlib import Path

from bench_settings import setting
from oche.bench.interleaved import Result
from oche.bench.table import baseline, markdown, table_lines

# --- the table

RESULTS = {
    "first": {
        "plain-nchw": Result([4.0, 2.0, 3.0], 2**31),
        "plain": Result([1.5, 1.0, 2.0], 2**30),
        "native": Result(note="no compiler"),
    },
    "gdas": {"plain-nchw": Result([1.0], None), "plain": Result([0.0125], 2**29)},
}


def test_numbers_of_the_table():
    rows = [line.cells for line in table_lines(setting(batch=6), RESULTS)]
    assert rows == [
        ("first", "plain-nchw", "3,000 (2,000–4,000)", "2", "2.00 GiB", "1.00", ""),
        ("first", "plain", "1,500 (1,000–2,000)", "4", "1.00 GiB", "2.00", ""),
        ("first", "native", "–", "", "", "", ""),
        ("gdas", "plain-nchw", "1,000 (1,000–1,000)", "6", "unknown", "1.00", "3.00"),
        ("gdas", "plain", "12.5 (12.5–12.5)", "480", "0.50 GiB", "80.00", "240.00"),
    ]
    assert [line.best for line in table_lines(setting(), RESULTS)] == [False, True, False, False, True]


def test_the_published_code_is_the_baseline_where_it_ran():
    reference = Result([9.0])
    assert baseline({"reference": reference, **RESULTS["first"]}) == 9.0
    assert baseline({"reference": Result(note="no"), **RESULTS["first"]}) == 3.0
    assert baseline({"plain": Result([1.0])}) is None


def test_the_page_repeats_the_measurement_and_names_no_place():
    page = markdown(setting(reference=(Path("/some/where/darts"),), works=("first", "gdas"), rounds=3), RESULTS)
    assert "`oche bench --works first gdas --reference darts --batch 2 --channels 4" in page and "/some" not in page
    assert "| gdas | plain | 12.5 (12.5–12.5) |" in page and "first, native: no compiler" in page
    assert "n = 3 steps each" in page and "- plain: plain modules, channels_last" in page
