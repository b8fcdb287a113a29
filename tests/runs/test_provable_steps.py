"""Steps that are built from plain values: the steps of the run, in every form, also replayed from a recording."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch

from oche.bilevel.cuda_graph_replay import replay
from oche.core.config.serialize import to_dict
from oche.core.errors import OcheError
from oche.kernels.choose import form as cell_form
from oche.kernels.cpu import build as native
from oche.methods import published
from oche.methods.cost_constraints import Parameters
from oche.proof import child
from oche.proof.compare import errors
from oche.proof.values import FLOAT32, StepForm
from oche.runs import provable_steps
from oche.runs.config import SearchConfig, TrainConfig
from oche.runs.provable_steps import ImageStep, make, settings_of
from oche.spaces import ConvSpace
from oche.training.image_recipes import modern, small
from recorded_graphs import Tape

pytestmark = pytest.mark.slow  # searches in several forms

CELL = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1)], normal_concat=[2], "
    "reduce=[('max_pool_3x3', 0), ('skip_connect', 1)], reduce_concat=[2])"
)
SPACE = ConvSpace(channels=4, cells=3, nodes=1, image=(8, 8), classes=3)


def search_config(method=published.darts, **fields):
    return SearchConfig(space=SPACE, search=method(**{"batch": 4, "epochs": 3, **fields}), seed=3)


def train_config(**fields):
    make_recipe = fields.pop("recipe", small)
    return TrainConfig(
        genotype=CELL, train=make_recipe(**{"channels": 4, "cells": 3, "batch": 4, "epochs": 3, **fields})
    )


class Shape:
    """Facts of data that `settings_of` reads."""

    image, channels, classes = (8, 8), 3, ("a", "b", "c")


def settings(config):
    found = settings_of(config, Shape, to_dict(config), "cpu")
    return json.loads(json.dumps(found))  # as the child reads them


def proof(config, form, monkeypatch=None, steps=2, tape=None):
    if tape is not None:
        monkeypatch.setattr(provable_steps, "replay", partial(replay, backend=tape))
    values = settings(config)
    reference = make(values, None)
    states, found = [], []
    for i in range(steps):
        states.append(reference.state())
        reference.take(i)
        found.append(reference.evidence())
    known = {"states": states, "evidence": found, "seconds": None, "memory": None}
    monkeypatch.setattr(child, "TIMED", (1, 1))
    return child._prove(make, values, form, known, FLOAT32, {})[0], found


def test_settings_leave_out_what_changes_no_step():
    one, other = search_config(epochs=3), search_config(epochs=9)
    assert settings(one) == settings(replace(other, seed=9))
    assert settings(one) != settings(search_config(batch=6))
    assert settings(train_config()) != settings(train_config(drop_path=0.1))


@pytest.mark.parametrize("config", [search_config(), train_config(auxiliary=0.4)], ids=["search", "train"])
def test_the_same_settings_take_the_same_steps(config):
    one, other = (
        ImageStep(settings(config), StepForm("plain"), False),
        ImageStep(settings(config), StepForm("plain"), True),
    )
    for i in range(3):
        other.set_state(one.state())
        one.take(i)
        other.take(i)
        assert errors(one.evidence(), other.evidence()) == {"loss": 0, "statistics": 0, "gradients": 0, "tensor": 0}


def test_evidence_has_all_that_a_step_leaves():
    step = make(settings(search_config()), None)
    step.take(0)
    found = step.evidence()
    assert set(found["loss"]) == {"train", "val"} and all(0.5 < t < 3 for t in found["loss"].values())
    assert set(found["logits"]) == {"normal", "reduce"} and all(t.norm() > 0 for t in found["logits"].values())
    assert len(found["gradients"]) > 50 and len(found["statistics"]) > 50
    norms = [found["weights"][name].norm() > 0 for name, gradient in found["gradients"].items() if gradient.norm() > 0]
    assert all(norms)


def compiled():
    try:
        native.load()
    except native.Unavailable as reason:
        pytest.skip(f"no compiled kernels here: {reason}")


@pytest.mark.parametrize(
    "config",
    [
        search_config(), search_config(published.pc_darts), search_config(published.gdas), search_config(published.beta_darts),
        train_config(), train_config(recipe=modern, accumulate=2),
    ],
    ids=["darts", "pc-darts", "gdas", "beta-darts", "train", "modern"],
)  # fmt: skip
def test_compiled_kernels_agree(config, monkeypatch):
    compiled()
    found, _ = proof(config, StepForm("native", "native"), monkeypatch)
    assert found.agrees and max(found.errors.values()) < 0.01 and found.seconds > 0


def test_the_second_order_agrees_where_kernels_compute_it(monkeypatch):
    compiled()
    found, _ = proof(search_config(order=2), StepForm("native", "native"), monkeypatch)
    assert found.agrees


@pytest.mark.parametrize(
    ("config", "flow"),
    [
        (search_config(), "plain"),
        (search_config(), "shared"),
        (search_config(published.gdas), "plain"),
        (train_config(), "plain"),
    ],
    ids=["search", "shared", "gdas", "train"],
)
def test_replayed_steps_agree(config, flow, monkeypatch):
    """Steps 4 to 6 are replayed, from the reference's state: buffers are filled in place and nothing is recorded anew."""
    tape = Tape()
    found, _ = proof(config, StepForm("graph", flow, True), monkeypatch, steps=6, tape=tape)
    assert found.agrees and max(found.errors.values()) < 0.01, found
    assert tape.recorded == 1 and tape.replayed == 4  # three compared, one timed


