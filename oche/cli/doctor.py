"""Examine this machine: `oche doctor`."""

from __future__ import annotations

from dataclasses import dataclass

from oche.cli.common import simple
from oche.core.atomic_files import to_json
from oche.core.console import Log


@dataclass(frozen=True)
class DoctorArgs:
    json: bool = False
    """print JSON"""
    quick: bool = False
    """compile nothing and start no process: show what is known"""


def doctor(args: list[str]) -> int:
    from oche.bench.doctor import examine
    from oche.bench.facts import exit_code, page, plain

    given = simple(
        DoctorArgs, args, "doctor",
        "Show what this machine has: processor, memory, compiler, GPUs, packages, caches. Compile the kernels and prove them and "
        "each GPU in a process of its own, and show which forms were proved, how fast they are, and what to install. The exit "
        "code is 0 if everything that oche needs works, else 1.",
        "oche doctor\n  oche doctor --json > machine.json\n  oche doctor --quick",
    )  # fmt: skip
    facts = examine(given.quick, Log(quiet=given.json).say)
    print(to_json(plain(facts), 1) if given.json else page(facts))
    return exit_code(facts)
