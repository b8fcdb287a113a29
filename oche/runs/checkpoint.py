"""Checkpoints: a nested state in one safetensors file, written in one step and checked by its hash when it is read.

The name ``step-00000123-0123456789abcdef.safetensors`` carries the start of the SHA-256 of the file's bytes, so that any
damage is found. Tensors have readable keys; the dictionaries, lists, numbers and text around them are JSON in the header.
Nothing is ever pickled.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as dump_tensors
from torch import Tensor

from oche.core import atomic_files as atomic
from oche.core.errors import OcheError
from oche.core.finite import describe_not_finite

_NAME = re.compile(r"step-(\d+)-([0-9a-f]{16})\.safetensors")
_SKELETON, _DIGEST = "oche.state", "oche.sha256"

# --- a state and its bytes --------------------------------------------------------------------------------------------


def to_bytes(state: Any) -> bytes:
    """Return a nested state (dictionaries with text or integer keys, lists, tuples, tensors, numbers, text, None) as bytes.

    Values, dtypes and memory formats are exact. Read back, tensors are on the CPU, dictionaries are plain ones, and a
    shared tensor is copied. Raises TypeError for anything else, with its place.
    """
    tensors: dict[str, Tensor] = {}
    skeleton = json.dumps(_take_apart(state, "", tensors))
    return dump_tensors(tensors, {_SKELETON: skeleton})


def from_bytes(data: bytes) -> Any:
    """Return the state that `to_bytes` made ``data`` from. ``data`` must be whole; `load_latest` checks that."""
    length = int.from_bytes(data[:8], "little")
    skeleton = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_SKELETON])
    return _put_together(skeleton, parse_tensors(data))


def _take_apart(value: Any, at: str, tensors: dict[str, Tensor]) -> Any:
    """Return JSON for ``value``, and put its tensors into ``tensors``. Anything but numbers, text and None is [kind,
    contents].
    """
    if isinstance(value, Tensor):
        key = at or "/"
        while key in tensors:  # {"0": …, 0: …}
            key += "'"
        tensors[key] = _contiguous(value)
        return ["tensor", key, _strides(value)]
    if isinstance(value, dict):
        for key in value:
            if type(key) not in (str, int):
                raise TypeError(f"state{at}: a checkpoint takes dictionary keys of text or integers, found {key!r}")
        return ["dict", [[k, _take_apart(v, f"{at}/{k}", tensors)] for k, v in value.items()]]
    if type(value) in (list, tuple):
        return [type(value).__name__, [_take_apart(v, f"{at}/{i}", tensors) for i, v in enumerate(value)]]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"state{at}: a checkpoint cannot hold a {type(value).__name__}")


def _contiguous(t: Tensor) -> Tensor:
    """Return a contiguous copy of ``t`` on the CPU."""
    return t.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def _strides(t: Tensor) -> tuple[int, ...] | None:
    """Return the strides of a copy of ``t``, or None if they are the default ones.

    Convolutions choose their kernel, and so their rounding, by the strides. A momentum buffer in channels_last must come
    back in channels_last, or a resumed run would differ in its last bits.
    """
    dense = torch.empty_like(t, device="meta").stride()
    return None if dense == torch.empty(t.shape, device="meta").stride() else dense


def _put_together(skeleton: Any, tensors: dict[str, Tensor]) -> Any:
    """Invert `_take_apart`."""
    if not isinstance(skeleton, list):
        return skeleton
    kind, inner, *strides = skeleton
    if kind == "tensor":
        t = tensors[inner]
        return t if strides == [None] else torch.empty_strided(t.shape, strides[0], dtype=t.dtype).copy_(t)
    if kind == "dict":
        return {k: _put_together(v, tensors) for k, v in inner}
    return (tuple if kind == "tuple" else list)(_put_together(v, tensors) for v in inner)


# --- files ------------------------------------------------------------------------------------------------------------


def save(directory: str | Path, step: int, state: Any, keep: int = 2) -> Path:
    """Write ``state`` after ``step`` steps to ``directory`` and delete all but the ``keep`` newest checkpoints. Return the
    file.

    Older checkpoints are deleted once the new one is safely on disk. So are those of this and later steps: the run went
    back because they were damaged. Raises `OcheError` if the file cannot be written; the others are untouched then.
    """
    if keep < 1:
        raise ValueError(f"keep={keep} would drop the checkpoint just written; use keep >= 1")
    directory, data = Path(directory), to_bytes(state)
    path = directory / f"step-{step:08d}-{hashlib.sha256(data).hexdigest()[:16]}.safetensors"
    atomic.write_bytes(path, data)
    atomic.clean(directory)
    others = [p for p in _newest_first(directory) if p != path]
    for old in [p for p in others if _step(p) >= step] + [p for p in others if _step(p) < step][keep - 1 :]:
        old.unlink(missing_ok=True)
    return path


def load_latest(directory: str | Path, say: Callable[[str], object] = print) -> tuple[int, Any] | None:
    """Return (step, state) of the newest undamaged checkpoint in ``directory``, or None. ``say`` is told of each damaged
    one.
    """
    for path in _newest_first(Path(directory)):
        try:
            data = path.read_bytes()
        except OSError as error:
            say(f"checkpoint {path} cannot be read ({error.strerror}); trying the one before it")
            continue
        if not hashlib.sha256(data).hexdigest().startswith(path.stem.rpartition("-")[2]):
            say(f"checkpoint {path} is damaged (its contents do not match its name); trying the one before it")
            continue
        try:
            return _step(path), from_bytes(data)
        except (SafetensorError, ValueError, KeyError, TypeError):  # a file of another program with a matching name
            say(f"checkpoint {path} was not written by oche; trying the one before it")
    return None


def latest_step(directory: str | Path) -> int | None:
    """Return the number of steps after which the newest checkpoint in ``directory`` was written; None if there is none."""
    return next(map(_step, _newest_first(Path(directory))), None)


def drop(directory: str | Path, step: int) -> None:
    """Delete the checkpoints written after exactly ``step`` steps."""
    for path in _newest_first(Path(directory)):
        if _step(path) == step:
            path.unlink(missing_ok=True)


def _newest_first(directory: Path) -> list[Path]:
    found = [p for p in directory.glob("step-*.safetensors") if _NAME.fullmatch(p.name) and p.is_file()]
    return sorted(found, key=lambda p: (_step(p), p.stat().st_mtime_ns), reverse=True)


def _step(path: Path) -> int:
    return int(path.name.split("-")[1])


# --- weights ----------------------------------------------------------------------------------------------------------


def save_weights(path: str | Path, state_dict: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a state dict as a safetensors file in one step, with ``metadata`` in its header. Raises `OcheError`.

    Equal weights and metadata give equal bytes.
    """
    tensors = {key: _contiguous(t) for key, t in state_dict.items()}
    header = {**(metadata or {}), _DIGEST: _digest(tensors)}
    atomic.write_bytes(Path(path), _ordered(dump_tensors(tensors, header)))


