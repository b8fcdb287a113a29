"""`oche bench`: what takes part, that turns are fair, the numbers of the table, the published code, and what cannot run."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from oche.bench.interleaved import FormProcess, Result, Worker, measure_forms, profile_step
from oche.bench.settings import FORMS, BenchConfig, Form
from oche.bench.steps import NchwEngine, OwnSteps, published_code, steps_of
from oche.bench.table import baseline, forms_for, markdown, table_lines
from oche.cli import main as cli
from oche.core.errors import OcheError
from oche.core.memory import peak_memory
from oche.devices.engine import Engine
from paths import ROOT

SIZES = dict(
    batch=2, channels=4, cells=3, nodes=1, candidates=4, train_channels=4, train_cells=3, image=8, device="cpu"
)


def setting(**fields) -> BenchConfig:
    return BenchConfig(**{**SIZES, **fields})


def words(**fields) -> list[str]:
    """The same as words of the command line."""
    given = {**SIZES, **fields}
    return [w for name, value in given.items() for w in (f"--{name.replace('_', '-')}", *str(value).split())]


# --- what is asked


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--works frist", "unknown work 'frist'; did you mean 'first'?"),
        ("--forms plain fused", "unknown form 'fused'; did you mean 'shared'?; known: plain-nchw, plain, shared"),
        ("--forms plain plain", "--forms plain plain names one twice"),
        ("--rounds 0", "rounds=0 cannot be measured; use at least 1"),
        ("--batch 1", "batch=1 cannot be measured; use at least 2"),
        ("--threads -1", "threads=-1 cannot be measured; use at least 0"),
        ("--reference .", "--reference . holds no cnn/model_search.py; give a checkout"),
        ("--out .", "--out . is a folder; give the name of a file"),
        ("--device tpu", "device 'tpu' is not usable here"),
    ],
)
def test_mistakes_are_found_before_anything_is_measured(line, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("oche.bench.table.measure_forms", lambda *args, **fields: pytest.fail("it measures"))
    assert cli.main(["bench", *line.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith("oche: ") and error.count("\n") == 1 and said in error


def test_by_default_all_forms_for_the_device_take_part():
    assert forms_for(setting(), "first", "cpu") == ("plain-nchw", "plain", "shared", "native")
    assert forms_for(setting(), "first", "cuda") == (
        "plain-nchw", "plain", "shared", "triton", "graph", "graph-shared", "graph-triton",
    )  # fmt: skip
    assert forms_for(setting(forms=("native",)), "first", "cuda") == ("native",)


# --- steps


def test_forms_place_tensors_as_they_say():
    for form, layout in (("plain-nchw", torch.contiguous_format), ("plain", torch.channels_last)):
        steps = OwnSteps(setting(), "first", FORMS[form])
        assert type(steps.engine) is (Engine if layout is torch.channels_last else NchwEngine)
        x = steps.engine.images(torch.zeros(2, 3, 8, 8))
        weight = next(p for p in steps.task.net.parameters() if p.dim() == 4 and p.shape[1] > 1 and p.shape[2] > 1)
        assert x.is_contiguous(memory_format=layout) and weight.is_contiguous(memory_format=layout)
        assert not (layout is torch.contiguous_format and weight.is_contiguous(memory_format=torch.channels_last))


@pytest.mark.parametrize("work", ["first", "gdas", "pc-darts", "train"])
def test_every_step_trains_and_goes_on_into_the_next_epoch(work):
    steps = steps_of(setting(channels=8), work, "plain")
    before = [p.clone() for p in steps.task.net.parameters()]
    logits = [a.detach().clone() for a in getattr(steps.task, "logits", ())]
    for _ in range(steps.task.per_epoch() + 1):
        steps()
    assert steps.sound() and steps.done == steps.task.per_epoch() + 1
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
    with pytest.raises(OcheError, match="one candidate an edge is recorded in a form of its own; see the form 'graph'"):
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


# --- turns


class Recorded:
    """Stands for a child process; the third form ends without a word at its second turn."""

    asked: list

    def __init__(self, given, work, form):
        self.form = form

    def request(self, result, what, value):
        Recorded.asked.append((self.form, what))
        if what == "turn" and not (self.form == "native" and len(result.times) == 1):
            result.times.append(len(Recorded.asked))
        elif what == "turn":
            result.note, result.failed = "the process was ended (-9); too little memory?", True

    def end(self):
        Recorded.asked.append((self.form, "end"))


def test_forms_take_turns_and_nobody_is_always_first(monkeypatch):
    Recorded.asked = []
    monkeypatch.setattr("oche.bench.interleaved.FormProcess", Recorded)
    found = measure_forms(setting(rounds=4), "first", ("plain-nchw", "plain", "native"), profile=True)
    turns = [form for form, what in Recorded.asked if what == "turn"]
    a, b, c = "plain-nchw", "plain", "native"
    assert turns == [a, b, c, b, c, a, a, b, a, b]  # c ends in the second round
    assert [form for form, what in Recorded.asked if what == "ready"] == [a, b, c]
    assert [form for form, what in Recorded.asked if what == "profile"] == [a, b]
    assert [form for form, what in Recorded.asked if what == "end"] == [a, b, c]
    assert [len(found[form].times) for form in (a, b, c)] == [4, 4, 1] and found[c].failed


def test_a_process_that_ends_without_a_word_is_a_row():
    class Ended:
        exitcode = -9

        def join(self):
            pass

    import multiprocessing

    contender = FormProcess.__new__(FormProcess)
    contender.pipe, theirs = multiprocessing.Pipe()
    contender.process = Ended()
    theirs.close()
    result = Result()
    contender.request(result, "turn", 1)
    assert result.failed and "(-9); too little memory for all --forms at once?" in result.note and result.times == []


# --- the table


RESULTS = {
    "first": {
        "plain-nchw": Result([4.0, 2.0, 3.0], 2**31),
        "plain": Result([1.5, 1.0, 2.0], 2**30),
        "native": Result(note="no compiler"),
    },
    "gdas": {"plain-nchw": Result([1.0], None), "plain": Result([0.0125], 2**29)},
}


def test_numbers_of_the_table():
    rows = [line.cells for line in table_lines(setting(batch=6), RESULTS)]
    assert rows == [
        ("first", "plain-nchw", "3,000 (2,000–4,000)", "2", "2.00 GiB", "1.00", ""),
        ("first", "plain", "1,500 (1,000–2,000)", "4", "1.00 GiB", "2.00", ""),
        ("first", "native", "–", "", "", "", ""),
        ("gdas", "plain-nchw", "1,000 (1,000–1,000)", "6", "unknown", "1.00", "3.00"),
        ("gdas", "plain", "12.5 (12.5–12.5)", "480", "0.50 GiB", "80.00", "240.00"),
    ]
    assert [line.best for line in table_lines(setting(), RESULTS)] == [False, True, False, False, True]


def test_the_published_code_is_the_baseline_where_it_ran():
    reference = Result([9.0])
    assert baseline({"reference": reference, **RESULTS["first"]}) == 9.0
    assert baseline({"reference": Result(note="no"), **RESULTS["first"]}) == 3.0
    assert baseline({"plain": Result([1.0])}) is None


def test_the_page_repeats_the_measurement_and_names_no_place():
    page = markdown(setting(reference=(Path("/some/where/darts"),), works=("first", "gdas"), rounds=3), RESULTS)
    assert "`oche bench --works first gdas --reference darts --batch 2 --channels 4" in page and "/some" not in page
    assert "| gdas | plain | 12.5 (12.5–12.5) |" in page and "first, native: no compiler" in page
    assert "n = 3 steps each" in page and "- plain: plain modules, channels_last" in page


# --- the published code

CODE = {
    "operations.py": """
