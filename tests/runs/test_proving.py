"""Which runs are proved, which form they get, and what their directories remember."""

import json
from dataclasses import replace

import pytest
import torch

import oche
import small_runs
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.devices.engine import Engine, ProvedForm
from oche.kernels.cpu.build import Unavailable
from oche.methods import published
from oche.proof import cache
from oche.proof.prove import Stopped
from oche.proof.values import BF16, Proof, StepForm, Verdict
from oche.runs import proving
from oche.runs.config import SearchConfig, TrainConfig
from oche.runs.directory import NullRunDir
from oche.runs.plan import SearchPlan, TrainPlan
from oche.training.image_recipes import darts, small
from tiny_images import dataset, space

CELL = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1)], normal_concat=[2], "
    "reduce=[('max_pool_3x3', 0), ('skip_connect', 1)], reduce_concat=[2])"
)


class Directory(NullRunDir):
    """A run directory in memory."""

    def __init__(self, path, environment=None):
        super().__init__(path)
        self.environment = environment or {}

    def read_json(self, name):
        return dict(self.environment)

    def write_json(self, name, value):
        self.environment = json.loads(json.dumps(value))


class Lines(Log):
    def __init__(self):
        super().__init__(quiet=True)
        self.lines = []

    def say(self, text):
        self.lines.append(text)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OCHE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OCHE_PROOF", "always")
    monkeypatch.setattr(proving, "check_native", lambda: None)


def search_plan(method=published.darts, **fields):
    config = SearchConfig(space=space(), search=method(**{"batch": 8, "epochs": 2, **fields}), device="cpu")
    return SearchPlan(config, dataset(), None)


def train_plan(make=small, **fields):
    return TrainPlan(TrainConfig(genotype=CELL, train=make(**{"batch": 8, **fields}), device="cpu"), dataset())


def proof(form, seconds, why=""):
    return Proof(form, not why, None if why else seconds, why=why)


@pytest.fixture
def answers(monkeypatch):
    """`prove` takes times and refusals from this mapping, and counts."""
    given = {"native": 0.1, "plain": 0.4, "asked": 0}

    def prove(step, forms, stopped):
        given["asked"] += 1
        found = [(form, given.get(form.name, 1.0)) for form in forms]
        proofs = (proof(form, 0, x) if isinstance(x, str) else proof(form, x) for form, x in found)
        return Verdict(step.title, tuple(proofs), given.get("obstacle", ""))

    monkeypatch.setattr(proving, "prove", prove)
    return given


def choose(path, plan, engine=None, run=None, log=None):
    run = run or Directory(path)
    return proving.with_proved_form(run, plan, engine or Engine("cpu"), log or Lines(), lambda: False), run


def test_the_fastest_that_agrees_is_taken_and_recorded(tmp_path, answers):
    log = Lines()
    engine, run = choose(tmp_path, search_plan(), log=log)
    why = "fused, on compiled kernels (proved here, 4.0 times as fast as plain modules)"
    assert engine.proved == ProvedForm("native", "native", False, why) and not engine.replays
    record = run.environment["proof"]
    assert record["form"] == {"name": "native", "flow": "native", "graph": False, "why": why}
    assert record["machine"] == cache.describe_machine(torch.device("cpu"))
    assert record["forms"]["plain"]["seconds"] == 0.4 and record["step"] == "search (darts), batch 8, 8x8"
    assert len(log.lines) == 1 and log.lines[0].startswith("trying 2 forms of a step on ")


def test_a_refuted_form_falls_back_to_plain_with_one_line(tmp_path, answers):
    answers["native"] = "the process was ended by SIGSEGV"
    log = Lines()
    engine, _ = choose(tmp_path, search_plan(), log=log)
    assert engine.proved.flow == "plain" and "not accepted: native" in engine.proved.why
    assert log.lines[1:] == ["proof: native: the process was ended by SIGSEGV"]


def test_the_verdict_is_kept_for_the_next_run(tmp_path, answers):
    first, _ = choose(tmp_path, search_plan())
    log = Lines()
    again, _ = choose(tmp_path, search_plan(), log=log)
    assert again.proved == first.proved and answers["asked"] == 1 and not log.lines
    choose(tmp_path, search_plan(published.gdas))
    assert answers["asked"] == 2


