"""`oche cost`."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from oche.cli.common import choose, console, simple
from oche.core import atomic_files as atomic
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.core.plugins import load_plugins

if TYPE_CHECKING:
    from oche.core.architecture import Genotype
    from oche.cost.summary import Costs
    from oche.devices.engine import Engine
    from oche.spaces.base import Space
    from oche.training.image_recipes import Recipe


@dataclass(frozen=True)
class CostArgs:
    what: Annotated[str | None, tyro.conf.Positional] = None
    """published name, run directory, file with a genotype, or its text"""
    recipe: str | None = None
    """size of the network: darts, small, imagenet-mobile …; by default that of a training run, else the published one"""
    image: int | None = None
    """side of the images; by default a run's own, 224 behind an ImageNet stem, else 32"""
    classes: int | None = None
    """by default a run's own, 1000 behind an ImageNet stem, else 10"""
    in_channels: int | None = None
    """of the images; by default a run's own, else 3"""
    batch: int = 1
    """images at once while the time is taken"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps"""
    threads: int = 0
    """CPU threads; 0: torch's own choice"""
    out: Path | None = None
    """file for the numbers, as JSON"""
    table: Path | None = None
    """measure every candidate of --space and write this table, for --search.latencies"""
    space: str = "darts"
    """whose candidates the table is of: darts, seed, nb201"""
    plugins: tuple[Path, ...] = ()
    """Python files to run first, for operations and spaces of your own"""
    quiet: bool = False
    """say nothing but the result"""


def cost(args: list[str]) -> int:
    given = simple(
        CostArgs,
        args,
        "cost",
        "Says what the network of a genotype costs: weights, multiply-adds, FLOPs (two a multiply-add; convolutions and linear "
        "layers of one image forward) and measured time; and the same of every candidate operation at every place that such a "
        "network has. With --table it measures the candidates of a space for searches with --search.penalty latency.",
        "oche cost DARTS_V2\n"
        "  oche cost DARTS_V2 --recipe imagenet-mobile --device cpu --threads 1\n"
        "  oche cost runs/x --image 64 --out costs.json\n"
        "  oche cost --table latencies.json --space nb201 --threads 1",
    )
    from oche.devices.engine import Engine

    if given.batch < 1 or given.threads < 0:
        raise OcheError(f"batch={given.batch}, threads={given.threads}: use batch >= 1 and threads >= 0")
    if (given.what is None) == (given.table is None):
        raise OcheError("oche cost takes a genotype, or --table FILE; write oche cost DARTS_V2, say")
    load_plugins(given.plugins)
    engine, log = Engine(given.device, given.threads), Log(quiet=given.quiet)
    _ = engine.device  # refused where there is none
    return _network(given, engine, log) if given.table is None else _table(given, engine, log)


# --- a table ------------------------------------------------------------------------------------------------------------


def _table(given: CostArgs, engine: Engine, log: Log) -> int:
    from oche.cost.latency_table import Table, measured
    from oche.spaces import SPACES
    from oche.training.recipes import sized

    assert given.table is not None
    space = choose("space", given.space, SPACES)()
    space = sized(space, given.recipe or space.recipe)
    space = replace(space, **_seen(getattr(space, "stem", ""), given, {}))
    table = Table.fresh(engine, given.batch)
    if given.table.exists():  # other sizes and spaces of the same machine may share it
        table.entries = Table.open(given.table).fits(engine, given.batch, given.table).entries
    before = len(table.entries)
    log.say(f"measuring the parts of {given.space} on {table.about['hardware']}")
    measured(space, table).write(given.table)
    log.say(f"{given.table}: {len(table.entries)} times, {len(table.entries) - before} of them new")
    return 0


