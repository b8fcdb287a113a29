"""oche from Python: `search`, `train`, `resume`, and the `Run` they return. The command line calls the same functions."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from .arch import Genotype
from .data import DATASETS, TEXTS
from .errors import OcheError
from .plugins import load_plugins, load_plugins_of

if TYPE_CHECKING:
    from .classifier import Classifier
    from .configs import Common, SearchConfig, TrainConfig
    from .language_recipe import LanguageRecipe
    from .method import Method
    from .run.log import Log
    from .spaces import Space
    from .training import Recipe

Kind = Literal["search", "train", "toy"]


@dataclass(frozen=True)
class Run:
    """A run directory, read as needed."""

    path: Path

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Raises `OcheError` where there is no run."""
        from .run.claim import check_run

        check_run(Path(path))
        return cls(Path(path))

    def _json(self, name: str) -> dict[str, Any]:
        from .run.atomic import read_json

        return read_json(self.path / name)

    @property
    def state(self) -> str:
        """running, interrupted, failed or complete."""
        return str(self._json("status.json").get("state", "failed"))

    @property
    def kind(self) -> Kind:
        """search or train; toy for the toy problem."""
        return cast("Kind", str(self._json("status.json").get("kind", "search")))

    @property
    def summary(self) -> dict[str, Any]:
        """The results at the end; empty before."""
        return self._json("summary.json")

    @property
    def history(self) -> list[dict[str, Any]]:
        """One record an epoch, see docs/runs.md."""
        from .run.rundir import read_metrics

        return read_metrics(self.path)

    @property
    def genotype(self) -> Genotype:
        """The cells found (of a search), or trained."""
        file = self.path / "genotype.txt"
        if not file.exists():
            if self.kind == "train":
                raise OcheError(f"{self.path} trains {self.config.genotype!r}, which has no cells")
            raise OcheError(f"{self.path} has no genotype yet; go on with: oche resume {self.path}")
        return Genotype.parse(file.read_text(errors="replace"))

    @cached_property
    def config(self) -> Any:
        """The `SearchConfig` or `TrainConfig` that made it."""
        from .configs import SearchConfig, TrainConfig
        from .run.config import load_yaml

        kinds = {"search": SearchConfig, "train": TrainConfig}
        if self.kind not in kinds:
            raise OcheError(
                f"{self.path} is a {self.kind} run, which has no settings; give one of a search or a training"
            )
        load_plugins_of(self.path / "config.yaml")
        return load_yaml(self.path / "config.yaml", kinds[self.kind]())


def search(
    data: str | Path = "digits",
    *,
    space: Space | None = None,
    method: Method | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    quiet: bool = True,
    **options: Any,
) -> Run:
    """Searches for cells on ``data`` and returns the run.

    ``space``: a search space (default `oche.spaces.darts()`); its classes, channels and image size are taken from the data.
    ``method``: a `Method` (default the one named by ``space.method``, as suits the space; in a space of language models take
    others as ``space.suited(oche.methods.gdas())``). ``options``: further fields of `SearchConfig`, such as ``seed=1`` or
    ``device="cpu"``. ``out``: run directory, by default the next free one below ``runs/``. Raises `OcheError`.
    """
    from .configs import SearchConfig
    from .methods import METHODS, closest
    from .run.ranks import voice
    from .spaces import darts

    space = space or darts()
    parts: dict[str, Any] = {
        "space": space,
        "method": space.method,
        "search": space.suited(METHODS[space.method].make()),
    }
    if method is not None:
        parts |= {"search": method, "method": closest(method, {name: m.make() for name, m in METHODS.items()})}
    return run_search(SearchConfig(data=str(data), **parts, **options), out=out, overwrite=overwrite, log=voice(quiet))


def train(
    what: Run | Genotype | str | Path,
    data: str | Path | None = None,
    *,
    recipe: Recipe | LanguageRecipe | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    quiet: bool = True,
    **options: Any,
) -> Run:
    """Trains a network from scratch and returns the run.

    ``what``: a run (or its directory), a `Genotype`, its text, a published name, or "lstm". ``data`` defaults to the run's own.
    ``recipe``: a `Recipe` (default `oche.training.darts()`), or for a recurrent cell a `LanguageRecipe` (default
    `oche.language_recipe.recurrent()`). ``options``: further fields of `TrainConfig`. Raises `OcheError`.
    """
    from .methods import closest
    from .recipes import RECIPES
    from .run.ranks import voice

    if recipe is not None:
        alike = {name: made for name, make in RECIPES.items() if type(made := make()) is type(recipe)}
        options |= {"train": recipe, "recipe": closest(recipe, alike)}
    config, default_out = plan_training(what, data, options)
    return run_train(config, out=out or default_out, overwrite=overwrite, log=voice(quiet))


