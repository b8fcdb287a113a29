"""Heat maps in the page hold the recorded weights."""

from __future__ import annotations

import json
import re

import pytest

from oche.report.heatmap import FRAMES, run_frames
from oche.report.read_run import read_run
from report_runs import make_run


@pytest.mark.slow
def test_the_heat_maps_in_the_page_hold_the_recorded_weights(whole):
    run = read_run(whole.parent)
    data = json.loads(
        re.search(r'"application/json">\[(.*?)\]</script>', whole.read_text(encoding="utf-8"), re.DOTALL)[1]
    )
    assert data["epochs"] == [0, 1, 2, 3, 4]
    for shown, group in zip(data["groups"], run.mixtures, strict=True):
        assert shown["edges"] == [f"{i}→{j}" for i, j in group.edges]
        for frame, (_, weights) in zip(shown["frames"], group.history, strict=True):
            assert frame == [[round(v, 4) for v in row] for row in weights]
    normal = data["groups"][0]
    wanted = sorted(
        (normal["edges"].index(f"{i}→{j}"), normal["candidates"].index(op)) for op, i, j in run.genotype.normal.edges
    )
    assert sorted(map(tuple, normal["chosen"][-1])) == wanted


@pytest.mark.slow
def test_a_long_search_keeps_its_first_and_last_heat_map(tmp_path):
    run = read_run(make_run(tmp_path / "run", epochs=500, trained=False, toy=False))
    heat = run_frames("run", run)
    assert len(heat["epochs"]) == FRAMES and (heat["epochs"][0], heat["epochs"][-1]) == (0, 500)