def test_a_kept_verdict_serves_short_runs_too(tmp_path, answers, monkeypatch):
    choose(tmp_path, search_plan())
    monkeypatch.setenv("OCHE_PROOF", "auto")
    assert choose(tmp_path, search_plan())[0].proved.name == "native"
    assert choose(tmp_path, search_plan(published.gdas))[0].proved is None and answers["asked"] == 1


def test_plain_modules_must_be_clearly_faster_on_a_cpu(tmp_path, answers):
    answers["plain"] = 0.08
    assert choose(tmp_path, search_plan())[0].proved.name == "native"
    answers["plain"] = 0.06
    assert choose(tmp_path, search_plan(published.gdas))[0].proved.name == "plain"


def test_nothing_to_compare_changes_nothing(tmp_path, answers, monkeypatch):
    answers["obstacle"] = "the process ended with code 1"
    monkeypatch.setattr(proving, "prove", lambda step, forms, stopped: Verdict(step.title, (), answers["obstacle"]))
    log = Lines()
    engine, run = choose(tmp_path, search_plan(), log=log)
    assert engine.proved is None and run.environment["proof"]["form"] is None
    assert log.lines[1:] == ["proof: no form could be tried: the process ended with code 1"]


def test_stopping_ends_the_proof(tmp_path, monkeypatch):
    def prove(step, forms, stopped):
        raise Stopped

    monkeypatch.setattr(proving, "prove", prove)
    engine, run = choose(tmp_path, search_plan())
    assert engine.proved is None and "proof" not in run.environment


@pytest.mark.parametrize("engine", [Engine("cpu", fused="plain"), Engine("cpu", fused="fused")])
def test_an_engine_that_was_chosen_stays(tmp_path, answers, engine):
    assert choose(tmp_path, search_plan(), engine)[0] is engine and not answers["asked"]


# --- resumed runs


def test_a_resumed_run_keeps_its_form(tmp_path, answers):
    first, run = choose(tmp_path, search_plan())
    answers["native"] = "wrong"
    again, _ = choose(tmp_path, search_plan(), run=Directory(tmp_path, run.environment))
    assert again.proved == first.proved and answers["asked"] == 1


def test_on_another_machine_it_is_proved_anew(tmp_path, answers):
    _, run = choose(tmp_path, search_plan())
    run.environment["proof"]["machine"]["torch"] = "2.0"
    run.environment["proof"]["form"]["flow"] = "shared"
    assert choose(tmp_path, search_plan(), run=Directory(tmp_path, run.environment))[0].proved.flow == "native"


def test_a_run_of_an_earlier_version_goes_on_as_it_began(tmp_path, answers, monkeypatch):
    monkeypatch.setattr(proving, "latest_step", lambda path: 3)
    assert choose(tmp_path, search_plan())[0].proved is None and not answers["asked"]


def test_a_damaged_record_is_as_none(tmp_path, answers):
    machine = cache.describe_machine(torch.device("cpu"))
    run = Directory(tmp_path, {"proof": {"machine": machine, "form": {"names": 3}}})
    assert choose(tmp_path, search_plan(), run=run)[0].proved is None


# --- which forms


class Gpu(Engine):
    """An engine of a GPU that is not there."""

    device = torch.device("cuda")


def names(plan, engine=Gpu("cuda")):
    step, forms = proving.step_of(plan, engine)
    return step, [form.name for form in forms]


ALL = ["plain", "graph", "shared", "graph-shared", "triton", "graph-triton"]


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (search_plan(), ALL),
        (search_plan(published.gdas), ["plain", "graph", "shared", "triton"]),
        (search_plan(published.darts_exact), ["plain", "graph", "shared", "graph-shared"]),
        (search_plan(precision="bf16"), ["plain", "graph"]),
        (train_plan(), ["plain", "graph"]),
    ],
    ids=["darts", "gdas", "exact", "bf16", "train"],
)
def test_forms_on_a_gpu(plan, expected):
    step, found = names(plan)
    assert found == expected and step.steps == 6 and not step.plain
    assert step.settings["config"][step.settings["kind"]]["batch"] == 8
    assert (step.bounds == BF16) is ("bf16" in step.title)


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (search_plan(), ["native", "plain"]),
        (search_plan(published.darts_exact), ["shared", "plain"]),
        (search_plan(precision="bf16"), ["plain"]),
        (train_plan(darts), ["native", "plain"]),
    ],
    ids=["darts", "exact", "bf16", "train"],
)
def test_forms_on_a_cpu(plan, expected):
    step, found = names(plan, Engine("cpu"))
    assert found == expected and step.steps == 2
    assert step.settings["config"][step.settings["kind"]]["batch"] == 4