def resume(path: str | Path, *, quiet: bool = True) -> Run:
    """Goes on with an unfinished run, to the same result bit for bit on CPU as without the interruption.

    Raises `OcheError` where there is no run, or another process is at work in it.
    """
    from .run.ranks import join, voice
    from .work import go_on

    ranks, log = join(), voice(quiet)
    with ranks.together():
        run = Run.open(path)
    if run.state == "complete":
        log.say(f"{path} is complete; nothing to resume")
        if ranks.leads and not (run.path / "report.html").exists():  # stopped between its end and its report
            from .report import write_report

            write_report(run.path)
        return run
    with ranks.together():
        config = run.config  # refuses what is neither
    with ranks.watching():
        go_on(run.path, config, log)
    return run


def evaluate(
    what: Run | str | Path,
    data: str | Path | None = None,
    *,
    data_dir: str | Path | None = None,
    device: str = "auto",
    out: str | Path | None = None,
    quiet: bool = True,
) -> dict[str, float | int]:
    """What the network of a finished training reaches, measured anew.

    Of images ``test_acc``, ``test_loss``, ``test_ece`` (expected calibration error, see `oche.assessment.Assessment`) and
    ``test_images``; the folder ``out`` gets the whole assessment, with pictures and a page. Of text for each part, val and
    test, ``val_ppl`` (perplexity), ``val_loss`` (nats a token), ``val_tokens``, and ``val_unknown``, the share of them that the
    network's vocabulary lacks or that are written as unknown. ``data``: other data than the run's own, with the same classes,
    or text in its vocabulary's language; a text file by itself is measured as a whole, and called test. Raises `OcheError`.
    """
    from .measure import keep, measure, numbers
    from .run.log import Log

    run = what if isinstance(what, Run) else Run.open(what)
    found = measure(
        run, None if data is None else str(data), None if data_dir is None else Path(data_dir), device, Log(quiet=quiet)
    )  # fmt: skip
    if out is not None:
        keep(found, run, Path(out))
    return numbers(found)


def load(what: Run | str | Path, device: str = "cpu") -> Classifier:
    """The trained network of a finished training, ready for use: an ``nn.Module`` in evaluation mode.

    ``what``: a training run or its directory, or a file that ``oche export --to safetensors`` wrote. It maps normalised images
    (B, C, H, W) to logits (B, K) and knows its ``classes``, ``mean``, ``std`` and ``image`` (H, W). Raises `OcheError` where
    there is no finished training, or its weights, genotype and configuration do not belong together.
    """
    from .classifier import load

    return load(what, device)


def plan_training(
    what: Run | Genotype | str | Path, data: str | Path | None, options: dict[str, Any]
) -> tuple[TrainConfig, Path | None]:
    """The `TrainConfig` for ``what`` and the directory its run goes to by default (None: the next free one).

    Without a recipe among the ``options``, cells of language models get theirs.
    """
    from .configs import Common, TrainConfig
    from .recipes import default_for

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
    suffix = "" if own else f"-{_word(config.data)}"
    return config, free(what.path / f"train{suffix}")


def read_what(what: str | Path) -> Genotype | str:
    """What to train: as `read_genotype` finds it, or "lstm"."""
    from .spaces.lstm import LSTM

    return LSTM if str(what).lower() == LSTM else read_genotype(what)


def read_genotype(what: str | Path) -> Genotype:
    """The genotype with a published name, in a file, or in the text itself. Raises `OcheError`."""
    from .genotypes import resolve

    text = str(what)
    if os.path.isfile(text):
        return Genotype.parse(Path(text).read_text(errors="replace"))
    if "(" not in text and (os.sep in text or "/" in text):
        raise OcheError(
            f"there is nothing at {text}; give a run directory, a file with a genotype, its text or a published name"
        )
    return resolve(text)


def _word(data: str) -> str:
    """A data set's name as part of a directory's name."""
    return Path(data).resolve().stem.replace(":", "-")


def free(path: Path) -> Path:
    """``path``, or path-2, path-3 … where that exists."""
    n, candidate = 1, path
    while candidate.exists():
        n, candidate = n + 1, path.with_name(f"{path.name}-{n + 1}")
    return candidate


