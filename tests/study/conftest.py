"""Fixtures of the tests in this folder."""

from __future__ import annotations

import pytest

import report_studies
import study_files
from oche.study.report import write_study_report
from study_pages import results

FOUND = {0: 0.950, 1: 0.961, 2: 0.955, 3: 0.970, 4: 0.958, 5: 0.966, 6: 0.963}
OTHER = {0: 0.940, 1: 0.951, 2: 0.951, 3: 0.949, 4: 0.940, 5: 0.950, 6: 0.944}
RANDOM = {0: 0.900, 1: 0.935, 2: 0.921, 3: 0.911, 4: 0.927, 5: 0.915, 6: 0.908}


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    made = report_studies.make(folder, results(darts=OTHER, gdas=FOUND, random=RANDOM))
    write_study_report(made)
    return made


@pytest.fixture
def started(monkeypatch) -> list[str]:
    return study_files.here(monkeypatch)
