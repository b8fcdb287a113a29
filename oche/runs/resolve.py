"""Resolving names and paths of users: data sets, genotypes, and the default configuration of a command."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from oche.core.annotations import can_name_file
from oche.core.architecture import Genotype
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.core.genotypes import read_file, resolve
from oche.data import DATASETS, TEXTS, is_text
from oche.methods.catalog import METHODS
from oche.networks.lstm import LSTM
from oche.runs.config import Common, SearchConfig, TrainConfig
from oche.runs.membership import Earlier
from oche.runs.run import Run
from oche.runs.run_data import is_data_of
from oche.spaces import SPACES
from oche.training.recipes import default_for


def default_search(space: str, method: str | None = None) -> SearchConfig:
    """Return the default configuration of a search in the named space, by the named method (None: the space's own).

    Raises `KeyError` for names that `oche list` does not know.
    """
    made = SPACES[space]()
    method = method or made.method
    data = {"text": "ptb"}.get(made.domain, SearchConfig.data)
    return SearchConfig(method=method, search=METHODS[method].for_space(made), space=made, data=data)


def default_training(
    what: Run | Genotype | str | Path, data: str | Path | None, options: dict[str, Any]
) -> tuple[TrainConfig, Path | None]:
    """Return the `TrainConfig` for ``what``, and the default directory of its run (None: the next free one).

    ``what``: a run or its directory, a `Genotype`, its text, a published name, or "lstm". ``data`` None: those of the run. Data
    that are the run's own, there or at another place, keep the parts that they had in the run.
    Without a recipe among ``options``, recurrent cells get the recipe for language models. Raises `OcheError`.
    """
    if isinstance(what, str | Path) and os.path.isdir(what):  # pathlib raises for a long text
        what = Run.open(what)
    if not isinstance(what, Run):
        genotype = str(what if isinstance(what, Genotype) else read_trainable(what))
        own, default = default_for(genotype)
        return TrainConfig(**{"data": str(data or default), "genotype": genotype, **own, **options}), None
    what = what.trained()
    origin = {f.name: getattr(what.config, f.name) for f in fields(Common)}
    own = data is None or locate(str(data)) == origin["data"]
    if not own:
        place, archives = locate(str(data)), options.get("data_dir")
        own = is_data_of(
            what, Earlier.read(what.path, Log(quiet=True)), place, archives, Log(quiet=True), options.get("damaged")
        )
        origin |= {"data": str(data), "data_dir": None} | ({} if own else {"limit": None, "size": None})
    # Of other images those that the run has seen are not tested either; other text has none of its parts.
    origin["parts"] = what.path if own or not is_text(origin["data"]) else None
    genotype = what.config.genotype if what.kind == "train" else str(what.genotype)
    config = TrainConfig(**{**origin, "genotype": genotype, **default_for(genotype)[0], **options})
    suffix = "" if own else f"-{slug(config.data)}"
    return config, next_free_path(what.path / f"train{suffix}")


def read_trainable(what: str | Path) -> Genotype | str:
    """Return the genotype to train, as `read_genotype`, or "lstm"."""
    return LSTM if str(what).lower() == LSTM else read_genotype(what)


def read_genotype(what: str | Path) -> Genotype:
    """Return the genotype with a published name, in a file, or in the text itself. Raises `OcheError`.

    Of several genotypes in a file ``FILE:NAME`` is the one with that name, ``FILE:LINE`` the one on that line.
    """
    text = str(what)
    if os.path.isfile(text):
        return read_file(text)
    file, _, which = text.rpartition(":")
    if file and which and os.path.isfile(file):
        return read_file(file, which)
    if not {"(", "{", "|"} & set(text) and (os.sep in text or "/" in text):
        raise OcheError(
            f"there is nothing at {text}; give a run directory, a file with a genotype, its text or a published name"
        )
    return resolve(text)


def with_absolute_paths(config: Any) -> Any:
    """Return ``config`` with absolute paths, so that the run can be resumed and repeated from any directory."""
    table = getattr(config, "table", None)  # of a search
    latencies = config.search.latencies if isinstance(config, SearchConfig) else None
    search = None if latencies is None else replace(config.search, latencies=absolute(latencies))
    init = config.init if isinstance(config, TrainConfig) else None
    return replace(
        config,
        **({} if table is None else {"table": absolute(table)}),
        **({} if init is None else {"init": absolute(init)}),
        **({} if search is None else {"search": search}),
        data=locate(config.data),
        data_dir=config.data_dir and absolute(config.data_dir),
        parts=config.parts and absolute(config.parts),
        plugins=tuple(map(absolute, config.plugins)),
    )


def with_place(config: Any, data: str | Path | None, data_dir: str | Path | None) -> Any:
    """Return ``config`` with its data at another place, each None as before."""
    if data is not None:
        config = replace(config, data=locate(str(data)), data_dir=None)
    return config if data_dir is None else replace(config, data_dir=absolute(data_dir))


def absolute(path: str | Path) -> Path:
    """Return an absolute path, with ~ replaced by the home directory."""
    return Path(os.path.abspath(os.path.expanduser(path)))


def locate(data: str) -> str:
    """Return the name of a data set, or the absolute path of data."""
    if not can_name_file(data):
        raise OcheError(f"there are no data at {data[:60]!r}…; give a path, or a name of: oche list data")
    is_path = data not in (*DATASETS, *TEXTS) and os.path.exists(os.path.expanduser(data))
    return str(absolute(data)) if is_path else data


def slug(data: str) -> str:
    """Return the name of a data set as part of a directory's name."""
    return Path(locate(data)).resolve().stem.replace(":", "-")


def next_free_path(path: Path) -> Path:
    """Return ``path``, or the first of path-2, path-3 … that does not exist."""
    n, candidate = 1, path
    while candidate.exists():
        n, candidate = n + 1, path.with_name(f"{path.name}-{n + 1}")
    return candidate
