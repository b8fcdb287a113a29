"""Measure: `oche cost` for networks and operations, `oche bench` for the steps of a search or a training."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from oche.bench.settings import BenchConfig
from oche.cli.common import choose, console, part, simple
from oche.core.atomic_files import to_json, write_bytes
from oche.core.console import Log
from oche.core.errors import OcheError, plural
from oche.core.plugins import load_plugins

if TYPE_CHECKING:
    from oche.core.architecture import Genotype
    from oche.cost.summary import CostSummary
    from oche.devices.engine import Engine
    from oche.spaces.base import Space
    from oche.training.image_recipes import Recipe


@dataclass(frozen=True)
class CostArgs:
    what: Annotated[str | None, tyro.conf.Positional] = None
    """published name, run directory, file with a genotype, or the text of a genotype"""
    recipe: str | None = None
    """recipe that sets the size of the network (see oche list recipes); by default that of the run, else the published one"""
    image: int | None = None
    """side of the images; by default that of the run, else 224 for a network with an ImageNet stem, else 32"""
    classes: int | None = None
    """number of classes; by default that of the run, else 1000 for a network with an ImageNet stem, else 10"""
    in_channels: int | None = None
    """channels of the images; by default those of the run, else 3"""
    batch: int = 1
    """images in the batch that is timed"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps"""
    threads: int = 0
    """CPU threads; 0: as many as torch chooses"""
    out: Path | None = None
    """JSON file for the numbers"""
    table: Path | None = None
    """measure every candidate operation of --space and write the times to this file, for --search.latencies"""
    space: str = "darts"
    """search space whose candidates --table measures: darts, seed, nb201, chain, proxyless, fbnet"""
    plugins: tuple[Path, ...] = ()
    """Python files to run first, which register operations and spaces of your own"""
    quiet: bool = False
    """print the result only"""


def cost(args: list[str]) -> int:
    given = simple(
        CostArgs,
        args,
        "cost",
        "Show the cost of a genotype's network: weights, multiply-adds, FLOPs (two per multiply-add; convolutions and linear "
        "layers, one image forward) and measured time. Show the same for every candidate operation at every position of such "
        "a network. With --table, measure the candidates of a space instead, for searches with --search.penalty latency.",
        "oche cost DARTS_V2\n"
        "  oche cost DARTS_V2 --recipe imagenet-mobile --device cpu --threads 1\n"
        "  oche cost runs/x --image 64 --out costs.json\n"
        "  oche cost --table latencies.json --space nb201 --threads 1",
    )
    from oche.devices.engine import Engine

    if given.batch < 1 or given.threads < 0:
        raise OcheError(f"batch={given.batch}, threads={given.threads}: use batch >= 1 and threads >= 0")
    if (given.what is None) == (given.table is None):
        raise OcheError("oche cost needs a genotype or --table FILE, and not both; write oche cost DARTS_V2")
    load_plugins(given.plugins)
    engine, log = Engine(given.device, given.threads), Log(quiet=given.quiet)
    _ = engine.device  # raises OcheError if the machine has no such device
    return _network(given, engine, log) if given.table is None else _table(given, engine, log)


# --- oche cost --table ------------------------------------------------------------------------------------------------


def _table(given: CostArgs, engine: Engine, log: Log) -> int:
    from oche.cost.latency_table import LatencyTable, fill_table
    from oche.spaces import SPACES
    from oche.training.recipes import space_at_recipe_size

    assert given.table is not None
    space = choose("space", given.space, SPACES)()
    space = space_at_recipe_size(space, given.recipe or space.recipe)
    space = replace(space, **_image_fields(space, getattr(space, "stem", ""), given, {}))
    table = LatencyTable.fresh(engine, given.batch)
    if given.table.exists():  # it may hold other sizes and spaces, measured on the same machine
        table.entries = LatencyTable.open(given.table).fits(engine, given.batch, given.table).entries
    before = len(table.entries)
    log.say(f"measuring the candidates of {given.space} on {table.about['hardware']}")
    fill_table(space, table).write(given.table)
    log.say(f"{given.table}: {plural(len(table.entries), 'time')}, {len(table.entries) - before} of them new")
    return 0


def _image_fields(space: Space, stem: str, given: CostArgs, own: dict[str, Any]) -> dict[str, Any]:
    """Fields of a space: images and classes as asked, else those of the run, else the usual ones for its stem, or its own."""
    mobile = stem == "imagenet"
    side = given.image or own.get("image") or (224 if mobile else space.image)
    classes = given.classes or (len(own["classes"]) if "classes" in own else 1000 if mobile else space.classes)
    image = (side, side) if isinstance(side, int) else tuple(side)
    return {"image": image, "classes": classes, "in_channels": given.in_channels or own.get("in_channels", 3)}


