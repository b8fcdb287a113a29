"""The trained network of a fit beside its controls, on the same test images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oche.analysis.paired_classifiers import compare_classifiers, wilson
from oche.core.metrics import Meter
from oche.data import Dataset
from oche.deploy.classifier import load
from oche.devices.engine import Engine
from oche.runs.run import Run
from oche.training.evaluate import evaluate


class RightPredictions(Meter):
    """A meter that keeps, for each image in order, whether it was classified rightly."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        super().__init__(device)
        self.right: list[bool] = []

    def add(self, logits: Tensor, labels: Tensor, loss: Tensor) -> None:
        """Add a batch: logits (B, K), labels (B,), and the mean loss of the batch."""
        super().add(logits, labels, loss)
        self.right += (logits.argmax(1) == labels).tolist()


def right_predictions(run: Path, data: Dataset, engine: Engine) -> list[bool]:
    """Return, for each test image of ``data``, whether the network of the training ``run`` classifies it rightly."""
    assert data.test is not None
    meter = RightPredictions(engine.device)
    with engine.using_threads():
        evaluate(engine.place(load(Run(run))), data.test.to(engine.device), data, engine, meter=meter)
    return meter.right


def compare_networks(own: list[bool], others: Mapping[str, tuple[Path, list[bool]]]) -> dict[str, Any]:
    """Return the accuracy of a network with its 95 % interval, and its comparison with each of ``others``, as plain values.

    ``own``: which images it has right; ``others``: the training of each other network, and which images that one has right.
    """
    found: dict[str, Any] = {
        "accuracy": sum(own) / len(own),
        "interval": wilson(sum(own), len(own)),
        "images": len(own),
    }
    controls = {}
    for name, (path, theirs) in others.items():
        compared = compare_classifiers(own, theirs)
        summary = Run(path).summary
        controls[name] = {
            **asdict(compared), "verdict": compared.verdict, "accuracy": sum(theirs) / len(theirs),
            "parameters": summary.get("parameters"), "flops": summary.get("flops"),
        }  # fmt: skip
    return found | {"controls": controls}
