"""A search is watched for collapse, and ended by the eigenvalue of its architecture."""

import pytest

from oche.bilevel.search import Search
from oche.core.eigenvalue_stop import EigenvalueStop
from oche.core.optimizers import Adam
from oche.methods.catalog import METHODS
from small_searches import finished, small, start

FAST = Adam(lr=0.1, init=0.1)  # logits that tell candidates apart after a few steps


class Skipping(Search):
    """A search whose cells are reported to hold many skip connections."""

    def _record(self, progress):
        return super()._record(progress) | {"skip_share": {"normal": 0.4, "reduce": 0.4}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("action", "cls"), [("rollback", Search), ("rollback", Skipping), ("stop", Search), ("warn", Search)]
)
def test_robust_darts_ends_when_the_eigenvalue_grows_and_takes_the_logits_of_before(action, cls, monkeypatch):
    values = iter([0.3, 0.3, 0.3, 0.9, 0.9, 0.9])
    monkeypatch.setattr("oche.bilevel.search.dominant_eigenvalue", lambda *args: next(values))
    where = small(candidates=("none", "max_pool_3x3", "nor_conv_3x3"))  # no skip connection: by the eigenvalue alone
    method = METHODS["robust-darts"].make(
        batch=12,
        epochs=6,
        arch_optimizer=FAST,
        on_collapse=action,
        eigenvalue_stop=EigenvalueStop(start=0, k=2, window=1),
    )
    task = start(method, where, cls=cls)
    history = finished(task)
    last = {name: a.tolist() for name, a in zip(task.groups, task.logits, strict=True)}
    if action == "warn":  # few skips: the reading is to watch, which is no collapse
        assert len(history) == 7 and not any("collapse" in r for r in history)
        return
    # 0.3 < 0.75 · 0.9 at the fourth epoch, two after the second, whatever the skips of the second
    assert len(history) == 5 and task.ended and "eigenvalue" in history[-1]["collapse"]
    assert [r["eigenvalue"] for r in history[1:]] == [0.3, 0.3, 0.3, 0.9]
    assert last == history[2 if action == "rollback" else 4]["logits"] and history[2]["logits"] != history[4]["logits"]
    assert (str(task.conclude()) == history[2]["genotype"]) or action == "stop"
