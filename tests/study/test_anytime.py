"""The incumbent of a search over time."""

from __future__ import annotations

from oche.report.metrics import ACCURACY, PERPLEXITY
from oche.study.anytime import incumbent_curves


def test_the_incumbent_never_gets_worse_and_carries_its_own_truth():
    values = [(0.1, 0.3), (0.4, 0.7), (0.2, 0.9), (0.5, 0.6)]
    records = [{"val_acc": v, "true_acc": t, "timings": {"seconds": float(i)}} for i, (v, t) in enumerate(values)]
    best, true = incumbent_curves([{"val_acc": None}, *records], ACCURACY)
    assert best == [(0.0, 0.1), (1.0, 0.4), (2.0, 0.4), (3.0, 0.5)]
    assert true == [(0.0, 0.3), (1.0, 0.7), (2.0, 0.7), (3.0, 0.6)]
    falling = [{"val_ppl": v, "timings": {"seconds": float(i)}} for i, v in enumerate((90.0, 70.0, 80.0))]
    assert incumbent_curves(falling, PERPLEXITY)[0] == [(0.0, 90.0), (1.0, 70.0), (2.0, 70.0)]