def _seen(stem: str, given: CostArgs, own: dict[str, Any]) -> dict[str, Any]:
    """Fields of a space: images and classes as asked, as of a run, or as usual."""
    mobile = stem == "imagenet"
    side = given.image or own.get("image") or (224 if mobile else 32)
    classes = given.classes or (len(own["classes"]) if "classes" in own else 1000 if mobile else 10)
    image = (side, side) if isinstance(side, int) else tuple(side)
    return {"image": image, "classes": classes, "in_channels": given.in_channels or own.get("in_channels", 3)}


# --- a network ----------------------------------------------------------------------------------------------------------


def _network(given: CostArgs, engine: Engine, log: Log) -> int:
    from oche.cost.summary import Images, costs
    from oche.training.recipes import like

    genotype, space, name, recipe, own = _asked(given)
    space = replace(like(space, recipe), **_seen(recipe.stem, given, own))
    net = replace(recipe, auxiliary=0.0).network(genotype, Images(space))
    log.say(f"measuring the network of recipe {name}")
    found = costs(net, genotype, space, engine, given.batch)
    _show(found, space, given)
    if given.out is not None:
        tree = {"genotype": str(genotype), "recipe": name, **found.plain()}
        atomic.write_bytes(given.out, atomic.to_json(tree, 1).encode())
        log.say(f"numbers: {given.out}")
    return 0


def _asked(given: CostArgs) -> tuple[Genotype, Space, str, Recipe, dict[str, Any]]:
    """Genotype and its space, recipe's name and recipe, and what a run's space.json says of its images."""
    from oche.core.nasbench201 import CELL
    from oche.runs.prepare import read_genotype
    from oche.runs.run import Run
    from oche.spaces import SPACES
    from oche.training.image_recipes import RECIPES
    from oche.training.language_recipes import is_language

    assert given.what is not None
    run = Run.open(given.what) if os.path.isdir(given.what) else None
    genotype = run.genotype if run else read_genotype(given.what)
    if is_language(str(genotype)):
        raise OcheError("oche cost is of networks for images, and this genotype makes language models")
    space = SPACES["nb201" if [*genotype.cells] == [CELL] else "darts"]()
    own = atomic.read_json(run.path / "space.json") if run else {}
    if run and run.kind == "train" and given.recipe is None:
        return genotype, space, run.config.recipe, run.config.train, own
    name = given.recipe or space.recipe
    return genotype, space, name, choose("recipe", name, RECIPES)(), own


def _show(found: Costs, space: Space, given: CostArgs) -> None:
    from rich.table import Table as Rows

    from oche.cost.units import words

    n, about = found.network, found.about
    h, w = space.image
    threads = f", {about['threads']} threads" if about["device"] == "cpu" else ""
    out = console()
    out.print(f"image          {space.in_channels} x {h} x {w}, {space.classes} classes")
    out.print(f"parameters     {n.parameters:,}   without an auxiliary tower")
    out.print(f"multiply-adds  {words(n.macs, 'parameters')}   {n.macs:,}, of convolutions and linear layers")
    out.print(f"FLOPs          {words(n.flops, 'flops')}   two a multiply-add")
    out.print(
        f"latency        {_ms(n.time)}   median of {n.time.runs} runs (10th to 90th percentile), batch {given.batch}"
    )
    out.print(f"               {found.parts:.3g} ms is the sum of its parts, each measured alone")
    out.print(f"measured on    {about['hardware']}, {about['device']}{threads}, torch {about['torch']}\n")
    rows = Rows(box=None, pad_edge=False, title="candidates at every place", title_justify="left")
    rows.add_column("operation")
    for name in ("channels", "stride", "map", "parameters", "multiply-adds", "FLOPs", "latency"):
        rows.add_column(name, justify="right")
    for c in found.candidates:
        p, k = c.place, c.cost
        count = (f"{k.parameters:,}", words(k.macs, "parameters"), words(k.flops, "flops"), _ms(k.time))
        rows.add_row(c.operation, str(p.channels), str(p.stride), f"{p.size[0]} x {p.size[1]}", *count)
    out.print(rows)


def _ms(time: Any) -> str:
    return f"{time.median:.3g} ms ({time.low:.3g}–{time.high:.3g})"
