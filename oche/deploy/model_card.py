"""The model card of an exported network: a README.md with its accuracy, data, files and use.

A card holds a hash of its own text. A card that somebody has edited is recognised by it, and not replaced unless asked for.
"""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from oche._version import __version__
from oche.analysis.classification import describe_chance
from oche.core.atomic_files import read_json, write_bytes
from oche.core.config.yaml_files import dump_yaml
from oche.core.environment import cpu_model
from oche.core.errors import OcheError, plural
from oche.core.genotypes import GENOTYPES
from oche.data.pixel_range import AS_BEFORE, PixelRange, number
from oche.deploy.classifier import Classifier
from oche.deploy.image_values import describe_input
from oche.report.drawings.cell import cell_svg
from oche.runs.run import Run

if TYPE_CHECKING:
    from oche.deploy.export_graph import ExportGraph
    from oche.deploy.targets import Exported, Target

_MARK = re.compile(r"<!-- written by oche export; sha256 of what follows: ([0-9a-f]{64}) -->\n")
_HEADS = "| file | takes | gives | size | difference | time | accuracy |\n|---|---|---|---|---|---|---|"
_LISTED = 100  # classes that are named, at most
USAGE = {
    ".onnx": """\
import onnxruntime
session = onnxruntime.InferenceSession("{file}")
(outputs,) = session.run(None, {{"images": images}})  # numpy, as the table says""",
    ".pt2": """\
import torch
net = torch.export.load("{file}").module()
outputs = net(images)  # a tensor, as the table says""",
    ".safetensors": """\
import oche
net = oche.load("{file}")
probabilities = net.probabilities(images)  # a tensor (batch, channels, height, width) of {takes}""",
}


@dataclass(frozen=True)
class ModelCard:
    """The card of the exported file ``model`` of ``run``; it is written beside that file, with drawings of the cells."""

    run: Run
    model: Path
    own_folder: bool
    """whether the directory belongs to the export: then the card is its README.md, else MODEL.md"""

    @property
    def path(self) -> Path:
        return self.model.with_name("README.md" if self.own_folder else f"{self.model.name}.md")

    @cached_property
    def pictures(self) -> dict[str, Path]:
        """Cell type → file of its drawing."""
        before = "" if self.own_folder else f"{self.model.name}."
        return {name: self.model.with_name(f"{before}{name}.svg") for name in self.run.genotype.cells}

    def check(self, overwrite: bool) -> None:
        """Raise `OcheError` where writing would replace a directory, or a file that is not an unedited card."""
        for path in (self.path, *self.pictures.values()):
            if path.is_dir() or (path.exists() and not overwrite and _text_if_unedited(self.path) is None):
                raise OcheError(
                    f"{path} exists already, and is not an unedited card of oche; write --overwrite to replace it, "
                    "--no-card to leave it, or choose another --out"
                )

    def write(self, done: Exported, graph: ExportGraph, target: Target, held: int | None) -> None:
        """Write the card and its drawings; an unedited card keeps its rows about other files that still exist.

        ``held``: number of images that the accuracy was measured on; None if it is not known.
        """
        from jinja2 import Environment

        for name, path in self.pictures.items():
            write_bytes(path, cell_svg(self.run.genotype.cells[name], name).encode())
        source = Path(__file__).with_name("model_card.md").read_text(encoding="utf-8")
        template = Environment(keep_trailing_newline=True).from_string(source)
        rows = {**self._others(), self.model.name: _row(self.model.name, done, graph, target)}
        text = template.render(
            **_facts(self.run, graph.classifier, held), heads=_HEADS, rows=rows.values(), uses=_uses(rows, graph.classifier),
            pictures=[(name, path.name) for name, path in self.pictures.items()],
        )  # fmt: skip
        mark = f"<!-- written by oche export; sha256 of what follows: {hashlib.sha256(text.encode()).hexdigest()} -->\n"
        write_bytes(self.path, (mark + text).encode())

    def _others(self) -> dict[str, str]:
        """Return file → row of the existing card."""
        rows = re.findall(r"^(\| `([^`|]+)` \|.*)$", _text_if_unedited(self.path) or "", re.MULTILINE)
        return {name: row for row, name in rows if self.model.with_name(name).is_file()}