def _ordered(data: bytes) -> bytes:
    """Return a safetensors file with sorted metadata in its header; the library writes them in any order."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8
    return len(text).to_bytes(8, "little") + text + data[start:]


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """Return the state dict in the safetensors file at ``path``, on the CPU.

    Files of `save_weights` are checked against the hash in their header; files of other programs have none. Raises
    `OcheError` if the file is absent, damaged or not a safetensors file, or if weights or statistics are not finite.
    """
    tensors, metadata = _read_weights(Path(path))
    if metadata.get(_DIGEST, "") not in ("", _digest(tensors)):
        raise OcheError(f"{path} is damaged: its weights do not match the hash in its header; restore it or train anew")
    if found := describe_not_finite(tensors):
        raise OcheError(
            f"{path} holds a network that cannot be used: {found}; train again, with a smaller learning rate or "
            "gradient clipping"
        )
    return tensors


def weights_metadata(path: str | Path) -> dict[str, str]:
    """Return the metadata given to `save_weights`, such as the genotype. Raises `OcheError` as `load_weights` does."""
    return {key: text for key, text in _read_weights(Path(path))[1].items() if key != _DIGEST}


def _read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not path.is_file():
        raise OcheError(f"no weights at {path}; give a .safetensors file such as runs/x/weights.safetensors")
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError) as error:
        raise OcheError(
            f"{path} is not an intact safetensors file: {' '.join(str(error).split())}; restore it"
        ) from None


def _digest(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of names, dtypes, shapes and values."""
    total = hashlib.sha256()
    for part in _parts(tensors):
        total.update(part)
    return total.hexdigest()


def _parts(tensors: dict[str, Tensor]) -> Iterator[bytes]:
    for name in sorted(tensors):
        t = tensors[name].contiguous()
        yield f"{name} {t.dtype} {tuple(t.shape)}\n".encode()
        yield t.reshape(-1).view(torch.uint8).numpy().tobytes()
