"""The trained network of a fit beside its controls, on the same test images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from oche.analysis.paired_classifiers import compare_classifiers, wilson
from oche.data import Dataset
from oche.deploy.classifier import load
from oche.devices.engine import Engine
from oche.runs.run import Run


def right_predictions(run: Path, data: Dataset, engine: Engine) -> list[bool]:
    """Return, for each test image of ``data``, whether the network of the training ``run`` classifies it rightly."""
    net, found = load(Run(run)), []
    assert data.test is not None
    net = engine.place(net)
    with torch.inference_mode(), engine.using_threads():
        for images, labels in data.test.walk(torch.arange(len(data.test)), 256):
            logits = net(engine.images(net.prepare(images.to(engine.device))))
            found += (logits.argmax(1).cpu() == labels.cpu()).tolist()
    return found


def compare_networks(network: Path, others: Mapping[str, Path], data: Dataset, engine: Engine) -> dict[str, Any]:
    """Return the accuracy of ``network`` with its 95 % interval, and its comparison with each of ``others``, as plain values."""
    own = right_predictions(network, data, engine)
    found: dict[str, Any] = {
        "accuracy": sum(own) / len(own),
        "interval": wilson(sum(own), len(own)),
        "images": len(own),
    }
    controls = {}
    for name, path in others.items():
        theirs = right_predictions(path, data, engine)
        compared = compare_classifiers(own, theirs)
        summary = Run(path).summary
        controls[name] = {
            **asdict(compared), "verdict": compared.verdict, "accuracy": sum(theirs) / len(theirs),
            "parameters": summary.get("parameters"), "flops": summary.get("flops"),
        }  # fmt: skip
    return found | {"controls": controls}
