"""The runs of a study that are missing or failed."""

from __future__ import annotations

import report_studies
from oche.study.report import write_study_report
from study_pages import results, table

FOUND = {0: 0.950, 1: 0.961, 2: 0.955, 3: 0.970, 4: 0.958, 5: 0.966, 6: 0.963}
OTHER = {0: 0.940, 1: 0.951, 2: 0.951, 3: 0.949, 4: 0.940, 5: 0.950, 6: 0.944}


def test_missing_seeds_are_left_out_and_failures_listed_with_their_reason(tmp_path):
    broken = {**OTHER, 1: "Diverged: the loss of step 3 is no number"}
    made = report_studies.make(tmp_path, results(darts=broken, gdas=FOUND))
    text = write_study_report(made).with_suffix(".md").read_text()
    assert "| gdas | darts | gdas is better | 6 (without 1) |" in text
    assert "1 of 14 trials are not finished; the results above leave them out." in text
    row = table(made, "unfinished")["darts"]
    assert (row["seed"], row["state"], row["why"]) == ("1", "failed", "Diverged: the loss of step 3 is no number")
    assert "there are no random cells to compare with" in text