def _text_if_unedited(path: Path) -> str | None:
    """Return the text of the card at ``path``; None where there is none, or somebody has edited it."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    mark = _MARK.match(text)
    rest = text[mark.end() :] if mark else ""
    return rest if mark and hashlib.sha256(rest.encode()).hexdigest() == mark[1] else None


def _row(name: str, done: Exported, graph: ExportGraph, target: Target) -> str:
    """Return the row of one file."""
    _, shape = graph.layout
    named = {"normalised": "normalised", "uint8": "uint8", "values": "pixel values, float32"}[
        graph.input.partition("-")[0]
    ]
    takes = f"{named} (batch, {', '.join(map(str, shape))})"
    times = " / ".join(f"{ms:.3g}" for ms in done.latency.values())
    where = f"{target.reader}, {plural(torch.get_num_threads(), 'thread')} of {cpu_model() or 'a CPU'}"
    if graph.size != graph.classifier.image:
        accuracy = "not known at this size"
    elif done.accuracy is None:
        accuracy = "as trained"
    else:
        accuracy = f"{100 * done.accuracy[1]:.2f} % in 8 bits, {100 * done.accuracy[0]:.2f} % before"
    cells = (
        f"`{name}`", takes, graph.output, done.size, f"{done.difference:.1e}",
        f"{times} ms ({where})", accuracy,
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _uses(rows: Mapping[str, str], classifier: Classifier) -> list[str]:
    """Return a snippet of code for each kind of file."""
    takes = describe_input(classifier.pixels)
    of_kind = {Path(name).suffix: name for name in rows}
    return [USAGE[suffix].format(file=name, takes=takes) for suffix, name in of_kind.items() if suffix in USAGE]


def _facts(run: Run, classifier: Classifier, held: int | None) -> dict[str, Any]:
    """Return the values of the card's template that do not depend on the file."""
    about, summary, config = classifier.about, run.summary, run.config
    published = next((name for name, known in GENOTYPES.items() if known.genotype == run.genotype), None)
    more = f", … ({len(about.classes)} in all)" if len(about.classes) > _LISTED else ""
    trained = read_json(run.path / "environment.json")
    return {
        "genotype": run.genotype, "cells": published or "Found cells", "name": Path(config.data).name,
        "classes": len(about.classes), "named": ", ".join(about.classes[:_LISTED]) + more,
        "accuracy": _accuracy(summary, held), "data": _data(config), "note": summary.get("note", ""),
        "parameters": summary["parameters"], "flops": summary["flops"],
        "channels": {1: "Grey", 3: "Colour (RGB)"}.get(about.channels, f"{about.channels} channels"),
        "image": f"{about.image[0]} x {about.image[1]}", "mean": list(about.mean), "deviation": list(about.std),
        **_pixel_facts(classifier.pixels),
        "recipe_name": config.recipe, "steps": summary["steps"], "seed": config.seed, "recipe": dump_yaml(config.train),
        "trained_with": ", ".join(f"{name} {trained[name]}" for name in ("oche", "torch", "python") if name in trained),
        "exported_with": ", ".join(f"{name} {number}" for name, number in _versions().items()),
    }  # fmt: skip


def _pixel_facts(pixels: PixelRange) -> dict[str, Any]:
    """Return the range of pixel values, where they are not those of 8-bit images, as text."""
    span = number(pixels.high - pixels.low)
    mapped = {"range": str(pixels), "kind": pixels.kind, "low": number(pixels.low), "span": span}
    return {"pixels": None if pixels.usual else mapped, "before": pixels == AS_BEFORE}


def _data(config: Any) -> str:
    """Return the data by name. Where they lay is the user's affair: a card goes where the file goes."""
    name = config.data if config.data.startswith("hf:") else Path(config.data).name
    return name if config.limit is None else f"{name}, at most {plural(config.limit, 'training image')} of it"


def _accuracy(summary: Mapping[str, Any], held: int | None) -> str:
    for key, what in (("test_acc", "test images"), ("val_acc", "training images that were held out")):
        if summary.get(key) is not None:
            part = key.removesuffix("_acc")
            chance = describe_chance(summary.get(f"{part}_balanced_acc"), summary.get(f"{part}_majority"))
            return f"{100 * summary[key]:.2f} % of {'the' if held is None else f'{held:,}'} {what}{chance}"
    return "not known: the data have no test images"


def _versions() -> dict[str, str]:
    """Return the versions of the packages that wrote the files."""
    found = {"oche": __version__, "torch": torch.__version__, "python": platform.python_version()}
    for package in ("onnx", "onnxscript", "onnxruntime"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
