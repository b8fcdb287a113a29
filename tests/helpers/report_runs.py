"""Synthetic run directories, as a search, its trainings and the toy leave them; and cells to draw."""

from __future__ import annotations

import base64
import io
import json
import math
import random
from pathlib import Path
from typing import Any

from PIL import Image

from oche.analysis.classification import Assessment, Bin, Mistake
from oche.core.architecture import Cell, Dag, Genotype

OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=range(2, 6), "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=range(2, 6))"
)
ONE_NODE = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1)], normal_concat=range(2, 3), "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1)], reduce_concat=range(2, 3))"
)
RECURRENT = (
    "Genotype(recurrent=[('sigmoid', 0), ('relu', 1), ('relu', 1), ('identity', 1), ('tanh', 2), ('sigmoid', 5), "
    "('tanh', 3), ('relu', 5)], concat=range(1, 9))"
)
AMOEBA_LIKE = (
    "Genotype(normal=[('avg_pool_3x3', 0), ('max_pool_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 2), "
    "('sep_conv_3x3', 0), ('avg_pool_3x3', 3), ('sep_conv_3x3', 1), ('skip_connect', 1), ('skip_connect', 0), "
    "('avg_pool_3x3', 1)], normal_concat=[4, 5, 6], reduce=[('sep_conv_7x7', 0), ('conv_7x1_1x7', 0), "
    "('max_pool_3x3', 0), ('sep_conv_7x7', 2), ('sep_conv_7x7', 0), ('avg_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('max_pool_3x3', 1), ('conv_7x1_1x7', 0), ('sep_conv_3x3', 5)], reduce_concat=[3, 4, 6])"
)


def random_cell(seed: int, nodes: int = 4, parallel: float = 0.2, subset: float = 0.3) -> Cell:
    """A cell with two edges a node; now and then both from one source, or with only some nodes in the output."""
    draw = random.Random(seed)
    edges = []
    for target in range(2, 2 + nodes):
        one = draw.randrange(target)
        sources = [one, one] if draw.random() < parallel else draw.sample(range(target), 2)
        edges += [(draw.choice(OPERATIONS[1:]), source, target) for source in sources]
    concat = range(2, 2 + nodes)
    if draw.random() < subset:
        concat = sorted(draw.sample(concat, draw.randint(1, nodes)))
    return Cell(tuple(edges), tuple(concat))


def chain(nodes: int = 8) -> Cell:
    """The deepest cell: every node reads the two before it."""
    edges = [(op, t - d, t) for t in range(2, 2 + nodes) for d, op in ((1, "sep_conv_3x3"), (2, "skip_connect"))]
    return Cell(tuple(edges), tuple(range(2, 2 + nodes)))


