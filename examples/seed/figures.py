"""Figures 2 to 9 of the seed document, as SVG and PNG, from the runs of Table 2 (missing runs are made first).

python examples/seed/figures.py --data my.parquet --budget 10m
"""

from __future__ import annotations

from pathlib import Path

import torch

import oche
from oche.core.architecture import Cell
from oche.methods.toy_problem import experiment
from oche.report.drawings.cell import cell_png, cell_svg
from oche.report.drawings.network import network_png, network_svg
from oche.report.heatmap import decided_choices
from oche.report.plots import mixtures, style, toy
from oche.report.read_run import read_run
from oche.training.image_recipes import seed as seed_network
from runs import ORDERS, Setting, command, search


def main(setting: Setting) -> None:
    folder = setting.out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    _plot(folder / "figure-2", toy.toy_trajectories(experiment()))
    space = oche.spaces.seed()
    mixed = Cell(tuple(("mixed", i, j) for i, j in space.dag.edges), tuple(range(2, 2 + space.nodes)))
    _cell(folder / "figure-3", mixed, "The searched cell: a mixed operation on every edge")
    # of the run, so that Figures 4 and 9 show networks for the same images
    _network(folder / "figure-4", search(setting, 1).config.space.describe(), "Network for architecture search")
    for order, xi in ORDERS.items():
        run = search(setting, order)
        for name, cell in run.genotype.cells.items():
            _heatmap(folder / f"figure-{4 + order}-{name}", run, name, xi)
            _cell(folder / f"figure-{6 + order}-{name}", cell, f"{name} cell, {xi}")
    _network(folder / "figure-9", _final(search(setting, 2)), "Final network")
    print(f"figures: {folder}")


def _final(run: oche.Run) -> list[dict]:
    recipe, config = seed_network(), run.config.space
    with torch.device("meta"):  # the picture needs only its shape
        net = oche.build(
            run.genotype, classes=config.classes, channels=recipe.channels, cells=recipe.cells, stem=recipe.stem,
            in_channels=config.in_channels, image=config.image, widen=recipe.widen, head=recipe.head,
        )  # fmt: skip
    return net.describe()


def _heatmap(path: Path, run: oche.Run, name: str, xi: str) -> None:
    """Draw the final weights of a cell. Choices that the search decided have a frame, and the title counts their nodes."""
    group = next(mixture for mixture in read_run(run.path).mixtures if mixture.name == name)
    found = group.decisions(run.genotype)
    counted = f", decided {sum(node.decided for node in found.nodes)} of {len(found.nodes)} nodes" if found else ""
    title, weights = f"softmax(α), {name} cell, {xi}{counted}", group.history[-1][1]
    decided = decided_choices(group, run.genotype)
    _plot(path, mixtures.alpha_heatmap(weights, group.edges, group.candidates, title, group.inputs, decided))


def _plot(path: Path, figure) -> None:
    path.with_suffix(".svg").write_text(style.svg(figure), encoding="utf-8")
    path.with_suffix(".png").write_bytes(style.png(figure))


def _cell(path: Path, cell: Cell, title: str) -> None:
    path.with_suffix(".svg").write_text(cell_svg(cell, title), encoding="utf-8")
    cell_png(cell, path.with_suffix(".png"), title)


def _network(path: Path, blocks: list[dict], title: str) -> None:
    path.with_suffix(".svg").write_text(network_svg(blocks, title), encoding="utf-8")
    network_png(blocks, path.with_suffix(".png"), title)


if __name__ == "__main__":
    command(main, __doc__)