# --- oche cost GENOTYPE -----------------------------------------------------------------------------------------------


def _network(given: CostArgs, engine: Engine, log: Log) -> int:
    from oche.cost.summary import InputShape, summarise_costs
    from oche.training.recipes import space_at_size_of

    genotype, space, name, recipe, own = _find_genotype(given)
    space = replace(space_at_size_of(space, recipe), **_image_fields(space, recipe.stem, given, own))
    net = replace(recipe, auxiliary=0.0).network(genotype, InputShape(space))
    log.say(f"measuring the network of recipe {name}")
    found = summarise_costs(net, genotype, space, engine, given.batch)
    _show(found, space, given)
    if given.out is not None:
        tree = {"genotype": str(genotype), "recipe": name, **found.plain()}
        write_bytes(given.out, to_json(tree, 1).encode())
        log.say(f"numbers: {given.out}")
    return 0


def _find_genotype(given: CostArgs) -> tuple[Genotype, Space, str, Recipe, dict[str, Any]]:
    """Return the genotype, its space, the name of the recipe, the recipe, and space.json of the run ({} if there is no run)."""
    from oche.runs.documents import read_document
    from oche.runs.resolve import read_genotype
    from oche.runs.run import Run
    from oche.spaces import space_of
    from oche.training.image_recipes import RECIPES
    from oche.training.language_recipes import is_language

    assert given.what is not None
    run = Run.open(given.what) if os.path.isdir(given.what) else None
    genotype = run.genotype if run else read_genotype(given.what)
    if is_language(str(genotype)):
        raise OcheError("oche cost measures networks for images, and this genotype makes language models")
    space = space_of(genotype)
    own = read_document(run.path / "space.json") if run else {}
    if run and run.kind == "train" and given.recipe is None:
        return genotype, space, run.config.recipe, run.config.train, own
    name = given.recipe or space.recipe
    return genotype, space, name, choose("recipe", name, RECIPES)(), own


def _show(found: CostSummary, space: Space, given: CostArgs) -> None:
    from rich.table import Table as Rows

    from oche.cost.units import format_amount

    n, about = found.network, found.about
    h, w = space.image
    threads = f", {plural(about['threads'], 'thread')}" if about["device"] == "cpu" else ""
    out = console()
    out.print(f"image          {space.in_channels} x {h} x {w}, {plural(space.classes, 'class')}")
    out.print(f"parameters     {n.parameters:,}   without an auxiliary tower")
    out.print(f"multiply-adds  {format_amount(n.macs, 'parameters')}   {n.macs:,}, of convolutions and linear layers")
    out.print(f"FLOPs          {format_amount(n.flops, 'flops')}   two per multiply-add")
    out.print(
        f"latency        {_ms(n.time)}   median of {plural(n.time.runs, 'run')} (10th to 90th percentile), batch {given.batch}"
    )
    out.print(f"               {found.parts:.3g} ms is the sum of its operations, each measured alone")
    out.print(f"measured on    {about['hardware']}, {about['device']}{threads}, torch {about['torch']}\n")
    rows = Rows(box=None, pad_edge=False, title="candidates at every position", title_justify="left")
    rows.add_column("operation")
    for name in ("channels", "stride", "map", "parameters", "multiply-adds", "FLOPs", "latency"):
        rows.add_column(name, justify="right")
    for c in found.candidates:
        p, k = c.place, c.cost
        count = (f"{k.parameters:,}", format_amount(k.macs, "parameters"), format_amount(k.flops, "flops"), _ms(k.time))
        rows.add_row(c.operation, str(p.channels), str(p.stride), f"{p.size[0]} x {p.size[1]}", *count)
    out.print(rows)


def _ms(time: Any) -> str:
    return f"{time.median:.3g} ms ({time.low:.3g}–{time.high:.3g})"


# --- oche bench -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BenchArgs(BenchConfig):
    out: Path | None = None
    """Markdown file for the table"""
    quiet: bool = False
    """print the table only"""


def bench(args: list[str]) -> int:
    from oche.bench.table import run_bench

    given = simple(
        BenchArgs, args, "bench",
        "Time steps of searches and of trainings in several forms of the same computation. The forms take turns, each in a "
        "process of its own. The table has the median, the spread, the peak memory, and the speed relative to the published "
        "code or to oche's plain form.",
        "oche bench\n  oche bench --works first second --batch 64 --threads 2 --out speed.md\n"
        "  oche bench --works pc-darts --batch 256 --device cuda --steps 5",
    )  # fmt: skip
    return run_bench(part(given, BenchConfig), given.out, Log(quiet=given.quiet))
