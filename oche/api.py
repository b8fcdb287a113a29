"""oche from Python: `search`, `train`, `resume`, `evaluate` and `load`, and the `Run` of a run directory.

The command line calls the same functions.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oche.core.architecture import Genotype
from oche.runs.resolve import default_training, next_free_path, slug
from oche.runs.run import Run

if TYPE_CHECKING:
    from oche.core.console import Log
    from oche.deploy.classifier import Classifier
    from oche.methods.method import Method
    from oche.methods.recipe import SearchRecipe
    from oche.runs.config import FitConfig, SearchConfig, TrainConfig
    from oche.spaces import Space
    from oche.training.image_recipes import Recipe
    from oche.training.language_recipes import LanguageRecipe


def search(
    data: str | Path = "digits",
    *,
    space: Space | None = None,
    method: SearchRecipe | Method | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    quiet: bool = True,
    **options: Any,
) -> Run:
    """Search for cells on ``data`` and return the run::

        run = oche.search("cifar10", method=oche.methods.pc_darts(epochs=25), seed=1)
        run.genotype, run.summary

    - ``data``: the name of a data set (digits, mnist, fashion-mnist, cifar10, cifar100, svhn; for language models ptb,
      wikitext2), a folder of class folders, a .parquet or .npz file, hf:owner/name, or a text file.
    - ``space``: the search space (default `oche.spaces.darts()`). Its classes, channels and image size are taken from the
      data.
    - ``method``: a `SearchRecipe`, as every function in `oche.methods` returns, or a `Method`, which is searched by with
      the default settings. By default the method named by ``space.method``, with settings that suit the space. For a space
      of language models, adapt another method: ``space.adapt_search(oche.methods.gdas())``.
    - ``out``: the run directory; by default the next free one below ``runs/``.
    - ``overwrite``: move a run that is there aside, instead of refusing.
    - ``quiet``: print warnings only.
    - ``options``: further fields of `oche.runs.config.SearchConfig`, such as ``seed=1`` or ``device="cuda"``.

    Raises `OcheError` if the search cannot start or fails. Nothing is written before all checks have passed.
    """
    from oche.devices.launch import make_log
    from oche.methods.catalog import METHODS, closest_name
    from oche.methods.method import Method
    from oche.methods.recipe import SearchRecipe
    from oche.runs.config import SearchConfig
    from oche.spaces import darts

    space = space or darts()
    parts: dict[str, Any] = {
        "space": space,
        "method": space.method,
        "search": space.adapt_search(METHODS[space.method].make()),
    }
    if method is not None:
        method = SearchRecipe(method) if isinstance(method, Method) else method
        parts |= {"search": method, "method": closest_name(method, {name: m.make() for name, m in METHODS.items()})}
    return run_search(
        SearchConfig(data=str(data), **parts, **options), out=out, overwrite=overwrite, log=make_log(quiet)
    )


def fit(
    data: str | Path = "digits",
    *,
    budget: str = "1h",
    out: str | Path | None = None,
    overwrite: bool = False,
    quiet: bool = True,
    **options: Any,
) -> Run:
    """Find and train a good network for the images of ``data`` in the time of ``budget``, and return the run::

        run = oche.fit("path/to/images", budget="30m")
        run.summary["test_acc"], oche.load(run)

    The planner times steps on this machine, chooses the sizes, and decides whether a search pays. Controls are trained
    after the network, in time of their own. report.html in the run's directory says what you got and how it compares.

    - ``data``: as in `search`, images only.
    - ``budget``: the time until the network is ready: 10m, 1h30m.
    - ``out``: the run directory; by default the next free one below ``runs/``.
    - ``options``: further fields of `oche.runs.config.FitConfig`, such as ``control=False``, ``init="runs/other"``, ``size=64``.

    Raises `OcheError` if the fit cannot start or fails. Nothing is written before all checks have passed.
    """
    from oche.devices.launch import make_log
    from oche.runs.config import FitConfig

    return run_fit(
        FitConfig(data=str(data), budget=budget, **options), out=out, overwrite=overwrite, log=make_log(quiet)
    )


def run_fit(config: FitConfig, *, out: str | Path | None, overwrite: bool, log: Log) -> Run:
    """Carry out the fit of ``config`` in a new directory. Raises `OcheError` if it cannot start or fails."""
    from oche.fit.run import controls_of, describe_plan, plan_fit, start_fit
    from oche.runs.claim import check_free

    path = Path(out) if out else next_free_path(Path("runs") / f"{slug(config.data)}-fit")
    if not overwrite:
        check_free(path)
    config, plan, loaded = plan_fit(config, log)
    log.say(describe_plan(plan, len(controls_of(config, plan))))
    return start_fit(path, config, plan, loaded, overwrite=overwrite, log=log)


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
    """Train a network from scratch and return the run::

        run = oche.train("runs/cifar10-darts")
        run.summary["test_acc"]

    - ``what``: a run or its directory, a `Genotype`, its text, a published name such as ``"DARTS_V2"``, or ``"lstm"``.
    - ``data``: as in `search`; by default the data of the run.
    - ``recipe``: a `Recipe` (default `oche.training.darts()`), or for recurrent cells a `LanguageRecipe` (default
      `oche.training.language_recipes.recurrent()`).
    - ``out``: the run directory; by default ``train`` in the run's directory, or the next free one below ``runs/``.
    - ``overwrite``: move a run that is there aside, instead of refusing.
    - ``quiet``: print warnings only.
    - ``options``: further fields of `oche.runs.config.TrainConfig`, such as ``seed=1`` or ``device="cuda"``.

    Raises `OcheError` if the training cannot start or fails. Nothing is written before all checks have passed.
    """
    from oche.devices.launch import make_log
    from oche.methods.catalog import closest_name
    from oche.training.recipes import RECIPES

    if recipe is not None:
        alike = {name: made for name, make in RECIPES.items() if type(made := make()) is type(recipe)}
        options |= {"train": recipe, "recipe": closest_name(recipe, alike)}
    config, default_out = default_training(what, data, options)
    return run_train(config, out=out or default_out, overwrite=overwrite, log=make_log(quiet))


def resume(path: str | Path, *, quiet: bool = True) -> Run:
    """Continue an unfinished run and return it. On a CPU the result has the same bits as without the interruption.

    Raises `OcheError` if there is no run at ``path``, if another process works in it, or if it fails.
    """
    from oche.devices.launch import join_process_group, make_log
    from oche.runs import execute

    processes, log = join_process_group(), make_log(quiet)
    with processes.raise_together():
        run = Run.open(path)
    if run.kind == "fit" and run.state != "complete":
        from oche.fit.run import resume_fit

        return resume_fit(run.path, log)
    if run.state == "complete":
        log.say(f"{path} is complete; nothing to resume")
        if processes.is_main and not (run.path / "report.html").exists():  # stopped between its end and its report
            from oche.report.run_page import write_report

            write_report(run.path)
        return run
    with processes.raise_together():
        config = run.config  # refuses what is neither
    with processes.detecting_lost_processes():
        execute.resume_run(run.path, config, log)
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
    """Evaluate the network of a finished training again, and return the results.

    For images: ``test_acc``, ``test_loss``, ``test_ece`` (expected calibration error, see
    `oche.analysis.classification.Assessment`) and ``test_images``. For text, for each of val and test: ``val_ppl``
    (perplexity), ``val_loss`` (nats per token), ``val_tokens``, and ``val_unknown``, the share of tokens that the network's
    vocabulary lacks or that are written as unknown. A single text file is evaluated as a whole, as test.

    - ``what``: a training run, or its directory.
    - ``data``: other data than the run's, with the same classes, or text in the language of its vocabulary.
    - ``data_dir``: a folder with archives downloaded by hand.
    - ``out``: for images, a folder for the whole assessment, with figures and a page.

    Raises `OcheError` if there is no finished training, or the data do not fit.
    """
    from oche.core.console import Log
    from oche.deploy.evaluate import evaluate_run, result_numbers, write_evaluation

    run = what if isinstance(what, Run) else Run.open(what)
    found = evaluate_run(
        run, None if data is None else str(data), None if data_dir is None else Path(data_dir), device, Log(quiet=quiet)
    )  # fmt: skip
    if out is not None:
        write_evaluation(found, run, Path(out))
    return result_numbers(found)


def load(what: Run | str | Path, device: str = "cpu") -> Classifier:
    """Return the trained network of a finished training: an ``nn.Module`` in evaluation mode, ready for use.

    ``what``: a training run, its directory, or a file written by ``oche export --to safetensors``. The network maps
    normalised images (B, C, H, W) to logits (B, K). It has ``classes``, ``mean``, ``std`` and ``image`` (H, W).

    Raises `OcheError` if there is no finished training, or its weights, genotype and configuration do not fit together.
    """
    from oche.deploy.classifier import load

    return load(what, device)


def run_search(
    config: SearchConfig,
    *,
    out: str | Path | None,
    overwrite: bool,
    log: Log,
    before: Callable[[], None] = lambda: None,
) -> Run:
    """Search by ``config`` in a new run directory, and return the run. All checks come before the directory is made.

    ``before`` is called once the directory exists. Raises `OcheError` if the search cannot start or fails.
    """
    from oche.devices.launch import join_process_group
    from oche.runs.execute import start_run
    from oche.runs.plan import plan_search

    processes = join_process_group()
    with processes.detecting_lost_processes():
        plan = processes.first_on_each_machine(lambda: plan_search(config, log))
        name = f"{slug(plan.config.data)}-{plan.config.method}"
        path = processes.broadcast_path(Path(out) if out else next_free_path(Path("runs") / name))
        start_run(path, plan, overwrite=overwrite, log=log, before=before)
    return Run(path)


def run_train(config: TrainConfig, *, out: str | Path | None, overwrite: bool, log: Log) -> Run:
    """Train by ``config`` in a new run directory, and return the run. All checks come before the directory is made.

    Raises `OcheError` if the training cannot start or fails.
    """
    from oche.devices.launch import join_process_group
    from oche.runs.execute import start_run
    from oche.runs.plan import plan_training

    processes = join_process_group()
    with processes.detecting_lost_processes():
        plan = processes.first_on_each_machine(lambda: plan_training(config, log))
        name = f"{slug(plan.config.data)}-train"
        path = processes.broadcast_path(Path(out) if out else next_free_path(Path("runs") / name))
        start_run(path, plan, overwrite=overwrite, log=log)
    return Run(path)
