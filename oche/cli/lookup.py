"""Looking things up: `oche query`, `oche show`, `oche list`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from oche.cli.common import console, simple
from oche.core.architecture import cell_title
from oche.core.errors import OcheError, did_you_mean
from oche.core.plugins import load_plugins
from oche.runs.prepare import read_genotype
from oche.runs.run import Run


@dataclass(frozen=True)
class QueryArgs:
    what: Annotated[str, tyro.conf.Positional]
    """cell of NAS-Bench-201: its text, that of a genotype, or the directory of a search"""
    table: Path
    """Parquet file of the benchmark's accuracies (see oche.core.nasbench201.Table)"""


def query(args: list[str]) -> int:
    from oche.core.nasbench201 import Table

    given = simple(
        QueryArgs,
        args,
        "query",
        "Looks a cell up in a table of NAS-Bench-201: accuracies, ranks, and how far it is below the best.",
        "oche query '|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|' "
        "--table nasbench201.parquet\n  oche query runs/x --table nasbench201.parquet",
    )
    arch = Run.open(given.what).genotype if os.path.isdir(given.what) else given.what
    print(Table(given.table).describe(arch))
    return 0


@dataclass(frozen=True)
class ShowArgs:
    what: Annotated[str, tyro.conf.Positional]
    """published name, run directory, file with a genotype, or its text"""
    out: Path = Path(".")
    """folder for the drawings (SVG and PNG)"""


def show(args: list[str]) -> int:
    from oche.report.drawings.cell import cell_png, cell_svg
    from oche.report.terminal import genotype_text

    given = simple(
        ShowArgs,
        args,
        "show",
        "Draws the cells of a genotype in the terminal and to files.",
        "oche show DARTS_V2\n  oche show runs/x --out pictures",
    )
    path = Path(given.what)
    if os.path.isdir(path):  # pathlib refuses to ask about a long text
        genotype, name = Run.open(path).genotype, path.resolve().name
    else:
        genotype = read_genotype(path)
        name = "genotype" if {"(", "|"} & set(given.what) else path.stem
    print(genotype_text(genotype))
    print(genotype)
    given.out.mkdir(parents=True, exist_ok=True)
    for kind, cell in genotype.cells.items():
        file = given.out / f"{name}-{kind}.svg"
        file.write_text(cell_svg(cell, f"{name}: {cell_title(kind)}"))
        cell_png(cell, file.with_suffix(".png"), f"{name}: {cell_title(kind)}")
        print(f"drawn: {file} and .png")
    return 0


def list_things(args: list[str]) -> int:
    from rich.markup import escape
    from rich.table import Table

    from oche.cli.list import TABLES

    known = ", ".join(TABLES)
    if args and args[0] in ("-h", "--help"):
        print(f"usage: oche list [{known.replace(', ', '|')}] [--plugins FILE ...]\n\nexample:\n  oche list methods")
        return 0
    topics = args
    if "--plugins" in args:
        at = args.index("--plugins")
        load_plugins(tuple(Path(p) for p in args[at + 1 :]))
        topics = args[:at]
    if len(topics) > 1 or (topics and topics[0] not in TABLES):
        raise OcheError(f"oche list knows no {' '.join(topics)!r}{did_you_mean(topics[0], [*TABLES])}; write one of {known}")
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