def run_search(
    config: SearchConfig,
    *,
    out: str | Path | None,
    overwrite: bool,
    log: Log,
    before: Callable[[], None] = lambda: None,
) -> Run:
    """Starts a search in a new run directory. All that can be refused is refused before the directory is made.

    ``before`` is called once the directory exists.
    """
    from .run.ranks import join
    from .work import start

    ranks = join()
    with ranks.watching():
        config, data = ranks.in_turn(lambda: check_search(config, log))
        path = ranks.path(Path(out) if out else free(Path("runs") / f"{_word(config.data)}-{config.method}"))
        start(path, config, data, overwrite=overwrite, log=log, before=before)
    return Run(path)


def run_train(config: TrainConfig, *, out: str | Path | None, overwrite: bool, log: Log) -> Run:
    """Starts a training in a new run directory. All that can be refused is refused before the directory is made."""
    from .run.ranks import join
    from .work import start

    ranks = join()
    with ranks.watching():
        config, data = ranks.in_turn(lambda: check_train(config, log))
        path = ranks.path(Path(out) if out else free(Path("runs") / f"{_word(config.data)}-train"))
        start(path, config, data, overwrite=overwrite, log=log)
    return Run(path)


def check_search(config: SearchConfig, log: Log, data: Any = None) -> tuple[SearchConfig, Any]:
    """``config`` complete, and the data it names (``data`` if at hand). Raises `OcheError` for all that can be refused."""
    from .feeds import check
    from .proof import prove_search
    from .run.engine import Engine
    from .run.ranks import ranks_here
    from .truth import table_for
    from .truth import truth as find_truth
    from .work import check_shares, load_data

    load_plugins(config.plugins)
    config = anchored(config)
    _check_device(config, log, twice=config.search.hypergrad.twice)
    config.search.check(config.space)
    config = replace(config, table=table_for(config.table, config.data, config.space))
    truth = find_truth(config.table, config.data)
    if truth is not None:
        log.say(f"true accuracies: {truth.column} of {config.table}")
    data = data or load_data(config, log)
    check(data, config.space, config.search)
    check_shares(config, data, ranks_here())
    config = replace(config, space=config.space.fit(data))
    config.search.check_target(config.space)
    prove_search(config.space, config.search, Engine(config.device, fused=config.engine, ranks=ranks_here()))
    return config, data


def check_train(config: TrainConfig, log: Log, data: Any = None) -> tuple[TrainConfig, Any]:
    """The same for a training."""
    from .recipes import check_domains
    from .run.engine import Engine
    from .run.ranks import ranks_here
    from .work import check_shares, load_data

    load_plugins(config.plugins)
    config = anchored(config)
    config = replace(config, genotype=str(read_what(config.genotype)))
    check_domains(config)
    _check_device(config, log, mixed=False)
    data = data or load_data(config, log)
    config.train.check(config.genotype, data, Engine(config.device, fused=config.engine, ranks=ranks_here()))
    check_shares(config, data, ranks_here())
    return config, data


def plan_search(space: str, method: str | None = None) -> SearchConfig:
    """The defaults of a search in the space of that name, by the method of that name; by default the space's own.

    Raises `KeyError` for names that `oche list` does not know.
    """
    from .configs import SearchConfig
    from .methods import METHODS
    from .spaces import SPACES

    made = SPACES[space]()
    method = method or made.method
    data = {"text": "ptb"}.get(made.domain, SearchConfig.data)
    return SearchConfig(method=method, search=made.suited(METHODS[method].make()), space=made, data=data)


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


def _check_device(config: Common, log: Log, *, twice: bool = False, mixed: bool = True) -> None:
    """Raises `OcheError` where the device of ``config`` is not there, or cells cannot compute there as asked."""
    from .data.text_files import is_text
    from .fused import choose, native
    from .run.engine import Engine
    from .run.ranks import ranks_here

    engine = Engine(config.device, ranks=ranks_here())
    _ = engine.device
    if is_text(config.data):  # language models have a fast path of their own, which needs nothing
        return
    if config.engine != "plain" and engine.device.type == "cpu" and native.pending():
        log.say("compiling fast kernels, once for this machine (about 20 s; --engine plain does without)")
    if config.engine == "fused":
        choose(config.engine, engine.device, engine.dtype, twice=twice, mixed=mixed)
