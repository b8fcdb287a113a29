"""Settings that are drawn follow from the seed."""

from __future__ import annotations

import study_files
from oche.study.random_search import Tune


def test_drawn_settings_follow_from_the_seed_and_more_of_them_leave_the_others(tmp_path):
    tree = {"samples": 3, "over": {
        "search.w.lr": {"log": ["1e-3", 1]}, "search.a.lr": {"uniform": [0.1, 0.2]}, "search.batch": {"among": [8, 16]},
    }}  # fmt: skip
    points = Tune.of(tree, "x").points()
    assert points == Tune.of({**tree, "samples": 9}, "x").points()[:3]
    assert points != Tune.of({**tree, "seed": 1}, "x").points()
    many = Tune.of({**tree, "samples": 400}, "x").points()
    assert all(1e-3 <= p["search.w.lr"] <= 1 and 0.1 <= p["search.a.lr"] <= 0.2 for p in many)
    # a decade is a third of the range of logarithms; uniform would leave it 1 %
    assert 90 < sum(p["search.w.lr"] < 1e-2 for p in many) < 180
    assert 150 < sum(p["search.batch"] == 8 for p in many) < 250
    study = study_files.study(tmp_path, grid={"method": ["darts", "gdas"]}, tune=tree)
    rates = {t.search.search.method.weight_optimizer.lr for t in study.trials}
    assert len(study.trials) == 6 and rates == {p["search.w.lr"] for p in points}
    assert study.measure == ("val_acc", "max") and study.epochs == 50
