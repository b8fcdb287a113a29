"""Measurements: `oche compare` and `oche bench`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from oche.bench.settings import Setting as BenchSetting
from oche.cli.common import part, simple
from oche.core.console import Log
from oche.study.comparison.settings import Setting


@dataclass(frozen=True, kw_only=True)
class CompareArgs(Setting):
    quiet: bool = False
    """say nothing but warnings"""


def compare(args: list[str]) -> int:
    from oche.study.comparison.run import run

    given = simple(
        CompareArgs,
        args,
        "compare",
        "Runs methods with several seeds on NAS-Bench-201, each search a process of its own, and writes what their cells really "
        "reach: OUT/table.md, table.csv and compare.svg. Finished runs are kept and unfinished ones go on, so the same line can "
        "be given again. The defaults suit a small machine; the published size is in the last example.",
        "oche compare --table nasbench201.parquet --methods darts gdas --seeds 0 1 2 --steps 400\n"
        "  oche compare --data cifar10.parquet --table nasbench201.parquet --budget 5m --jobs 2 --out runs/five-minutes\n"
        "  oche compare --table nasbench201.parquet --channels 16 --cells 5 --limit None --steps 19500 --device cuda",
    )
    return run(given, Log(quiet=given.quiet))


@dataclass(frozen=True)
class BenchArgs(BenchSetting):
    out: Path | None = None
    """file for the table, in Markdown"""
    quiet: bool = False
    """say nothing but the table"""


def bench(args: list[str]) -> int:
    from oche.bench.table import bench

    given = simple(
        BenchArgs, args, "bench",
        "Times steps of searches and of training in several forms of the same computation, in turns, each form in a process of "
        "its own: median, spread, peak memory, and how many times as fast as the published code or oche's plain form.",
        "oche bench\n  oche bench --works first second --batch 64 --threads 2 --out speed.md\n"
        "  oche bench --works pc-darts --batch 256 --device cuda --steps 5",
    )  # fmt: skip
    return bench(part(given, BenchSetting), given.out, Log(quiet=given.quiet))
