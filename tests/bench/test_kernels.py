"""The kernels of a step."""

from __future__ import annotations

import pytest
import torch

from oche.bench.interleaved import profile_step


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
