"""Data handed over in Python: kept as one npz file in the directory of the run, which then needs the object no more."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from oche.core import atomic_files as atomic
from oche.core.arguments import short
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.data.readers.python_objects import as_file, is_python_object
from oche.runs.config import TrainConfig
from oche.runs.membership import Earlier
from oche.runs.plan import SearchPlan, TrainPlan
from oche.runs.resolve import absolute
from oche.runs.run import DATA, Run
from oche.runs.run_data import is_data_of
from oche.runs.session import Listener

_LARGE = 2**30  # bytes of a file that is worth a word
P = TypeVar("P", SearchPlan, TrainPlan)


@contextmanager
def place_of(
    data: Any, size: int | tuple[int, int] | None, layout: str | None, log: Log, whole: bool = False
) -> Iterator[tuple[Any, Path | None]]:
    """Yield the name or path of ``data`` as text (None: no data) and, if it is an object, the temporary file that holds it.

    The arguments are those of `oche.data.readers.python_objects.as_file`, which tells the forms that an object may have.
    """
    if data is None:
        yield None, None
        return
    with as_file(data, size=size, layout=layout, progress=not log.quiet, whole=whole) as place:
        yield str(place), Path(place) if is_python_object(data) else None


def form_of(what: Any, options: Mapping[str, Any]) -> tuple[int | None, str | None]:
    """Return (size, layout) by which objects are read: those of ``options``, else those of the run ``what``."""
    run = _run(what)
    names = ("size", "layout")
    size, layout = (options.get(n, None if run is None else getattr(run.config, n)) for n in names)
    return size, layout


def shape_of(run: Run) -> tuple[tuple[int, int] | None, str | None]:
    """Return ((H, W), layout) by which objects are read that a trained network is measured on."""
    match run._json("space.json").get("image"):
        case [int(height), int(width)]:
            return (height, width), run.config.layout
        case _:
            return None, run.config.layout


def _run(what: Any) -> Run | None:
    if isinstance(what, str | os.PathLike) and os.path.isdir(what):
        return Run.open(Path(what))
    return what if isinstance(what, Run) else None


# --- the file in the run ------------------------------------------------------------------------------------------------


def with_kept_data(plan: P, path: Path, file: Path | None) -> P:
    """Return ``plan`` for a run at ``path`` that keeps ``file``; None: it keeps none."""
    return plan if file is None else replace(plan, config=replace(plan.config, data=str(kept_place(path, file))))


def kept_place(path: Path, file: Path) -> Path:
    """Return where the run at ``path`` keeps ``file``."""
    return absolute(path) / DATA / file.name


def keep_data(path: Path, file: Path, log: Log) -> None:
    """Copy ``file`` into the run at ``path``. Raises `OcheError` if the disk is full."""
    if (size := file.stat().st_size) > _LARGE:
        log.warn(
            f"{path} keeps the {size / 2**30:.1f} GB of images that were handed over; runs on a file or a folder keep none"
        )
    atomic.copy_file(file, kept_place(path, file))


def without_second_copy(what: Any, config: TrainConfig, file: Path | None) -> tuple[TrainConfig, Path | None]:
    """Return ``config`` and ``file`` for a training of ``what``, whose own data are used if ``file`` has the same images."""
    run = _run(what)
    if file is None or run is None or not os.path.exists(run.config.data):
        return config, file
    log = Log(quiet=True)
    if not is_data_of(run, Earlier.read(run.path, log), str(file), None, log):
        return config, file
    return replace(config, data=run.config.data, data_dir=run.config.data_dir), None


def place_again(run: Run, data: Any, log: Log, writes: bool) -> str | None:
    """Return the place that ``data`` names for the run's data, if it is another than before; None: the run's own.

    An object is put back into ``run``, if its own data are gone. ``writes``: whether this process may write. Raises `OcheError`
    if the object has other images.
    """
    if data is None:
        return None
    with place_of(data, *form_of(run, {}), log) as (place, file):
        return place if file is None else _put_back(run, file, log, writes)


def _put_back(run: Run, file: Path, log: Log, writes: bool) -> str | None:
    if not is_data_of(run, Earlier.read(run.path, log), str(file), None, log):
        raise OcheError(
            f"the data handed over are not those that {run.path} was begun with; hand over the same, or start anew"
        )
    if os.path.exists(run.config.data):
        return None
    if writes:
        keep_data(run.path, file, log)
    return str(kept_place(run.path, file))


# --- listeners ----------------------------------------------------------------------------------------------------------


def listeners_of(on_epoch: Any) -> tuple[Listener, ...]:
    """Return the functions in ``on_epoch``: one, or several in a list. Raises `OcheError` for anything else."""
    if on_epoch is None:
        return ()
    functions = tuple(on_epoch) if isinstance(on_epoch, list | tuple) else (on_epoch,)
    for function in functions:
        if not callable(function) or isinstance(function, type):
            raise OcheError(
                f"on_epoch is {short(function)}; give a function of one record, or a list of such functions"
            )
    return functions