def network(cells: int, channels: int = 36, size: int = 32, auxiliary: bool = False) -> list[dict[str, Any]]:
    """The entries of space.json for a network of ``cells``."""
    blocks = [{"name": "stem", "channels": 3 * channels, "size": [size, size]}]
    for i in range(cells):
        reduce = i in (cells // 3, 2 * cells // 3)
        channels, size = (2 * channels, size // 2) if reduce else (channels, size)
        blocks.append({"name": "reduce" if reduce else "normal", "channels": 4 * channels, "size": [size, size]})
        if auxiliary and i == 2 * cells // 3:
            blocks.append({"name": "auxiliary", "channels": 768, "size": [1, 1]})
    return [*blocks, {"name": "head", "channels": 10, "size": [1, 1]}]


def toy_data() -> dict[str, Any]:
    """Gradient descent on the toy problem with the closed-form hypergradient (seed §4.1)."""
    runs = []
    for xi in (0.0, 0.3, 0.5, 0.7):
        a, w = 2.0, -2.0
        path = [[a, w]]
        while len(path) <= 10_000:
            ahead = w - xi * (2 * w - 2 * a)
            da = 0.01 * (ahead - 2 + 2 * xi * a)
            dw = 0.01 * (2 * w - 2 * (a - da))
            a, w = a - da, w - dw
            path.append([a, w])
            if max(abs(da), abs(dw)) < 1e-4:
                break
        iterations = len(path) - 1
        runs.append(
            {"xi": xi, "iterations": iterations, "seconds_per_iteration": 1e-4, "final": [a, w], "trajectory": path}
        )
    return {"optimum": [1, 1], "start": [2, -2], "lr": 0.01, "runs": runs}


def search_records(epochs: int, seed: int = 0, skips: float = 0.25, nodes: int = 4) -> list[dict[str, Any]]:
    """metrics.jsonl of a search whose mixture sharpens; ``skips`` is the last share of skip connections."""
    draw = random.Random(seed)
    edges, genotype = Dag(nodes).edges, DARTS_V2 if nodes == 4 else ONE_NODE
    drift = {n: [[draw.gauss(0, 1.2) for _ in OPERATIONS] for _ in edges] for n in ("normal", "reduce")}
    for name, cell in Genotype.parse(
        genotype
    ).cells.items():  # the kept operations win, so that their nodes are decided
        for op, *edge in cell.edges:
            drift[name][edges.index(tuple(edge))][OPERATIONS.index(op)] = 5.0 + draw.random()
    records = []
    for epoch in range(epochs + 1):
        t = epoch / max(epochs, 1)
        arch = {
            n: {"weights": [_softmax([t * a for a in row]) for row in rows], "edges": None} for n, rows in drift.items()
        }
        record: dict[str, Any] = {"epoch": epoch, "arch": arch}
        if epoch:
            loss, noise = 2.3 * math.exp(-3 * t), draw.gauss(0, 0.02)
            record |= {"step": 14 * epoch, "progress": t, "w_lr": 0.025 * (1 - t), "genotype": genotype}
            record |= {"train_loss": loss, "train_acc": 1 - 0.9 * math.exp(-4 * t), "val_loss": loss + 0.1 + noise}
            record |= {"val_acc": 0.97 - 0.87 * math.exp(-4 * t) + noise / 4}
            record |= {"entropy": {n: _entropy(a["weights"]) for n, a in arch.items()}}
            record |= {"skip_share": {"normal": round(8 * skips * t) / 8, "reduce": 0.125 * (t > 0.5)}}
            record |= {"timings": {"seconds": 3.1 * epoch, "step_ms": 212.0}, "regret": 0.1}
        records.append(record)
    return records


def _softmax(logits: list[float]) -> list[float]:
    powers = [math.exp(a) for a in logits]
    return [p / sum(powers) for p in powers]


def _entropy(weights: list[list[float]]) -> float:
    return sum(-p * math.log(p) for row in weights for p in row) / len(weights)


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def write_records(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")


def make_training(path: Path, accuracy: float | None, epochs: int = 20, genotype: str = DARTS_V2) -> Path:
    """A run directory of a training that ended with ``accuracy``; None: still without any result."""
    write_json(path / "status.json", {"kind": "train", "state": "complete" if accuracy else "running"})
    (path / "config.yaml").write_text("data: digits\nepochs: 20\n", encoding="utf-8")
    (path / "genotype.txt").write_text(genotype + "\n", encoding="utf-8")
    space = {"space": "darts", "parameters": 221_034, "flops": 31_400_000, "image": [8, 8], "in_channels": 1}
    write_json(
        path / "space.json", space | {"classes": [str(i) for i in range(10)], "groups": {}, "network": network(8, 8, 8)}
    )
    if accuracy is None:
        return path
    curve = [
        {
            "epoch": e,
            "train_loss": 2.3 / e,
            "train_acc": 1 - 0.8 / e,
            "test_loss": 2.4 / e,
            "test_acc": accuracy - 0.5 / e**2,
        }
        for e in range(1, epochs + 1)
    ]
    write_records(path / "metrics.jsonl", curve)
    summary = {"test_acc": accuracy, "test_loss": 0.07, "parameters": 221_034, "flops": 31_400_000, "data": "digits"}
    write_json(path / "summary.json", summary | {"seconds": 31.0, "step_ms": 44.1, "genotype": genotype, "note": ""})
    return path


def make_run(
    path: Path,
    epochs: int = 12,
    state: str = "complete",
    trained: bool = True,
    toy: bool = True,
    skips: float = 0.25,
    classes: tuple[str, ...] = ("zero", "one", "two"),
    note: str = "",
    nodes: int = 4,
) -> Path:
    """A search's run directory with everything that `oche demo` leaves; with nodes=1 its cells are small."""
    genotype = DARTS_V2 if nodes == 4 else ONE_NODE
    path.mkdir(parents=True, exist_ok=True)
    times = {"started": "2026-11-24 10:00:00", "updated": "2026-11-24 10:02:41"}
    write_json(path / "status.json", {"kind": "search", "state": state, **times})
    (path / "config.yaml").write_text("data: digits\nsearch:\n  epochs: 12\n  batch: 64\n", encoding="utf-8")
    machine = {
        "oche": "0.1.0",
        "torch": "2.13.0",
        "cpu": "2 cores",
        "argv": ["oche", "search", "digits"],
        "commit": None,
    }
    write_json(path / "environment.json", machine)
    edges = [list(edge) for edge in Dag(nodes).edges]
    group = {"edges": edges, "inputs": 2, "candidates": list(OPERATIONS)}
    space = {"space": "darts", "parameters": 130_618, "flops": None, "image": [8, 8], "in_channels": 1}
    space |= {"classes": list(classes), "groups": {"normal": group, "reduce": group}, "network": network(8, 16, 8)}
    write_json(path / "space.json", space)
    write_records(path / "metrics.jsonl", search_records(epochs, skips=skips, nodes=nodes))
    (path / "genotype.txt").write_text(genotype + "\n", encoding="utf-8")
    if state == "complete":
        summary = {"genotype": genotype, "val_acc": 0.951, "parameters": 130_618, "steps": 168, "seconds": 37.4}
        write_json(path / "summary.json", summary | {"step_ms": 212.0, "note": note})
    if trained:
        make_training(path / "train", 0.9812, genotype=genotype)
        for i, accuracy in enumerate((0.9785, 0.9751, 0.9820), 1):
            cells = {
                "normal": random_cell(i, parallel=0, subset=0),
                "reduce": random_cell(10 + i, parallel=0, subset=0),
            }
            make_training(path / f"random-{i}", accuracy, genotype=str(Genotype(cells)))
    if toy:
        write_json(path / "toy" / "toy.json", toy_data())
    return path


def assessment(name: str = "c") -> Assessment:
    """What a network got right and wrong of 60 images of three classes, one of them called ``name``."""
    image = io.BytesIO()
    Image.new("L", (8, 8), 200).save(image, "PNG")
    png = base64.b64encode(image.getvalue()).decode()
    bins = (Bin(0, None, None), Bin(20, 0.6, 0.7), Bin(40, 0.9, 0.875))
    mistakes = (*(Mistake(i, 2, i, 0.9 - i / 10, 0.05, png) for i in range(2)), Mistake(7, 0, 1, 0.5, 0.4, png))
    confusion = ((19, 1, 0), (6, 14, 0), (1, 3, 16))
    return Assessment("digits", "test", ("a", "b", name), confusion, 0.41, bins, mistakes)


def made(path, method="darts", seed=0, accuracy=None, nodes=1, epochs=2):
    make_run(path, epochs=epochs, trained=False, toy=False, nodes=nodes)
    write_json(path / "config.yaml", {"method": method, "seed": seed, "search": {"epochs": epochs}})
    if accuracy is not None:
        make_training(path / "train", accuracy, epochs=2)
    return path
