"""`oche toy` and `oche demo`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from oche.cli.common import simple
from oche.core.console import Log
from oche.runs.prepare import free


@dataclass(frozen=True)
class ToyArgs:
    out: Path | None = None
    """where the picture and the report go; by default the next free runs/toy"""
    xi: tuple[float, ...] = (0.0, 0.3, 0.5, 0.7)
    """look-ahead steps to try; 0 is first order"""
    overwrite: bool = False
    """move an existing run of that name aside"""
    quiet: bool = False
    """say nothing but warnings"""


def toy(args: list[str]) -> int:
    from oche.cli.demo_pipeline import toy_in

    given = simple(
        ToyArgs, args, "toy",
        "Solves min over a of L_val(w*(a), a) with L_train = (w - a)^2, L_val = a w - 2 a + 1 (the seed's Table 1, Figure 2).",
        "oche toy\n  oche toy --xi 0 0.5 1.0 --out runs/my-toy",
    )  # fmt: skip
    toy_in(given.out or free(Path("runs/toy")), Log(quiet=given.quiet), given.xi, given.overwrite)
    return 0


@dataclass(frozen=True)
class DemoArgs:
    out: Path | None = None
    """run directory; by default the next free runs/demo"""
    seed: int = 0
    """every random number follows from it"""
    overwrite: bool = False
    """move an existing run of that name aside"""
    quiet: bool = False
    """say nothing but warnings"""


def demo(args: list[str]) -> int:
    from oche.cli.demo_pipeline import start

    given = simple(
        DemoArgs, args, "demo",
        "Toy problem, search on the 1,797 handwritten digits of scikit-learn, training of the found network beside three random "
        "cells, report. No download; about three minutes on two cores.",
        "oche demo\n  oche demo --seed 1 --out runs/demo-1",
    )  # fmt: skip
    start(given.out or free(Path("runs/demo")), given.seed, given.overwrite, Log(quiet=given.quiet))
    return 0