import torch.nn as nn

OPS = {'conv': lambda C: nn.Conv2d(C, C, 3, padding=1)}
""",
    "genotypes.py": """
from collections import namedtuple

Genotype = namedtuple('Genotype', 'normal')
DARTS_V2 = Genotype(normal=['conv'])
""",
    "model_search.py": """
import torch
import torch.nn as nn
import torch.nn.functional as F
from operations import *
from torch.autograd import Variable

class Network(nn.Module):
  def __init__(self, C, num_classes, layers, criterion, steps=4):
    super(Network, self).__init__()
    self._criterion = criterion
    self.stem, self.op, self.out = nn.Conv2d(3, C, 1), OPS['conv'](C), nn.Linear(C, num_classes)
    self.alphas = Variable(1e-3*torch.randn(2).cuda(), requires_grad=True)

  def forward(self, input):
    x = self.stem(input)
    w = F.softmax(self.alphas, dim=-1)
    return self.out((w[0] * x + w[1] * self.op(x)).mean((2, 3)))

  def _loss(self, input, target):
    return self._criterion(self(input), target)

  def arch_parameters(self):
    return [self.alphas]
""",
    "architect.py": """
import torch

class Architect(object):
  made = []

  def __init__(self, model, args):
    self.model, self.seen = model, []
    self.optimizer = torch.optim.Adam(model.arch_parameters(), lr=args.arch_learning_rate, weight_decay=args.arch_weight_decay)
    Architect.made.append(self)

  def step(self, input_train, target_train, input_valid, target_valid, eta, network_optimizer, unrolled):
    self.seen.append((eta, args_of(network_optimizer), unrolled))
    self.optimizer.zero_grad()
    with torch.no_grad():  # signatures that torch 2 calls deprecated
      for p in self.model.parameters():
        p.data.add_(torch.tensor(0.5), p.data)
        p.data.sub_(1/3, p.data)
    self.model._loss(input_valid.cuda(), target_valid).backward()
    self.optimizer.step()

