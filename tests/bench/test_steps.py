"""The steps that are timed."""

from __future__ import annotations

import pytest
import torch

from bench_settings import setting
from oche.bench.interleaved import Worker
from oche.bench.settings import FORMS, Form
from oche.bench.steps import NchwEngine, OwnSteps, steps_of
from oche.core.errors import OcheError
from oche.devices.engine import Engine


def test_forms_place_tensors_as_they_say():
    for form, layout in (("plain-nchw", torch.contiguous_format), ("plain", torch.channels_last)):
        steps = OwnSteps(setting(), "first", FORMS[form])
        assert type(steps.engine) is (Engine if layout is torch.channels_last else NchwEngine)
        x = steps.engine.images(torch.zeros(2, 3, 8, 8))
        weight = next(p for p in steps.task.net.parameters() if p.dim() == 4 and p.shape[1] > 1 and p.shape[2] > 1)
        assert x.is_contiguous(memory_format=layout) and weight.is_contiguous(memory_format=layout)
        assert not (layout is torch.contiguous_format and weight.is_contiguous(memory_format=torch.channels_last))


@pytest.mark.slow
@pytest.mark.parametrize("work", ["first", "gdas", "pc-darts", "train"])
def test_every_step_trains_and_goes_on_into_the_next_epoch(work):
    steps = steps_of(setting(channels=8), work, "plain")
    before = [p.clone() for p in steps.task.net.parameters()]
    logits = [a.detach().clone() for a in getattr(steps.task, "logits", ())]
    for _ in range(steps.task.per_epoch() + 1):
        steps()
    assert steps.sound() and steps.steps_done == steps.task.per_epoch() + 1
    assert any(not torch.equal(p, b) for p, b in zip(steps.task.net.parameters(), before, strict=True))
    assert all(not torch.equal(a, b) for a, b in zip(getattr(steps.task, "logits", ()), logits, strict=True))
    if work == "train":
        assert steps.task.net.drop_path == 0.1


def test_what_a_form_cannot_do_is_refused():
    with pytest.raises(OcheError, match="only for cuda, and this is cpu"):
        steps_of(setting(), "first", "graph")
    with pytest.raises(OcheError, match="the form 'native' has no second derivatives"):
        steps_of(setting(), "exact", "native")
    assert steps_of(setting(), "exact", "shared").sound()
    with pytest.raises(OcheError, match="one candidate per edge have their own CUDA graph form"):
        OwnSteps(setting(), "gdas", Form("work shared, recorded", flow="shared", graph=True))
    with pytest.raises(OcheError, match="space 'nb201' has no nodes to set"):
        steps_of(setting(space="nb201"), "first", "plain")


def test_a_form_that_computes_nonsense_is_not_timed():
    worker = Worker(setting(), "first", "plain")
    worker.ready(None)
    assert len(worker.turn(3)["times"]) == 3
    with torch.no_grad():
        next(worker.step.task.net.parameters()).fill_(float("nan"))
    with pytest.raises(ArithmeticError, match="a loss was no number"):
        worker.turn(1)
