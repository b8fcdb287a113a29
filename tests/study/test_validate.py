"""What could not run is refused before anything does."""

from __future__ import annotations

import pytest

import study_files
from oche.core.errors import OcheError
from oche.study.validate import check_trials

GRID = {"method": ["darts"]}
LATER = {  # known only from data and networks
    "pc-darts · darts · digits: partial channels": {"grid": {"method": ["darts", "pc-darts"], "space.channels": [3]}},
    "has no result without a training or a table; write recipe: small": {"grid": {"method": ["random"]}},
    "there is no data called 'digitz'": {"grid": GRID, "data": "digitz"},
    "darts · darts · digits: cutout=8 can erase whole images": {"grid": GRID, "recipe": "small", "train.cutout": 8},
    "images": {"grid": {"method": ["darts"], "space": ["recurrent"], "data": ["digits"]}, "space": {}, "limit": None},
}


@pytest.mark.parametrize("says", LATER)
def test_what_could_not_run_is_refused_before_anything_does(tmp_path, monkeypatch, says):
    from oche.core.console import Log

    monkeypatch.delenv("OCHE_NB201", raising=False)
    study = study_files.study(tmp_path, **LATER[says])
    with pytest.raises(OcheError) as refusal:
        check_trials(study.trials, "asked.yaml", Log(quiet=True))
    assert (
        says in str(refusal.value) and str(refusal.value).startswith("asked.yaml: ") and "\n" not in str(refusal.value)
    )
