"""Options, checks and closing messages that several commands share."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import tyro

from oche.analysis.classification import describe_chance
from oche.core.config.command_line import parse
from oche.core.config.yaml_files import read_yaml
from oche.core.console import Log
from oche.core.errors import OcheError, did_you_mean, plural
from oche.core.plugins import load_plugins, plugin_paths
from oche.report.format_numbers import format_duration
from oche.runs.run import Run
from oche.training.recipes import RECIPES

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")
Path_ = Annotated[Path, tyro.conf.Positional]


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Options of `oche search` and `oche train` that are not part of the configuration."""

    out: Path | None = None
    """run directory; by default the next free one below runs/"""
    overwrite: bool = False
    """move an existing run at that path aside and start a new one"""
    quiet: bool = False
    """print warnings only"""


def take(args: list[str], *names: str) -> tuple[dict[str, str], list[str]]:
    """Take ``--name VALUE`` out of ``args`` for each of ``names``; return the values by name, and the other arguments.

    These options choose the defaults that all others then change, so they are read first. A --config file supplies those
    that the command line does not give. Plugins are run here too, since options may name what they register.
    Raises `OcheError` for an option without a value, or one that contradicts the file.
    """
    found: dict[str, str] = {}
    rest: list[str] = []
    items = iter(args)
    for item in items:
        flag, equals, value = item.partition("=")
        if flag.removeprefix("--") in names and flag.startswith("--"):
            value = value if equals else next(items, None)
            if value is None:
                raise OcheError(f"{flag} needs a value; write {flag} NAME")
            found[flag[2:]] = value
        else:
            rest.append(item)
    file = _from_config(rest)
    load_plugins(_paths(rest, "--plugins") or plugin_paths(file))
    for name, value in file.items():
        if name in names and name != "data" and name in found and found[name] != value:
            raise OcheError(
                f"--{name} {found[name]} and the --config file contradict each other: the file sets the {name} and its values; "
                f"leave one of them out, or change single values"
            )
        if name in names and isinstance(value, str):
            found.setdefault(name, value)
    return found, rest


def _paths(args: list[str], flag: str) -> tuple[Path, ...]:
    """The words after ``flag``, up to the next option."""
    found: list[Path] = []
    inside = False
    for arg in args:
        if arg.startswith("--"):
            name, equals, word = arg.partition("=")
            inside = name == flag and not equals
            found += [Path(word)] if name == flag and equals else []
        elif inside:
            found.append(Path(arg))
    return tuple(found)


def _from_config(args: list[str]) -> dict[str, Any]:
    """The top level of the --config file, if there is one."""
    files = values(args, "--config")
    # A missing file is reported where it is read.
    return read_yaml(files[0]) if files and os.path.isfile(files[0]) else {}


def values(args: list[str], flag: str) -> list[str]:
    """The values given to the option ``flag``."""
    pairs = pairwise([*args, ""])
    return [a.partition("=")[2] or b for a, b in pairs if a.partition("=")[0] == flag]


def choose(what: str, name: str, table: dict[str, T]) -> T:
    """Return ``table[name]``. Raises `OcheError` for an unknown name; ``what`` says what the table holds."""
    if name not in table:
        raise OcheError(f"unknown {what} {name!r}{did_you_mean(name, [*table])}; known: {', '.join(table)}")
    return table[name]


def part(args: Any, cls: Callable[..., T]) -> T:
    """The configuration ``cls`` that is part of a command's arguments."""
    return cls(**{f.name: getattr(args, f.name) for f in fields(cls)})  # pyright: ignore[reportArgumentType]


def simple(cls: type[T], args: list[str], command: str, description: str, example: str, main: Sequence[str] = ()) -> T:
    """Parse the arguments of a command without a configuration. ``example``: lines of the help; ``main``: its first options."""
    return parse(
        cls, args, prog=f"oche {command}", description=description, epilog=f"examples:\n  {example}", main=main
    )


