"""Bad words: genotypes, cells of NAS-Bench-201, YAML configurations, options. Nothing is computed, since the data of the
command lines do not exist."""

from __future__ import annotations

import codecs
import json
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import sound
import yaml
from judge import Case
from mangle import WORDS, damaged, mangled
from sound import Sound

import oche
from oche.cli.main import COMMANDS

NOWHERE = "nowhere.npz"
_NB201 = "|nor_conv_3x3~0|+|avg_pool_3x3~0|skip_connect~1|+|none~0|nor_conv_1x1~1|nor_conv_3x3~2|"


@cache
def _genotypes() -> tuple[str, ...]:
    return tuple(str(published.genotype) for published in oche.genotypes.GENOTYPES.values())


def _other_form(rng: Random) -> str:
    """A published genotype in a form of another tool: a line of a log, a Python file, or JSON of NNI or AutoDL-Projects."""
    text = rng.choice(_genotypes())
    cells = oche.genotypes.resolve(text).cells
    nodes = {kind: [[list(e[:2]) for e in c.edges if e[2] == n] for n in c.nodes] for kind, c in cells.items()}
    hub = {
        f"{kind}/{what}_{n}_{k}": value
        for kind, c in cells.items()
        for n in c.nodes
        for k, edge in enumerate(e for e in c.edges if e[2] == n)
        for what, value in (("op", edge[0]), ("input", [edge[1]]))
    }
    named = {f"{kind}_concat": list(c.concat) for kind, c in cells.items()} | nodes
    return rng.choice((
        f"2024-01-01 00:00:00,000 genotype = {text}",
        f"import os\nA = {text}\nB = {rng.choice(_genotypes())}\n",
        json.dumps(hub),
        json.dumps(named),
        json.dumps({"genotype": text}),
        f"{text}\n{text}\n",
    ))  # fmt: skip


def genotype(rng: Random, sound: Sound, at: Path) -> Case:
    """A published genotype with lost, swapped and invented tokens, also in forms of other tools, as text and in a file."""
    text = mangled(rng, rng.choice(_genotypes()) if rng.random() < 0.5 else _other_form(rng))
    if rng.random() < 0.5:
        mark = rng.choice((b"", codecs.BOM_UTF8, codecs.BOM_UTF16_LE))
        (at / "genotype.txt").write_bytes(mark + text.encode("utf-8", "surrogateescape"))
        which = rng.choice(("", "", ":A", ":2", ":", ":no such name"))
        return Case(("train", f"{at / 'genotype.txt'}{which}", "--data", NOWHERE))
    return Case(("train", "--genotype", text, "--data", NOWHERE))


def nb201(rng: Random, sound: Sound, at: Path) -> Case:
    """A damaged cell of NAS-Bench-201, to train, draw and look up in a file that is no table."""
    text = mangled(rng, _NB201)
    if rng.random() < 0.3:
        (at / "table.parquet").write_bytes(damaged(rng, _parquet()))
        return Case(("query", text, "--table", str(at / "table.parquet")))
    return Case(("train", "--genotype", text, "--data", NOWHERE))


_parquet = cache(sound.parquet)

# --- configurations -------------------------------------------------------------------------------------------------------

_configurations = cache(sound.configurations)
_VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 0.5, -0.5, 1e400, -1e400, float("nan"), 10**9, -(10**9), 10**30, 1e-300, "", "x",
    "1", "nan", [], {}, [1],
    [[]], [None], {"type": "Softmax"}, {"type": "None"}, {"type": 3}, {"a": 1}, {1: 2}, {"type": "TopK", "x": 1},
    ["none"] * 100, "DARTS_V2", "${x}",
)  # fmt: skip
# Text that no Python mapping can be written as: the same key twice, aliases of aliases, a tag that
# would run code, numbers and dates beyond all bounds, keys that are lists.
_LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}, *{a}, *{a}]\n" for a, b in zip("abcdefghij", "bcdefghijk", strict=True)
) + "data: *k\n"  # fmt: skip
_YAML = (
    "seed: 1\nseed: 2\n", _LAUGHS,
    "data: &x [*x]\n", "space: &x {type: ConvSpace, space: *x}\n",
    "seed: !!python/object/apply:os.system ['true']\n", f"seed: {'9' * 5000}\n",
    "seed: 2001-99-99\n", "seed: 2001-01-01\n", "seed: 190:20:30\n", "? [a, b]\n: 1\n", "? {a: b}\n: 1\n",
    "seed: !!int x\n", "seed: !!float x\n", "limit: !!binary '*'\n",
    "data: !!binary aGVsbG8=\n", "seed: !!set {a}\n", "[" * 3000, "{a: " * 3000, "- a\n", "just text",
    "%YAML 9.9\n---\na: 1\n", "a: 1\n---\nb: 2\n", "data: \"\\ud800\"\n",
    "<<: 3\n", "<<: [1]\n", "seed: !!timestamp x\n", "seed: .nan\n", "checkpoint: .inf\n", "seed: 1e3\n", "a: *b\n",
    "\tseed: 1\n", "seed: 0b" + "1" * 5000 + "\n", "seed: !!bool x\n", "seed: !!null x\n",
    "? \n: 1\n", "seed: !!omap [a]\n", "seed: !!pairs [a]\n", "true: 1\n", "null: 1\n", "1.5: 1\n", "seed: ! x\n",
    "seed: !<tag:yaml.org,2002:int> 0o9\n",
)  # fmt: skip


