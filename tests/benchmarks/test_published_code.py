"""The published code as a contender, by a small checkout in its layout."""

from __future__ import annotations

import re
import sys

import pytest
import torch
from torch import nn

from bench_settings import SIZES, setting
from oche.bench.steps import published_code
from oche.bench.table import forms_for
from oche.cli import main as cli
from oche.core.errors import OcheError

pytestmark = pytest.mark.slow  # processes


def words(**fields) -> list[str]:
    """The same as words of the command line."""
    given = {**SIZES, **fields}
    return [w for name, value in given.items() for w in (f"--{name.replace('_', '-')}", *str(value).split())]


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


def test_an_installed_package_says_what_to_do(monkeypatch):
    published_code.cache_clear()
    monkeypatch.setattr("oche.bench.steps.__file__", "/site-packages/oche/bench/steps.py")
    with pytest.raises(OcheError, match="--reference works in a checkout of oche only"):
        published_code()