def console() -> Console:
    """The console for tables. In a pipe every row is one line, for grep and cut."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 1000, highlight=False)


def percent(x: object) -> str:
    return f"{100 * x:.2f} %" if isinstance(x, int | float) else "unknown"


def reached(numbers: dict[str, Any]) -> str:
    """Return the result in words: "test accuracy 98.12 % (balanced 97.90 %, commonest class 12.50 %)", or the perplexities."""
    parts = {"val": "validation", "test": "test"}
    perplexities = [
        f"{what} perplexity {x:.2f}"
        for part, what in parts.items()
        if isinstance(x := numbers.get(f"{part}_ppl"), int | float)
    ]
    if perplexities:
        return ", ".join(perplexities)
    part = "val" if "val_acc" in numbers else "test"
    chance = describe_chance(numbers.get(f"{part}_balanced_acc"), numbers.get(f"{part}_majority"))
    return f"{parts[part]} accuracy {percent(numbers.get(f'{part}_acc'))}{chance}"


# --- closing lines ----------------------------------------------------------------------------------------------------


def decided_line(decided: int, nodes: int) -> str:
    """Return the line of the terminal about how many ``nodes`` a search decided."""
    told = f"decided {decided} of {nodes} nodes"
    if decided == nodes:
        return told
    return f"{told}; the {'choices of the others' if decided else 'cell'} may be noise: a longer search may decide"


def say_found(run: Run, log: Log) -> None:
    """Say what a search found, how long it took, where its report is, and what to write next."""
    if log.mute:
        return
    space, where = run.config.space, shlex.quote(str(run.path))
    name = space.recipe
    log.say(f"found: {run.genotype}")
    if (nodes := run.summary.get("nodes")) is not None:
        log.say(decided_line(run.summary["decided_nodes"], nodes))
    _say_time(run, log)
    log.say(f"report: {run.path / 'report.html'}")
    say_next(
        log,
        (f"oche train {where} --recipe {space.small}", "a small network, on any machine"),
        (
            f"oche train {where}{'' if name == 'darts' else f' --recipe {name}'}",
            f"the published size, {plural(RECIPES[name]().epochs, 'epoch')}, for a GPU",
        ),
        (f"oche show {where} --out {shlex.quote(str(run.path / 'pictures'))}", "the cell in the terminal"),
    )


def say_trained(run: Run, log: Log) -> None:
    """Say what a training reached, how long it took, where its report is, and what to write next."""
    if log.mute:
        return
    summary = run.summary
    facts = str(summary.get("note") or "").split("; ")  # all are said when the run starts
    told = facts[0] if len(facts) == 1 else f"{len(facts)} notes on the data are in the report"
    note = f" ({told})" if told else ""
    if not isinstance(count := summary.get("parameters"), int):
        raise OcheError(f"{run.path / 'summary.json'} is damaged: it has no parameters; see oche evaluate {run.path}")
    log.say(f"{run.path}: {reached(summary)}, {plural(count, 'weight')}{note}")
    _say_time(run, log)
    search = run.path.parent
    shown = f"; {search / 'report.html'} shows it too" if (search / "status.json").exists() else ""
    log.say(f"report: {run.path / 'report.html'}{shown}")
    say_next(log, *next_after_training(run.path, "test_ppl" in summary or "val_ppl" in summary))


def next_after_training(path: Path, text: bool) -> list[tuple[str, str]]:
    """The commands that use the training at ``path``, with what they do; ``text``: whether it is a language model."""
    where = shlex.quote(str(path))
    if text:
        return [(f"oche evaluate {where} --data YOUR.txt", "its perplexity on other text")]
    export = "" if _exports_onnx() else " --to safetensors"
    return [
        (f"oche evaluate {where}", "accuracy by class, calibration, the worst mistakes"),
        (f"oche predict {where} YOUR/IMAGES", "a CSV of classes for a folder of images"),
        (f"oche export {where}{export}", "weights and a model card" if export else "ONNX, and a model card"),
    ]


def _exports_onnx() -> bool:
    from oche.deploy.targets import TARGETS

    try:
        TARGETS["onnx"].check("onnx")
    except OcheError:
        return False
    return True


def _say_time(run: Run, log: Log) -> None:
    """Say the time that the summary and the report have, and what it leaves out."""
    summary = run.summary
    steps, seconds, others = (summary.get(key) for key in ("steps", "seconds", "other_seconds"))
    if not isinstance(steps, int) or not isinstance(seconds, int | float):
        return
    budget = getattr(run.config.search if run.kind == "search" else run.config.train, "budget", None)
    of = f" of a budget of {budget}" if budget else ""
    besides = (
        f"; besides, {format_duration(others)} to prepare (data, kernels, first step) and to conclude"
        if isinstance(others, float)
        else ""
    )
    log.say(f"time: {format_duration(seconds)}{of} for {plural(steps, 'step')}{besides}")


def say_next(log: Log, *commands: tuple[str, str]) -> None:
    """Print ``next:`` and the commands below each other, each with what it does."""
    width = max(len(command) for command, _ in commands)
    for i, (command, what) in enumerate(commands):
        log.say(f"{'next:' if i == 0 else '     '} {command:<{width}}   {what}".rstrip())
