"""Searches and trainings of the NAS-Bench-201 space, from the command line to the report, and what its network lacks."""

from __future__ import annotations

import pytest

import oche
from oche.cli.main import main
from oche.core.optimizers import Sgd

pytestmark = pytest.mark.slow  # whole runs

SPACE = ["--space", "nb201", "--space.channels", "2", "--space.cells", "1"]
QUICK = ["--limit", "60", "--search.batch", "16", "--search.steps", "3", "--quiet"]


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
    assert runs[0].config.train.w == Sgd(lr=0.1, decay=5e-4, clip=0.0, nesterov=True)


def test_the_search_says_how_to_go_on(tmp_path, quick, capsys):
    main(["search", *SPACE, *[word for word in QUICK if word != "--quiet"], "--out", str(tmp_path / "x")])
    assert f"oche train {tmp_path / 'x'} --recipe nb201" in capsys.readouterr().out
