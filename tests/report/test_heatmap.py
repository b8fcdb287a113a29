"""Heat maps in the page hold the recorded weights."""

from __future__ import annotations

import json
import math
import random
import re

import pytest

from oche.core.architecture import Cell, Genotype
from oche.report.heatmap import FRAMES, colour_limits, decided_choices, run_frames
from oche.report.mixture_history import MixtureHistory
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
        assert shown["low"] == 0 and shown["high"] == pytest.approx(
            max(3 / 8, *(v for f in group.history for r in f[1] for v in r)), abs=1e-4
        )


def walk(drift: float, epochs: int = 20) -> MixtureHistory:
    """The history of a cell of one node with two edges and three operations; "b" on edge 0 and "c" on edge 1 gain ``drift``."""
    g, logits, history = random.Random(0), [[0.0] * 3, [0.0] * 3], []
    for epoch in range(epochs + 1):
        raised = [[math.exp(x) for x in row] for row in logits]
        history.append((epoch, [[x / sum(row) for x in row] for row in raised]))
        logits = [[x + g.gauss(0, 0.01) for x in row] for row in logits]
        logits[0][1] += drift
        logits[1][2] += drift
    return MixtureHistory("normal", ((0, 2), (1, 2)), ("a", "b", "c"), 2, tuple(history), False)


KEPT = Genotype({"normal": Cell((("b", 0, 2), ("c", 1, 2)), (2,))})


def test_frames_mark_decided_choices_alone():
    decided, undecided = walk(0.05), walk(0.0)
    assert decided_choices(decided, KEPT) == [(0, 1), (1, 2)]
    assert decided_choices(decided, KEPT, epoch=3) == []  # too early to tell
    assert decided_choices(undecided, KEPT) == []
    assert decided_choices(decided, None) == []


def test_colours_start_at_zero_so_that_equal_weights_look_equal():
    assert colour_limits(8, 0.13) == (0, 3 / 8)  # a uniform mixture lies at a third of the scale, whatever its noise
    assert colour_limits(8, 0.9) == (0, 0.9)
    assert colour_limits(2, 0.5) == (0, 1)


@pytest.mark.slow
def test_a_long_search_keeps_its_first_and_last_heat_map(tmp_path):
    run = read_run(make_run(tmp_path / "run", epochs=500, trained=False, toy=False))
    heat = run_frames("run", run)
    assert len(heat["epochs"]) == FRAMES and (heat["epochs"][0], heat["epochs"][-1]) == (0, 500)
