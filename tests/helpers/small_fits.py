"""Fits small enough for a test."""

from __future__ import annotations

from oche.fitting.planner import CLOSING, FitPlan


def tiny_plan(data, decision="search") -> FitPlan:
    """A plan for images of 12 × 12 pixels: three search steps, and trainings of one second."""
    return FitPlan(
        decision, ("a tiny plan",), "RESNET" if decision == "prior" else "DARTS_V2", 4, 1 if decision == "prior" else 3, "cifar",
        8, data.image, 0.05, 1000, 300_000, 1.0, 3, 1.0, 15.0, CLOSING, 60.0 - CLOSING, None,
    )  # fmt: skip
