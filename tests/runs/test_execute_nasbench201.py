"""Searches and trainings of the NAS-Bench-201 space, from the command line to the report, and what its network lacks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import oche
from oche.cli.main import main
from oche.core.errors import OcheError
from oche.core.nasbench201 import EXAMPLE, parse
from oche.core.optimizers import Sgd
from oche.networks.nasbench201 import build
from oche.spaces import nb201
from oche.training.image_recipes import RECIPES, small

SPACE = ["--space", "nb201", "--space.channels", "2", "--space.cells", "1"]
QUICK = ["--limit", "60", "--search.batch", "16", "--search.steps", "3", "--quiet"]
CELL = parse(EXAMPLE)


def test_search_train_and_random_cells(tmp_path, quick):
    out = tmp_path / "x"
    assert main(["search", *SPACE, *QUICK, "--out", str(out)]) == 0
    run = oche.Run.open(out)
    assert [*run.genotype.cells] == ["cell"] and len(run.genotype.cells["cell"].edges) == 6
    size = ["--train.channels", "2", "--train.cells", "1", "--train.batch", "16", "--train.steps", "2"]
    assert main(["train", str(out), "--recipe", "nb201", *size, "--random", "2", "--quiet"]) == 0
    runs = [oche.Run.open(out / name) for name in ("train", "random-1", "random-2")]
    assert all(0 <= r.summary["test_acc"] <= 1 for r in runs)
    assert runs[0].genotype == run.genotype and len({str(r.genotype) for r in runs[1:]}) == 2
    assert runs[0].config.train.w == Sgd(lr=0.1, decay=5e-4, clip=0.0)


def test_the_search_says_how_to_go_on(tmp_path, quick, capsys):
    main(["search", *SPACE, *[word for word in QUICK if word != "--quiet"], "--out", str(tmp_path / "x")])
    assert f"oche train {tmp_path / 'x'} --recipe nb201" in capsys.readouterr().out


def test_the_benchmarks_recipe():
    r = RECIPES["nb201"]()
    assert (r.channels, r.cells, r.epochs, r.batch, r.auxiliary, r.drop_path, r.cutout) == (16, 5, 200, 256, 0, 0, 0)
    assert r.w == Sgd(lr=0.1, lr_min=0.0, momentum=0.9, decay=5e-4, clip=0.0)


def test_the_network_is_the_benchmarks():
    torch.manual_seed(0)
    built = oche.build(EXAMPLE, classes=10)
    torch.manual_seed(0)
    own = build(CELL, classes=10)
    state = own.state_dict()
    assert built.state_dict().keys() == state.keys()
    assert all(torch.equal(v, state[k]) for k, v in built.state_dict().items())
    assert built.macro.channels == 16 and built.macro.cells == 5


@pytest.mark.parametrize(
    ("field", "says"),
    [
        (dict(auxiliary=0.4), "no auxiliary tower; write auxiliary=False"),
        (dict(stem="imagenet"), "no other stem than one 3x3 convolution; write stem='cifar'"),
        (dict(head=(8,), reductions=(1,)), r"no reduction cells .* and no hidden layers .*; write reductions=None, head=\(\)"),
        (dict(widen="after"), "no other place to widen than between its stages; write widen='at'"),
    ],
)  # fmt: skip
def test_what_that_network_lacks_is_refused(field, says):
    from tiny import dataset

    recipe = replace(small(channels=2, cells=1), **field)
    with pytest.raises(OcheError, match=f"{says}.*--recipe nb201"):
        recipe.network(CELL, dataset())


def test_darts_cells_keep_their_defaults():
    assert oche.build("DARTS_V2", classes=3, channels=2).skeleton.cells == 20
    assert oche.build("DARTS_V2", classes=3, cells=3).skeleton.channels == 36
    assert nb201().recipe == "nb201" and oche.spaces.darts().recipe == "darts"
