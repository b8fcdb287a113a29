"""The typed options of oche.search and oche.train are those that the functions take."""

import json
import subprocess
import sys
from dataclasses import fields

import pytest

from oche.methods.method import Method
from oche.methods.recipe import SearchRecipe
from oche.runs.config import Common, SearchConfig, TrainConfig
from oche.runs.option_types import CommonOptions, SearchOptions, TrainOptions
from oche.training.image_recipes import Recipe
from oche.training.language_recipes import LanguageRecipe
from paths import ROOT


def names(*kinds: type) -> set[str]:
    return {f.name for kind in kinds for f in fields(kind)}


def test_every_field_is_an_option_and_every_option_a_field():
    assert CommonOptions.__annotations__.keys() == names(Common) - {"data"}
    search = names(SearchConfig, SearchRecipe, Method) - {"data", "space", "method", "search"}
    assert SearchOptions.__annotations__.keys() == search
    train = names(TrainConfig, Recipe, LanguageRecipe) - {"data", "genotype", "recipe", "train"}
    assert TrainOptions.__annotations__.keys() == train


PROGRAM = """
import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset
import oche

x, y = torch.zeros(4, 3, 8, 8), torch.zeros(4)
set_ = TensorDataset(x, y)
oche.search("digits", method="gdas", space="nb201", epochs=3, budget="3m", seed=1, size=32, out="x")
oche.search((x, y), method=oche.methods.darts(), on_epoch=print, weight_optimizer=oche.core.optimizers.Sgd())
oche.search(set_, layout="NHWC", on_epoch=[print, lambda record: "stop"])
oche.search({"train": DataLoader(set_), "test": (np.zeros(3), [0, 1, 2])})
oche.train("runs/x", set_, recipe="small", epochs=3, cutout=8).summary
oche.resume("runs/x", data=set_, on_epoch=print)
oche.evaluate("runs/x", (x, y))
oche.build("DARTS_V2", num_classes=3, channels=8).forward
oche.build("DARTS_V2", classes=3)
oche.data.load((x, y), holdout=0.1)
oche.ImageClassifier(budget="3m").fit(x, y).predict(x)
wrong = [
    oche.search("digits", epoch=3),
    oche.search("digits", seed="one"),
    oche.search(3),
    oche.search("digits", on_epoch=3),
    oche.train("runs/x", cut_out=8),
    oche.train("runs/x", cells="many"),
    oche.build("DARTS_V2", class_count=3),
    oche.ImageClassifier(time="3m"),
]
"""


@pytest.mark.slow
def test_a_type_checker_sees_wrong_names_and_values(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        PROGRAM.replace("oche.core.optimizers.Sgd()", "Sgd()").replace(
            "import oche\n", "import oche\nfrom oche.core.optimizers import Sgd\n", 1
        )
    )
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(ROOT)], "typeCheckingMode": "basic"}))
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "-p", str(tmp_path), "--pythonpath", sys.executable],
        capture_output=True, text=True,
    )  # fmt: skip
    found = [d for d in json.loads(done.stdout)["generalDiagnostics"] if d["severity"] == "error"]
    lines = program.read_text().splitlines()
    first = lines.index("wrong = [") + 1
    assert {d["range"]["start"]["line"] for d in found} == set(range(first, first + 8)), done.stdout