def test_without_compiled_kernels(monkeypatch):
    def refuse():
        raise Unavailable("no compiler")

    monkeypatch.setattr(proving, "check_native", refuse)
    assert names(search_plan(), Engine("cpu"))[1] == ["plain"]


@pytest.mark.parametrize(
    ("fields", "worth"),
    [
        ({"epochs": 16_000}, False), ({"epochs": 17_000}, True), ({"steps": 24_999}, False), ({"steps": 25_000}, True),
        ({"budget": "9m"}, False), ({"budget": "10m"}, True),
    ],
)  # fmt: skip
def test_long_runs_are_worth_a_proof(monkeypatch, fields, worth):
    """A search of 12 images an epoch, or 8 a step."""
    monkeypatch.setenv("OCHE_PROOF", "auto")
    assert proving.worth_proving(search_plan(**fields)) is worth
    monkeypatch.setenv("OCHE_PROOF", "never")
    assert not proving.worth_proving(search_plan(**fields))


# --- the engine


def test_the_engine_takes_the_proved_form():
    net = space().supernet()
    engine = Engine("cpu", proved=ProvedForm("shared", "shared", why="because"))
    assert engine.apply_form(net) == "because"
    assert {m.form.name for m in net.modules() if hasattr(m, "form")} == {"shared"}
    assert replace(engine, fused="plain").apply_form(net) == "as plain modules, as asked"
    assert engine.apply_form(torch.nn.Linear(1, 1)) == ""


def test_a_proved_form_that_is_gone_is_replaced(monkeypatch):
    def gone(net, name, why):
        raise Unavailable("no compiler any more")

    monkeypatch.setattr("oche.devices.engine.apply_named_form", gone)
    monkeypatch.delenv("OCHE_CACHE")  # the kernels that are compiled already
    assert Engine("cpu", proved=ProvedForm("native", "native")).apply_form(space().supernet()).startswith("fused")


def test_graphs_are_replayed_where_they_were_proved():
    assert Gpu("cuda", proved=ProvedForm("graph", graph=True)).replays and Gpu("cuda", fused="fused").replays
    assert not Gpu("cuda").replays and not Gpu("cuda", proved=ProvedForm("triton", "gpu")).replays


@pytest.mark.slow  # a child process
def test_a_whole_run_is_proved(tmp_path, quick, monkeypatch):
    run = small_runs.search(tmp_path / "x", method=oche.methods.darts_exact(batch=16, steps=3), device="cpu")
    record = json.loads((run.path / "environment.json").read_text())["proof"]
    assert record["forms"]["shared"]["agrees"] and record["forms"]["shared"]["errors"]["gradients"] < 0.01
    assert record["form"]["name"] in ("shared", "plain")
    assert record["form"]["why"] == json.loads((run.path / "space.json").read_text())["computes"]
    assert len([*cache.all_verdicts()]) == 1


def test_a_component_that_no_file_can_name(tmp_path, answers, monkeypatch):
    def refuse(value):
        raise OcheError("space: Own is not registered")

    monkeypatch.setattr(proving, "to_dict", refuse)
    log = Lines()
    assert choose(tmp_path, search_plan(), log=log)[0].proved is None
    assert log.lines == ["no form is tried before the run: space: Own is not registered"]


def test_forms_have_names_of_the_benchmark():
    from oche.bench.settings import FORMS

    for form in [proving.PLAIN, *proving.ON_CPU.values(), *proving.ON_CUDA.values()]:
        assert isinstance(form, StepForm)
        assert (FORMS[form.name].flow, FORMS[form.name].graph) == (form.flow, form.graph)
