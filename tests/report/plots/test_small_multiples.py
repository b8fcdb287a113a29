"""Panels of many runs share their axes, and long curves are thinned."""

import pytest

from oche.report.plots import small_multiples as multiples
from oche.report.read_run import read_run
from report_runs import make_run


def test_curves_are_thinned_evenly_from_end_to_end():
    curve = [(float(i), 0.0) for i in range(101)]
    assert multiples.thin(curve, 5) == [(0.0, 0.0), (25.0, 0.0), (50.0, 0.0), (75.0, 0.0), (100.0, 0.0)]
    assert multiples.thin(curve[:5], 5) == curve[:5]


def test_panels_share_their_axes(tmp_path):
    run = read_run(make_run(tmp_path / "run", epochs=4, trained=False, toy=False))
    held = multiples.held_out_curve(run.records, run.metric)
    assert [x for x, _ in held] == [1, 2, 3, 4] and held[-1][1] == pytest.approx(100 * run.records[-1]["val_acc"])
    frame = multiples.axis_limits([held, [(1, 5.0), (9, 60.0)]])
    assert frame[0] == (1, 9) and frame[1][0] < 5.0 and frame[1][1] > max(60.0, held[-1][1])
    axes = multiples.group_panel("x", [held], [], [[(1, 5.0), (9, 60.0)]], frame, run.metric).axes[0]
    assert all(tick == round(tick) for tick in axes.get_xticks())
    assert axes.get_xlim() == frame[0] and axes.get_ylim() == frame[1] and len(axes.lines) == 2
