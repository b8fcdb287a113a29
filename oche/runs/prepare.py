"""What a search or a training is going to do: its configuration complete, all that can be refused refused before it starts."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oche.bilevel.batches import check
from oche.core.architecture import Genotype
from oche.core.errors import OcheError
from oche.core.genotypes import resolve
from oche.core.plugins import load_plugins
from oche.data import DATASETS, TEXTS
from oche.data.text.files import is_text
from oche.devices.engine import Engine
from oche.devices.launch import read_environment
from oche.kernels.choose import choose
from oche.kernels.cpu import build as native
from oche.methods.published import METHODS
from oche.networks.lstm import LSTM
from oche.runs.config import Common, SearchConfig, TrainConfig
from oche.runs.execute import check_shares, load_data
from oche.runs.run import Run
from oche.spaces import SPACES
from oche.spaces.nasbench201_ground_truth import load_ground_truth as find_truth
from oche.spaces.nasbench201_ground_truth import table_for
from oche.training.gradient_check import check_search_in_bf16
from oche.training.language_recipes import is_language
from oche.training.recipes import default_for, space_at_recipe_size

if TYPE_CHECKING:
    from oche.core.console import Log
    from oche.runs.config import Common, SearchConfig, TrainConfig


def plan_search(space: str, method: str | None = None) -> SearchConfig:
    """The defaults of a search in the space of that name, by the method of that name; by default the space's own.

    Raises `KeyError` for names that `oche list` does not know.
    """
    made = SPACES[space]()
    method = method or made.method
    data = {"text": "ptb"}.get(made.domain, SearchConfig.data)
    return SearchConfig(method=method, search=made.suited(METHODS[method].make()), space=made, data=data)


def plan_training(
    what: Run | Genotype | str | Path, data: str | Path | None, options: dict[str, Any]
) -> tuple[TrainConfig, Path | None]:
    """The `TrainConfig` for ``what`` and the directory its run goes to by default (None: the next free one).

    Without a recipe among the ``options``, cells of language models get theirs.
    """
    if isinstance(what, str | Path) and os.path.isdir(what):  # pathlib refuses to ask about a long text
        what = Run.open(what)
    if not isinstance(what, Run):
        genotype = str(what if isinstance(what, Genotype) else read_what(what))
        own, default = default_for(genotype)
        return TrainConfig(**{"data": str(data or default), "genotype": genotype, **own, **options}), None
    origin = {f.name: getattr(what.config, f.name) for f in fields(Common)}
    own = data is None or locate(str(data)) == origin["data"]
    if not own:
        origin |= {"data": str(data), "limit": None, "size": None, "data_dir": None}
    genotype = what.config.genotype if what.kind == "train" else str(what.genotype)
    config = TrainConfig(**{**origin, "genotype": genotype, **default_for(genotype)[0], **options})
    suffix = "" if own else f"-{word(config.data)}"
    return config, free(what.path / f"train{suffix}")


def read_what(what: str | Path) -> Genotype | str:
    """What to train: as `read_genotype` finds it, or "lstm"."""
    return LSTM if str(what).lower() == LSTM else read_genotype(what)


def read_genotype(what: str | Path) -> Genotype:
    """The genotype with a published name, in a file, or in the text itself. Raises `OcheError`."""
    text = str(what)
    if os.path.isfile(text):
        return Genotype.parse(Path(text).read_text(errors="replace"))
    if "(" not in text and (os.sep in text or "/" in text):
        raise OcheError(
            f"there is nothing at {text}; give a run directory, a file with a genotype, its text or a published name"
        )
    return resolve(text)


def check_search(config: SearchConfig, log: Log, data: Any = None) -> tuple[SearchConfig, Any]:
    """``config`` complete, and the data it names (``data`` if at hand). Raises `OcheError` for all that can be refused."""
    load_plugins(config.plugins)
    config = anchored(config)
    _check_device(config, log, twice=config.search.method.hypergrad.twice)
    config.search.check(config.space)
    config = replace(config, table=table_for(config.table, config.data, config.space))
    truth = find_truth(config.table, config.data)
    if truth is not None:
        log.say(f"true accuracies: {truth.column} of {config.table}")
    data = data or load_data(config, log)
    check(data, config.space, config.search)
    check_shares(config, data, read_environment())
    config = replace(config, space=config.space.fit(data))
    if config.search.method.resource is not None:
        config.search.check_target(space_at_recipe_size(config.space, config.search.cost_recipe or config.space.recipe))
    check_search_in_bf16(config.space, config.search, Engine(config.device, fused=config.engine, processes=read_environment()))
    return config, data


def check_train(config: TrainConfig, log: Log, data: Any = None) -> tuple[TrainConfig, Any]:
    """The same for a training."""
    load_plugins(config.plugins)
    config = anchored(config)
    config = replace(config, genotype=str(read_what(config.genotype)))
    check_domains(config)
    _check_device(config, log, mixed=False)
    data = data or load_data(config, log)
    config.train.check(config.genotype, data, Engine(config.device, fused=config.engine, processes=read_environment()))
    check_shares(config, data, read_environment())
    return config, data


def _check_device(config: Common, log: Log, *, twice: bool = False, mixed: bool = True) -> None:
    """Raises `OcheError` where the device of ``config`` is not there, or cells cannot compute there as asked."""
    engine = Engine(config.device, processes=read_environment())
    _ = engine.device
    if is_text(config.data):  # language models have a fast path of their own, which needs nothing
        return
    if config.engine != "plain" and engine.device.type == "cpu" and native.pending():
        log.say("compiling fast kernels, once for this machine (about 20 s; --engine plain does without)")
    if config.engine == "fused":
        choose(config.engine, engine.device, engine.dtype, twice=twice, mixed=mixed)


def anchored(config: Any) -> Any:
    """``config`` with paths from the root, so that the run can be resumed and repeated from any other directory."""
    table = getattr(config, "table", None)  # of a search
    latencies = config.search.latencies if hasattr(config, "search") else None
    return replace(
        config,
        **({} if table is None else {"table": absolute(table)}),
        **({} if latencies is None else {"search": replace(config.search, latencies=absolute(latencies))}),
        data=locate(config.data),
        data_dir=config.data_dir and absolute(config.data_dir),
        plugins=tuple(map(absolute, config.plugins)),
    )


def absolute(path: str | Path) -> Path:
    return Path(os.path.abspath(os.path.expanduser(path)))


def locate(data: str) -> str:
    """The name of a data set, or where it is."""
    is_path = data not in (*DATASETS, *TEXTS) and os.path.exists(os.path.expanduser(data))
    return str(absolute(data)) if is_path else data


def word(data: str) -> str:
    """A data set's name as part of a directory's name."""
    return Path(data).resolve().stem.replace(":", "-")


def free(path: Path) -> Path:
    """``path``, or path-2, path-3 … where that exists."""
    n, candidate = 1, path
    while candidate.exists():
        n, candidate = n + 1, path.with_name(f"{path.name}-{n + 1}")
    return candidate


def check_domains(config: TrainConfig) -> None:
    """Raises `OcheError` where genotype, recipe and data are not all of images, or all of text; reads no data."""
    cell = "text" if is_language(config.genotype) else "images"
    made = {
        "text": "recurrent cells (and lstm) make language models",
        "images": "this genotype makes networks for images",
    }[cell]
    if config.train.domain != cell:
        use = {"text": "recurrent or recurrent-small", "images": "darts, say"}[cell]
        raise OcheError(
            f"{made}, and the recipe {config.recipe!r} is one for {config.train.domain}; write --recipe {use}"
        )
    if is_text(config.data) != (cell == "text"):
        use = {"text": "--data ptb or a text file", "images": "--data cifar10, say"}[cell]
        found = "images" if cell == "text" else "text"
        raise OcheError(f"{made}, and {config.data} is {found}; write {use}")
