"""Every public call of Python, with every argument of every wrong type: an `OcheError` of one line, or success."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

import oche
from oche.core.architecture import Cell, Dag
from oche.core.errors import OcheError
from oche.core.genotypes import GENOTYPES, resolve
from oche.core.optimizers import Adam, Sgd
from oche.core.registry import COMPONENTS
from oche.data import Augment
from oche.deploy.export import Export
from oche.deploy.predict import predict
from oche.methods.cost_constraints import CostTarget
from oche.methods.recipe import SearchRecipe
from oche.methods.relaxations import Softmax
from oche.runs.config import SearchConfig, TrainConfig
from oche.training import language_recipes

WRONG = {
    "None": None,
    "int": -3,
    "huge": 10**400,
    "float": 2.5,
    "nan": float("nan"),
    "inf": float("inf"),
    "bool": True,
    "text": "no such thing",
    "empty": "",
    "zero byte": "a\0b",
    "long": "x" * 5000,
    "bytes": b"digits",
    "list": [1, "a", None],
    "dict": {"a": 1},
    "object": object(),
    "tensor": torch.arange(5000.0),
    "array": np.zeros((50, 100)),
    "lambda": lambda *args, **more: None,
    "class": Softmax,
    "module": np,
    "path": Path("no/such/path"),
    "complex": 1j,
    "set": {1},
}


def public() -> dict[str, object]:
    """Every function and class that users call, by its name."""
    found = {}
    for module in (oche, oche.methods, oche.spaces, oche.training, oche.data):
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value) or inspect.isclass(value):
                found[f"{module.__name__}.{name}"] = value
    found |= {f"component {name}": c for name, c in COMPONENTS.items() if isinstance(c, type)}
    more = (
        oche.Genotype.parse, oche.Run.open, oche.genotypes.get, resolve, oche.export.export, Export, predict, Sgd, Adam, Cell,
        Dag, CostTarget, SearchRecipe, SearchConfig, TrainConfig, Augment, language_recipes.recurrent,
        language_recipes.recurrent_small,
    )  # fmt: skip
    found |= {getattr(value, "__qualname__", str(value)): value for value in more}
    abstract = {"oche.OcheError", "oche.data.Split", "oche.spaces.Space", "oche.spaces.EdgeBuilder"}
    return {name: call for name, call in found.items() if name not in abstract}


PUBLIC = public()
SPLIT = oche.data.Resident(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]))
TEXT = torch.arange(20) % 3
SOUND = {
    "what": "DARTS_V2",
    "path": "no/such/run",
    "name": "DARTS_V2",
    "genotype": GENOTYPES["DARTS_V2"].genotype,
    "classes": ("a", "b"),
    "folder": "no/such/folder",
    "edges": (("skip_connect", 0, 1),),
    "concat": (1,),
    "cells": {"cell": Cell((("skip_connect", 0, 1),), (1,))},
    "text": str(GENOTYPES["DARTS_V2"].genotype),
    "split": SPLIT,
    "batch": 2,
    "seed": 0,
    "epoch": 0,
    "n": 3,
    "fraction": 0.5,
    "x": torch.zeros(2, 1, 8, 8, dtype=torch.uint8),
    "mean": (0.5,),
    "std": (0.5,),
    "images": torch.zeros(4, 1, 8, 8, dtype=torch.uint8),
    "labels": torch.tensor([0, 1, 0, 1]),
    "limit": None,
    "paper": "a paper",
    "year": 2026,
    "differs": "in nothing",
    "make": lambda **fields: SearchRecipe(),
    "parts": (oche.methods.METHODS["beta-darts"].make().method.penalty,),
    "space": oche.spaces.darts(channels=2, cells=3, nodes=2),
}  # a value for every argument without a default, by its name


def sound_arguments(call) -> dict[str, object]:
    """Return an argument for each parameter of ``call`` that has no default; those that are missing fail as a need."""
    wanted = [p for p in inspect.signature(call).parameters.values() if p.default is p.empty]
    return {p.name: SOUND[p.name] for p in wanted if p.kind is not p.VAR_KEYWORD and p.name in SOUND}


def arguments(call) -> list[str]:
    """Return the names of the arguments of ``call``; behind ** also some fields of what it makes."""
    parameters = inspect.signature(call).parameters.values()
    names = [p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    open_ = any(p.kind is p.VAR_KEYWORD for p in parameters)
    return names + ["epochs", "batch", "relax", "channels", "budget", "device", "limit", "plugins"] * open_


@pytest.fixture
def nothing_starts(monkeypatch, tmp_path):
    """Calls that would work for long end with an error instead; files go to a folder that is thrown away."""

    def started(*args, **fields):
        raise OcheError("started")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("oche.api.run_search", started)
    monkeypatch.setattr("oche.api.run_train", started)
    monkeypatch.setattr("oche.api.run_fit", started)


def refused(call, given: dict[str, object]) -> str:
    """Return the message of the `OcheError` that ``call`` raises; "" where it accepts ``given``."""
    try:
        made = call(**given)
        if inspect.isgenerator(made):
            next(made, None)
    except OcheError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_call_refuses_every_wrong_type_in_one_line(name, nothing_starts):
    call = PUBLIC[name]
    for argument in arguments(call):
        for kind, value in WRONG.items():
            said = refused(call, {**sound_arguments(call), argument: value})
            assert len(said) < 1500 and "\n" not in said, (argument, kind, said)