def args_of(optimizer):
  group = optimizer.param_groups[0]
  return group['momentum'], group['weight_decay']
""",
    "model.py": """
import torch.nn as nn
from operations import *
from utils import drop_path

class NetworkCIFAR(nn.Module):
  def __init__(self, C, num_classes, layers, auxiliary, genotype):
    super(NetworkCIFAR, self).__init__()
    print(C, layers, auxiliary)
    self.stem, self.op = nn.Conv2d(3, C, 1), OPS[genotype.normal[0]](C)
    self.out, self.auxiliary_head = nn.Linear(C, num_classes), nn.Linear(C, num_classes)

  def forward(self, input):
    h = drop_path(self.op(self.stem(input)), self.drop_path_prob).mean((2, 3))
    return self.out(h), self.auxiliary_head(h)
""",
}
NAMES = ["utils", *(file.removesuffix(".py") for file in CODE)]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout in the published layout, small; what importing it changes is put back."""
    path = tmp_path / "darts"
    (path / "cnn").mkdir(parents=True)
    for name, text in CODE.items():
        (path / "cnn" / name).write_text(text)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(torch.Tensor, "cuda", torch.Tensor.cuda)
    monkeypatch.setattr(nn.Module, "cuda", nn.Module.cuda)
    assert not {*NAMES} & sys.modules.keys()
    yield path
    for name in NAMES:
        sys.modules.pop(name, None)


@pytest.mark.filterwarnings("ignore:This overload of")
@pytest.mark.parametrize(("work", "unrolled"), [("first", False), ("second", True)])
def test_the_published_search_takes_its_steps(work, unrolled, checkout):
    step = published_code().published(setting(reference=(checkout,), nodes=None, candidates=None), work)
    architect = sys.modules["architect"].Architect.made[-1]
    net = architect.model
    weights, logits = [p.clone() for p in net.parameters()], net.alphas.detach().clone()
    step()
    step()
    assert architect.seen == [(0.025, (0.9, 3e-4), unrolled)] * 2 and step.sound()
    assert not torch.equal(net.alphas, logits)
    assert all(not torch.equal(p, w) for p, w in zip(net.parameters(), weights, strict=True))
    net.out.weight.data.fill_(float("nan"))
    step()
    assert not step.sound()


def test_the_published_training_takes_its_steps(checkout, capsys):
    step = published_code().published(
        setting(reference=(checkout,), image=32, train_channels=5, train_cells=3), "train"
    )
    assert capsys.readouterr().out == ""  # what it prints is not the table's
    step()
    assert step.sound()
    x = torch.ones(1000, 2, 3, 3)
    y = sys.modules["utils"].drop_path(x, 0.25)
    assert y is x  # in place, as published
    assert {round(v, 4) for v in x.unique().tolist()} == {0.0, round(1 / 0.75, 4)}
    assert (x.amax((1, 2, 3)) == x.amin((1, 2, 3))).all()  # whole images
    assert 0.7 < float((x[:, 0, 0, 0] > 0).float().mean()) < 0.8


def test_checkouts_do_what_they_have_the_code_for(checkout, tmp_path):
    partial = tmp_path / "pc-darts"  # its code lies at the top, and weighs edges
    partial.mkdir()
    (partial / "model_search.py").write_text("self.betas_normal = None")
    both = setting(reference=(partial, checkout))
    assert [published_code().folder_for(both, work) for work in ("first", "train", "pc-darts", "gdas")] == [
        checkout / "cnn", checkout / "cnn", partial, None,
    ]  # fmt: skip
    assert forms_for(both, "pc-darts", "cpu")[0] == "reference" and "reference" not in forms_for(both, "gdas", "cpu")
    with pytest.raises(OcheError, match="the published code has no nodes=1"):
        published_code().published(setting(reference=(checkout,), candidates=None), "first")
    with pytest.raises(OcheError, match="the published code has no image=8"):
        published_code().published(setting(reference=(checkout,)), "train")