def test_a_replay_of_something_else_is_found(monkeypatch):
    class Forgetful(Tape):
        """Replays all but the last operations."""

        def _replay(self, tape):
            super()._replay(tape[: len(tape) // 2])

    found, _ = proof(search_config(), StepForm("graph", graph=True), monkeypatch, steps=6, tape=Forgetful())
    assert not found.agrees and "differ from the plain float32 step" in found.why


def test_a_step_that_cannot_be_recorded_says_so(monkeypatch):
    class Refusing(Tape):
        def record(self, run):
            raise RuntimeError("operation not permitted when stream is capturing: item\nmore")

    found, _ = proof(search_config(), StepForm("graph", graph=True), monkeypatch, steps=6, tape=Refusing())
    assert not found.agrees
    assert found.why == "recording a step failed (operation not permitted when stream is capturing: item)"


@pytest.mark.parametrize(
    ("form", "why"),
    [
        (StepForm("graph", graph=True), "they need a CUDA device, this is cpu"),
        (StepForm("triton", "gpu"), "Triton"),
        (StepForm("odd", "odd"), "unknown form 'odd'"),
    ],
)
def test_forms_that_this_device_has_not(form, why, monkeypatch):
    found, _ = proof(search_config(), form, monkeypatch, steps=1)
    assert not found.agrees and why in found.why


def test_a_wrong_kernel_is_found(monkeypatch):
    """A form of cells whose nodes are off by a tenth. BatchNorms hide that from all layers but the last."""
    right = cell_form("shared")

    def flow(dag, edges, inputs, mix, stride):
        states = right.flow(dag, edges, inputs, mix, stride)
        return [*inputs, *(1.1 * node for node in states[len(inputs) :])]

    forms = {"shared": replace(right, flow=flow), "plain": cell_form("plain")}
    monkeypatch.setattr(provable_steps, "cell_form", forms.get)
    found, _ = proof(search_config(), StepForm("shared", "shared"), monkeypatch)
    assert not found.agrees and "differ from the plain float32 step" in found.why


def test_a_penalty_on_cost_is_left_out():
    step = make(settings(search_config(penalty=Parameters())), None)
    assert step.task.cost_constraint is None and step.task.regulariser is None


def test_networks_without_cells_have_one_form():
    with pytest.raises(OcheError, match="no cells that compute in the form 'shared'"):
        provable_steps._set_flow(torch.nn.Linear(1, 1), "shared", torch.device("cpu"))
