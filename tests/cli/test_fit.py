"""`oche fit` on the command line; tests/fitting/ tests what it does."""

from __future__ import annotations

import numpy as np
import pytest

import small_fits
import small_runs
from oche.cli.main import main


def test_the_plan_alone_makes_no_directory(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("oche.fitting.run.make_plan", lambda config, data, *given: small_fits.tiny_plan(data, "prior"))
    small_runs.npz(tmp_path / "x.npz")
    assert main(["fit", "x.npz", "--budget", "1m", "--plan"]) == 0
    out = capsys.readouterr().out
    assert "a tiny plan" in out and "ready after" in out and [p.name for p in tmp_path.iterdir()] == ["x.npz"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["x.npz", "--budget", "10s"], "too short to train and assess a network"),
        (["x.npz", "--holdout", "0", "--budget", "1m"], "leaves no test images to compare"),
        (["absent.npz", "--budget", "1m"], "no such file or folder"),
        (["x.npz", "--genotype", "DARTS_V9", "--budget", "1m"], "no published genotype"),
    ],
)
def test_what_cannot_be_fitted_is_one_line(words, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    g = np.random.default_rng(0)
    np.savez("x.npz", x=g.integers(0, 255, (40, 12, 12), dtype=np.uint8), y=np.arange(40) % 2)
    assert main(["fit", *words]) == 2
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1