def configuration(rng: Random, sound: Sound, at: Path) -> Case:
    """A complete configuration with wrong values, keys, text or bytes, for --config."""
    command, text = rng.choice(_configurations())
    how = rng.random()
    if how < 0.6:
        tree = yaml.safe_load(text)
        for _ in range(rng.randint(1, 3)):
            _spoil(rng, tree)
        data = yaml.dump(tree, allow_unicode=True).encode("utf-8", "surrogateescape")
    elif how < 0.8:
        data = mangled(rng, text).encode("utf-8", "surrogateescape")
    elif how < 0.9:
        data = damaged(rng, text.encode())
    else:
        data = (rng.choice(_YAML) + rng.choice(("", text))).encode("utf-8", "surrogatepass")
    (at / "config.yaml").write_bytes(data)
    return Case((command, "--config", str(at / "config.yaml"), "--data", NOWHERE), kept=(at / "config.yaml",))


_STUDY: dict[str, Any] = {
    "out": "out", "jobs": 2, "device": "cpu", "limit": 60, "recipe": "small", "space": {"channels": 2, "cells": 3},
    "search.epochs": 2,
    "search": {"batch": 16}, "train": {"steps": 2},
    "grid": [{"method": ["darts", "random"], "seed": "0-4"}, {"method": "gdas", "search.warmup": 0.5, "seed": [0, 1]}],
    "trials": [{"method": "pc-darts", "seed": 7, "search.w.lr": 0.1}],
}  # fmt: skip


def study(rng: Random, sound: Sound, at: Path) -> Case:
    """The file of a study with such errors, to be checked only."""
    how = rng.random()
    tree = yaml.safe_load(yaml.safe_dump(_STUDY))
    for _ in range(rng.randint(1, 3) if how < 0.6 else 0):
        _spoil(rng, tree)
    text = yaml.dump(tree, allow_unicode=True)
    data = (text if how < 0.6 else mangled(rng, text)).encode("utf-8", "surrogateescape")
    if how > 0.8:
        data = damaged(rng, text.encode()) if how < 0.9 else (rng.choice(_YAML) + text).encode("utf-8", "surrogatepass")
    (at / "study.yaml").write_bytes(data)
    return Case(("study", str(at / "study.yaml"), "--check", "--quiet"), kept=(at / "study.yaml",))


def _spoil(rng: Random, tree: dict[Any, Any]) -> None:
    """Change one value, key or type somewhere below ``tree``."""
    here: Any = tree
    while True:
        inner = [v for v in (here.values() if isinstance(here, dict) else here) if isinstance(v, dict | list) and v]
        if not inner or rng.random() < 0.3:
            break
        here = rng.choice(inner)
    key = rng.choice([*here]) if isinstance(here, dict) else rng.randrange(len(here))
    how = rng.randrange(8)
    if how == 0:
        del here[key]
    elif how == 1 and isinstance(here, dict):
        here[rng.choice((mangled(rng, str(key)), 3, None, "type"))] = here.pop(key)
    elif how == 2:
        here[key] = mangled(rng, str(here[key]))
    else:
        here[key] = rng.choice(_VALUES)


# --- command lines --------------------------------------------------------------------------------------------------------


@cache
def _options(command: str) -> tuple[str, ...]:
    from oche.core.config.command_line import paths
    from oche.runs.config import SearchConfig, TrainConfig

    base = SearchConfig() if command == "search" else TrainConfig()
    return tuple("--" + ".".join(path).replace("_", "-") for path, *_ in paths(base))


def options(rng: Random, sound: Sound, at: Path) -> Case:
    """One to four options of a search or a training with wrong values."""
    command = rng.choice(("search", "train"))
    words = [command] if command == "search" else [command, rng.choice(("DARTS_V2", "lstm", "DARTS_RNN_V2"))]
    for _ in range(rng.randint(1, 4)):
        flag = rng.choice(
            (*_options(command), "--method", "--space", "--recipe", "--data", "--config", "--plugins", "--random")
        )
        flag = mangled(rng, flag) if rng.random() < 0.1 else flag
        value = rng.choice((*WORDS, *map(str, _VALUES), "Softmax", "exact", "TopK", "gdas", "recurrent", "nb201"))
        words += rng.choice(([flag, value], [f"{flag}={value}"], [flag], [flag, value, value]))
    return Case((*_argv(words), "--data", NOWHERE))


def commands(rng: Random, sound: Sound, at: Path) -> Case:
    """Any command with a few random words."""
    known = (
        *WORDS,
        *COMMANDS,
        "--help",
        "--out",
        "--quiet",
        "--seed",
        "--config",
        "--table",
        "--methods",
        "runs/x",
        "DARTS_V2",
        str(at),
    )
    command = rng.choice((*COMMANDS, mangled(rng, rng.choice([*COMMANDS]))))
    words = [rng.choice(known) for _ in range(rng.randint(0, 4))]
    return Case(tuple(_argv([command, *words, "--no-such-option", NOWHERE])))


def _argv(words: list[str]) -> list[str]:
    """The words as the system passes them: it ends them at a zero byte."""
    return [word.replace("\x00", "") for word in words]
