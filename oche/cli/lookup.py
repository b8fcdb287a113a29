"""Look things up: `oche show`, `oche query`, `oche list`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from oche.cli.common import console, simple
from oche.core.architecture import Genotype, cell_title
from oche.core.config.help import asks
from oche.core.errors import OcheError, did_you_mean
from oche.core.plugins import load_plugins
from oche.runs.resolve import read_genotype
from oche.runs.run import Run


@dataclass(frozen=True)
class ShowArgs:
    what: Annotated[str, tyro.conf.Positional]
    """published name, run directory, file with a genotype (FILE:NAME for one of several), or the text of a genotype"""
    out: Path = Path(".")
    """folder for the drawings (SVG and PNG)"""
    time: bool = False
    """measure the latency of each block of a chain on this machine's CPU, one image at a time"""
    image: int | None = None
    """side of the images for --time; by default 224 for a chain that shrinks them 32 times, else 32"""


def show(args: list[str]) -> int:
    from oche.report.block_latencies import known_latencies
    from oche.report.drawings.cell import cell_png, cell_svg
    from oche.report.read_run import read_run
    from oche.report.terminal import genotype_text

    given = simple(
        ShowArgs,
        args,
        "show",
        "Draw the cells of a genotype in the terminal and to files.",
        "oche show DARTS_V2\n  oche show runs/x --out pictures\n  oche show PROXYLESS_CPU --time",
    )
    path, latencies = Path(given.what), {}
    if os.path.isdir(path):  # pathlib refuses to ask about a long text
        genotype, name = Run.open(path).genotype, path.resolve().name
        latencies = known_latencies(read_run(path))
    else:
        genotype = read_genotype(path)
        name = "genotype" if {"(", "|", "{"} & set(given.what) else path.stem
    if given.time:
        latencies = _measure(genotype, given.image)
    print(genotype_text(genotype, latencies=latencies))
    print(genotype)
    given.out.mkdir(parents=True, exist_ok=True)
    for kind, cell in genotype.cells.items():
        file = given.out / f"{name}-{kind}.svg"
        file.write_text(cell_svg(cell, f"{name}: {cell_title(kind)}", latencies=latencies))
        cell_png(cell, file.with_suffix(".png"), f"{name}: {cell_title(kind)}", latencies=latencies)
        print(f"drawn: {file} and .png")
    return 0


def _measure(genotype: Genotype, side: int | None) -> dict[int, float]:
    """Measure the latency of each block of a chain on the CPU. Raises `OcheError` for other genotypes."""
    from oche.core.blocks import chain_blocks
    from oche.cost.block_latencies import block_latencies
    from oche.cost.latency_table import LatencyTable
    from oche.devices.engine import Engine
    from oche.spaces import ChainSpace

    chain_blocks(genotype)
    image = ChainSpace.around(genotype).image if side is None else (side, side)
    return block_latencies(genotype, LatencyTable.fresh(Engine("cpu")), 3, image)


@dataclass(frozen=True)
class QueryArgs:
    what: Annotated[str, tyro.conf.Positional]
    """cell of NAS-Bench-201: the text of the cell or of a genotype, a file with it, or the directory of a search"""
    table: Path
    """Parquet file with the accuracies of the benchmark (see oche.core.nasbench201.Table)"""


def query(args: list[str]) -> int:
    from oche.core.nasbench201 import Table

    given = simple(
        QueryArgs,
        args,
        "query",
        "Look a cell up in a table of NAS-Bench-201: its accuracies, its ranks, and how far it is below the best cell.",
        "oche query '|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|' "
        "--table nasbench201.parquet\n  oche query runs/x --table nasbench201.parquet",
    )
    arch: Genotype | str = given.what
    if os.path.isdir(given.what):
        arch = Run.open(given.what).genotype
    elif os.path.isfile(given.what):
        arch = read_genotype(given.what)
    print(Table(given.table).describe(arch))
    return 0


# --- oche list --------------------------------------------------------------------------------------------------------

Listing = tuple[tuple[str, ...], Iterable[tuple[str, ...]]]  # titles of the columns, rows


def _methods() -> Listing:
    from oche.methods.catalog import METHODS

    return ("name", "paper", "year", "what differs"), [(n, e.paper, str(e.year), e.differs) for n, e in METHODS.items()]


def _strategies() -> Listing:
    from oche.strategies import STRATEGIES

    return ("name", "paper", "year", "what it does"), [
        (n, e.paper, str(e.year), e.differs) for n, e in STRATEGIES.items()
    ]


def _scores() -> Listing:
    from oche.strategies import SCORES

    return ("name", "paper", "what it is"), [(n, s.paper, s.what) for n, s in SCORES.items()]


def _spaces() -> Listing:
    from oche.spaces import SPACES

    return ("name", "what it is"), [(n, _first_sentence(make)) for n, make in SPACES.items()]


def _data() -> Listing:
    from oche.data import DATASETS, FORMS, TEXT_FORMS, TEXTS

    return ("name or form", "what it is"), [
        item for table in (DATASETS, TEXTS, FORMS, TEXT_FORMS) for item in table.items()
    ]


def _genotypes() -> Listing:
    from oche.core.genotypes import GENOTYPES

    return ("name", "paper", "year", "source"), [(n, g.paper, str(g.year), g.source) for n, g in GENOTYPES.items()]


def _operations() -> Listing:
    from oche.spaces import OPERATIONS

    return ("name", "what it does"), [(n, op.summary) for n, op in OPERATIONS.items()]


def _recipes() -> Listing:
    from oche.training.recipes import RECIPES

    return ("name", "what it is"), [(n, _first_sentence(make)) for n, make in RECIPES.items()]


def _first_sentence(make: Callable[..., object]) -> str:
    """The first sentence of a docstring, up to a semicolon."""
    return " ".join((make.__doc__ or "").split()).split(". ")[0].split("; ")[0].rstrip(".")


TABLES: dict[str, Callable[[], Listing]] = {
    "methods": _methods,
    "strategies": _strategies,
    "scores": _scores,
    "spaces": _spaces,
    "data": _data,
    "genotypes": _genotypes,
    "operations": _operations,
    "recipes": _recipes,
}


def list_things(args: list[str]) -> int:
    """`oche list`, under a name that does not hide Python's own ``list``."""
    from rich.markup import escape
    from rich.table import Table

    known = ", ".join(TABLES)
    if asks(args):
        print(f"usage: oche list [{known.replace(', ', '|')}] [--plugins FILE ...]\n\nexample:\n  oche list methods")
        return 0
    topics = args
    if "--plugins" in args:
        at = args.index("--plugins")
        load_plugins(tuple(Path(p) for p in args[at + 1 :]))
        topics = args[:at]
    if len(topics) > 1 or (topics and topics[0] not in TABLES):
        raise OcheError(
            f"oche list knows no {' '.join(topics)!r}{did_you_mean(topics[0], [*TABLES])}; write one of {known}"
        )
    out = console()
    for topic in topics or TABLES:
        columns, rows = TABLES[topic]()
        table = Table(title=topic, title_justify="left", box=None, pad_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*map(escape, row))  # 'oche[hub]' is no markup
        out.print(table)
    return 0
