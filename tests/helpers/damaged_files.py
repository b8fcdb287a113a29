"""Ways in which a file of a run directory can be wrong, by name: missing, empty, cut, of another kind, not finite …"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load, save

Spoil = Callable[[Path], object]
WRONG = (None, "x", -1, [], {}, 1e308, True, [None], {"type": "x"})


def damages(path: Path, gross: Collection[str] = ()) -> Iterator[tuple[str, Spoil]]:
    """Yield (name, function that damages the file at a path) for every way that suits the kind of ``path``.

    ``gross``: the names of those to take, beside every key with one value of another kind; without them all are taken.
    """
    for name, spoil in _all(path):
        if not gross or name in gross or ": " in name:
            yield name, spoil


def _all(path: Path) -> Iterator[tuple[str, Spoil]]:
    data = path.read_bytes()
    yield "missing", Path.unlink
    yield "a folder in its place", lambda p: (p.unlink(), p.mkdir())
    yield "a link to nothing", lambda p: (p.unlink(), p.symlink_to("nowhere"))
    whole = {
        "empty": b"", "cut": data[: len(data) // 2], "a byte less": data[:-1], "noise": bytes(range(128, 256)) * 4,
        "zeros": bytes(len(data)), "more at the end": data + b"\n}{\xff", "other line ends": data.replace(b"\n", b"\r\n"),
        "a byte-order mark": b"\xef\xbb\xbf" + data, "a space": b" \n",
    }  # fmt: skip
    for name, text in whole.items():
        yield name, lambda p, text=text: p.write_bytes(text)
    for name, text in _KINDS.get(path.suffix, _nothing)(path, data):
        yield name, lambda p, text=text: p.write_bytes(text)


def _nothing(path: Path, data: bytes) -> Iterator[tuple[str, bytes]]:
    yield from ()


def _json(path: Path, data: bytes) -> Iterator[tuple[str, bytes]]:
    for text in ("[]", "{}", "3", "null", '"x"', "[{}]", "NaN", "[" * 3000, '{"a": ' * 2000):
        yield f"holds {text[:9]}", text.encode()
    for name, tree in _spoiled(json.loads(data)):
        yield name, json.dumps(tree).encode()
    for word in ("NaN", "-Infinity", "1e999"):
        yield f"numbers are {word}", re.sub(rb"(?<=[\s:\[,])-?\d+(\.\d+)?(e-?\d+)?(?=[\s,\]}])", word.encode(), data)


def _jsonl(path: Path, data: bytes) -> Iterator[tuple[str, bytes]]:
    first, *rest = data.splitlines(keepends=True)
    yield "first line cut", first[:9] + b"\n" + b"".join(rest)
    yield "last line cut", data[:-9]
    yield "a line of a list", b"[]\n" + data
    yield "empty lines", b"\n\n" + data + b"\n\n"
    yield "lines twice", data + data
    for name, tree in _spoiled(json.loads(first)):
        yield name, json.dumps(tree).encode() + b"\n" + b"".join(rest)


def _yaml(path: Path, data: bytes) -> Iterator[tuple[str, bytes]]:
    for name, tree in _spoiled(yaml.safe_load(data)):
        yield name, yaml.safe_dump(tree).encode()
    for text in ("- a\n", "just text", "a: [", "{}", "a: 1\na: 2\n", "seed: .nan\n"):
        yield f"holds {text.strip()}", text.encode()


def _spoiled(tree: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ``tree`` without each of its keys, with a key too many, with keys renamed, and with values of other kinds."""
    for i, key in enumerate(tree):
        yield f"with {key} renamed", {f"{k}2" if k == key else k: v for k, v in tree.items()}
        value = WRONG[i % len(WRONG)]
        yield f"{key}: {value!r}", {**tree, key: value}
    yield "a key too many", {**tree, "surprise": 1}


def _genotype(path: Path, data: bytes) -> Iterator[tuple[str, bytes]]:
    other = "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1)], normal_concat=range(2, 3))"
    for text in (other, "hello", "Genotype()", "|none~0|", "DARTS_V2", data.decode().replace("skip", "skop")):
        yield f"holds {text[:20]}", text.encode()


def _weights(path: Path, data: bytes) -> Iterator[tuple[str, bytes]]:
    tensors, length = load(data), int.from_bytes(data[:8], "little")
    about = json.loads(data[8 : 8 + length])["__metadata__"]
    bare = {k: v for k, v in about.items() if "sha" not in k}
    last = [*tensors][-1]
    changed = {
        "not finite": {k: v * float("nan") if v.is_floating_point() else v for k, v in tensors.items()},
        "one infinity": {k: v / 0 if k == last and v.is_floating_point() else v for k, v in tensors.items()},
        "a tensor less": {k: v for k, v in tensors.items() if k != last},
        "a tensor more": {**tensors, "surprise": torch.zeros(2)},
        "a tensor renamed": {k + "2" * (k == last): v for k, v in tensors.items()},
        "another shape": {k: v.new_zeros(v.numel() + 1) if k == last else v for k, v in tensors.items()},
        "half precision": {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()},
        "integers": {k: v.to(torch.int64) for k, v in tensors.items()},
        "nothing": {},
    }  # fmt: skip
    for name, made in changed.items():
        yield name, save(made, bare)
        yield f"{name}, with the hash of before", save(made, about)
    yield "without metadata", save(tensors)


_KINDS: dict[str, Callable[[Path, bytes], Iterator[tuple[str, bytes]]]] = {
    ".json": _json, ".jsonl": _jsonl, ".yaml": _yaml, ".txt": _genotype, ".safetensors": _weights,
}  # fmt: skip