def test_from_the_command_to_the_page(checkout, tmp_path, capsys):
    out = tmp_path / "speed.md"
    line = words(works="first", forms="plain-nchw graph", reference=checkout, nodes=4, candidates=8, rounds=2)
    assert cli.main(["bench", *line, "--quiet", "--out", str(out)]) == 0
    shown, page = capsys.readouterr().out, out.read_text()
    assert "plain-nchw" in shown and "× baseline" in shown
    rows = re.findall(r"^\| first \| (\S+) \| ([\d.,]+|–) .*$", page, re.MULTILINE)
    assert [name for name, _ in rows] == ["reference", "plain-nchw", "graph"]
    assert rows[2][1] == "–" and "first, graph: only for cuda, and this is cpu" in page
    assert all(float(ms.replace(",", "")) > 0 for _, ms in rows[:2])


# --- memory, kernels


def test_peak_memory_is_that_of_the_process():
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("only Linux tells the memory in use")
    before = peak_memory()
    used = 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    block = torch.ones((before - used + 2**26) // 4)
    assert 2**25 < peak_memory() - before < 2**27
    del block
    assert peak_memory() - before > 2**25  # the most at any time


def test_kernels_of_a_step(monkeypatch):
    a = torch.ones(200, 200)

    def step():
        for _ in range(3):
            a @ a
        a.exp()

    rows = profile_step(step, torch.device("cpu"))
    assert {row["name"]: row["calls"] for row in rows}["aten::mm"] == 3
    assert [row["ms"] for row in rows] == sorted((row["ms"] for row in rows), reverse=True)
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    monkeypatch.setattr("oche.bench.interleaved.MAX_ROWS", 1)
    first, rest = profile_step(step, torch.device("cpu"))
    assert first["name"] == "aten::mm" and rest["name"] == "all others"
    assert first["share"] + rest["share"] == pytest.approx(1)


# --- growth


@pytest.fixture(scope="module")
def growth():
    file = ROOT / "benchmarks/growth.py"
    spec = importlib.util.spec_from_file_location("growth", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_growth_measures_each_point_once_and_finds_the_powers(growth, tmp_path, monkeypatch, capsys):
    asked = []

    def fake(given, work, forms, profile=False):
        asked.append(growth.name(given))
        seconds = 0.1 * given.batch * given.channels**2 * given.cells
        rows = [{"name": "a|b", "ms": 2.0, "share": 1.0, "calls": 3}] if profile else []
        return {form: Result([seconds, seconds, 9e9], 2**20 * given.batch, profile=rows) for form in forms}

    monkeypatch.setattr(growth, "measure_forms", fake)
    base = BenchConfig(works=("first",), batch=4, channels=4, cells=3, nodes=2, candidates=3)
    sizes = dict(batch=(2, 4, 8), channels=(2, 4), cells=(3,), nodes=(2,), candidates=(3,), forms=("plain", "native"))
    given = growth.Growth(tmp_path / "g", base, **sizes)
    growth.main(given)
    assert len(asked) == len({*asked}) == 4  # the base lies on every axis
    page = (tmp_path / "g.md").read_text()
    assert "| plain | 1.00 | 2.00 |  |  |  |" in page and "| a\\|b | 2.0 | 100.0 % | 3 |" in page
    assert "| batch 8 | native | 38.4 | 0.01 |" in page
    drawn = (tmp_path / "g.svg").read_text()
    assert all(axis in drawn for axis in growth.AXES) and "seconds a step" in drawn and "native" in drawn
    growth.main(given)
    assert len(asked) == 4  # what is there is not measured again
    assert len(json.loads((tmp_path / "g.json").read_text())) == 4


@pytest.mark.parametrize("power", [0.5, 1, 2.5])
def test_powers(growth, power):
    assert growth.exponent([(x, 3 * x**power) for x in (1, 2, 5, 8)]) == pytest.approx(power)
    assert growth.exponent([(4, 1.0)]) is None and growth.exponent([]) is None


def test_a_base_that_leaves_a_size_open_is_refused(growth, tmp_path):
    with pytest.raises(OcheError, match=r"the base leaves nodes open; give --base.nodes a number"):
        growth.main(growth.Growth(tmp_path / "g", BenchConfig(batch=4, channels=4, cells=3, candidates=3)))


PARENT = """
import multiprocessing, threading, time
from oche.bench.interleaved import exit_with_parent

def child():
    threading.Thread(target=exit_with_parent, daemon=True).start()
    time.sleep(600)

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=child, daemon=True)
    process.start()
    print(process.pid, flush=True)
    process.join()
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks processes up in /proc")
def test_a_step_under_way_ends_when_its_parent_is_killed(tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    parent = subprocess.Popen([sys.executable, str(tmp_path / "parent.py")], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = Path("/proc", parent.stdout.readline().strip())
    assert child.is_dir()
    parent.kill()
    parent.wait()
    end = time.monotonic() + 120
    while child.is_dir() and time.monotonic() < end:
        time.sleep(0.05)
    assert not child.is_dir()
