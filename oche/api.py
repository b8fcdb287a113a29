"""oche from Python: `search`, `train`, `resume`, `evaluate` and `load`, and the `Run` of a run directory.

The command line calls the same functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from oche.core.architecture import Genotype
from oche.core.arguments import checked
from oche.core.errors import OcheError
from oche.runs.resolve import default_training, next_free_path, slug, with_place
from oche.runs.run import Run
from oche.strategies.shared import ByStrategy as ByStrategy  # a run's settings may name it

if TYPE_CHECKING:
    from oche.core.console import Log
    from oche.data.readers.python_forms import Data
    from oche.deploy.classifier import Classifier
    from oche.methods.method import Method
    from oche.methods.recipe import SearchRecipe
    from oche.runs.config import FitConfig, SearchConfig, TrainConfig
    from oche.runs.option_types import FitOptions, OnEpoch, SearchOptions, TrainOptions
    from oche.spaces import Space
    from oche.training.image_recipes import Recipe
    from oche.training.language_recipes import LanguageRecipe


@checked
def search(
    data: Data = "digits",
    *,
    space: Space | str | None = None,
    method: SearchRecipe | Method | str | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    quiet: bool = True,
    on_epoch: OnEpoch | Sequence[OnEpoch] | None = None,
    **options: Unpack[SearchOptions],
) -> Run:
    """Search for cells on ``data`` and return the run::

        run = oche.search("cifar10", method=oche.methods.pc_darts(epochs=25), seed=1)
        run.genotype, run.summary

    - ``data``: the name of a data set (digits, mnist, fashion-mnist, cifar10, cifar100, svhn; for language models ptb,
      wikitext2), a folder of class folders, a .parquet or .npz file, hf:owner/name, or a text file. Or a Python object: a
      map-style ``torch.utils.data.Dataset`` of (image, label), a pair (images, labels) of arrays or tensors, a
      ``datasets.Dataset``, a ``DataLoader`` of one of these, or a dict of train, val and test. The run keeps its images.
    - ``space``: the search space, or its name as in ``oche list spaces`` (default `oche.spaces.darts()`). Its classes,
      channels and image size are taken from the data.
    - ``method``: a `SearchRecipe`, as every function in `oche.methods` returns, its name as in ``oche list methods``, or a
      `Method`, which is searched by with the default settings. By default the method named by ``space.method``. A name gets
      settings that suit the space; for a space of language models, adapt a recipe yourself:
      ``space.adapt_search(oche.methods.gdas())``.
    - ``out``: the run directory; by default the next free one below ``runs/``.
    - ``overwrite``: move a run that is there aside, instead of refusing.
    - ``quiet``: print warnings only.
    - ``on_epoch``: a function, or several, called after each epoch with its record, a plain dict as in ``run.history``. If it
      returns "stop", the search ends there and is complete. If it raises, the run stops with everything saved, and can be
      resumed.
    - ``options``: further fields of `oche.runs.config.SearchConfig`, such as ``seed=1`` or ``device="cuda"``, and fields of
      the `SearchRecipe`, which change those of ``method``: ``epochs=3``, ``steps=100``, ``budget="3m"``, ``batch=32``.

    Raises `OcheError` if the search cannot start or fails. Nothing is written before all checks have passed.
    """
    from oche.devices.launch import make_log
    from oche.runs.config import SearchConfig
    from oche.runs.options import search_fields
    from oche.runs.python_data import listeners_of, place_of

    listeners, log = listeners_of(on_epoch), make_log(quiet)
    config = SearchConfig(**search_fields(space, method, options))
    with place_of(data, config.size, config.layout, log) as (place, file):
        config = replace(config, data=place)
        return run_search(config, out=out, overwrite=overwrite, log=log, keep=file, listeners=listeners)


@checked
def fit(
    data: Data = "digits",
    *,
    budget: str = "1h",
    out: str | Path | None = None,
    overwrite: bool = False,
    quiet: bool = True,
    **options: Unpack[FitOptions],
) -> Run:
    """Find and train a good network for the images of ``data`` in the time of ``budget``, and return the run::

        run = oche.fit("path/to/images", budget="30m")
        run.summary["test_acc"], oche.load(run)

    The planner times steps on this machine, chooses the sizes, and decides whether a search pays. Controls are trained
    after the network, in time of their own. report.html in the run's directory says what you got and how it compares.

    - ``data``: as in `search`, images only.
    - ``budget``: the time until the network is ready: 10m, 1h30m.
    - ``out``: the run directory; by default the next free one below ``runs/``.
    - ``overwrite``: move a run that is there aside, instead of refusing.
    - ``quiet``: print warnings only.
    - ``options``: further fields of `oche.runs.config.FitConfig`, such as ``control=False``, ``init="runs/other"``, ``size=64``.

    Raises `OcheError` if the fit cannot start or fails. Nothing is written before all checks have passed.
    """
    from oche.devices.launch import make_log
    from oche.runs.config import FitConfig
    from oche.runs.python_data import place_of

    if data is None:
        raise OcheError("fit needs data: a folder of class folders, a file, the name of a data set, or a Python object")
    given: Any = options  # `FitConfig` takes paths as text too
    config, log = FitConfig(budget=budget, **given), make_log(quiet)
    with place_of(data, config.size, config.layout, log) as (place, file):
        return run_fit(replace(config, data=place), out=out, overwrite=overwrite, log=log, keep=file)


def run_fit(config: FitConfig, *, out: str | Path | None, overwrite: bool, log: Log, keep: Path | None = None) -> Run:
    """Carry out the fit of ``config`` in a new directory. Raises `OcheError` if it cannot start or fails.

    ``keep``: the file of data that were handed over in Python; the directory gets a copy.
    """
    from oche.fitting.controls import controls_of
    from oche.fitting.run import describe_plan, plan_fit, start_fit

    path = Path(out) if out else next_free_path(Path("runs") / f"{slug(config.data)}-fit")
    config, plan, loaded = plan_fit(config, log)
    log.say(describe_plan(plan, controls_of(config, plan)))
    return start_fit(path, config, plan, loaded, overwrite=overwrite, log=log, keep=keep)


@checked
def train(
    what: Run | Genotype | str | Path,
    data: Data | None = None,
    *,
    recipe: Recipe | LanguageRecipe | str | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    quiet: bool = True,
    on_epoch: OnEpoch | Sequence[OnEpoch] | None = None,
    **options: Unpack[TrainOptions],
) -> Run:
    """Train a network from scratch and return the run::

        run = oche.train("runs/cifar10-darts")
        run.summary["test_acc"]

    - ``what``: a run or its directory, a `Genotype`, its text, a published name such as ``"DARTS_V2"``, or ``"lstm"``.
    - ``data``: as in `search`; by default the data of the run.
    - ``recipe``: a `Recipe` (default `oche.training.darts()`), or for recurrent cells a `LanguageRecipe` (default
      `oche.training.language_recipes.recurrent()`), or its name as in ``oche list recipes``.
    - ``out``: the run directory; by default ``train`` in the run's directory, or the next free one below ``runs/``.
    - ``overwrite``: move a run that is there aside, instead of refusing.
    - ``quiet``: print warnings only.
    - ``on_epoch``: as in `search`.
    - ``options``: further fields of `oche.runs.config.TrainConfig`, such as ``seed=1`` or ``device="cuda"``, and fields of
      the recipe, which change those of ``recipe``: ``epochs=3``, ``budget="3m"``, ``channels=8``.

    Raises `OcheError` if the training cannot start or fails. Nothing is written before all checks have passed.
    """
    from oche.devices.launch import make_log
    from oche.runs.options import train_fields, with_recipe_words
    from oche.runs.python_data import form_of, listeners_of, place_of, without_second_copy

    listeners, log = listeners_of(on_epoch), make_log(quiet)
    own, words = train_fields(recipe, options)
    with place_of(data, *form_of(what, own), log) as (place, file):
        config, default_out = default_training(what, place, own)
        config, file = without_second_copy(what, with_recipe_words(config, words), file)
        path = out or default_out
        return run_train(config, out=path, overwrite=overwrite, log=log, keep=file, listeners=listeners)


@checked
def resume(
    path: str | Path,
    *,
    data: Data | None = None,
    data_dir: str | Path | None = None,
    quiet: bool = True,
    on_epoch: OnEpoch | Sequence[OnEpoch] | None = None,
) -> Run:
    """Continue an unfinished run and return it. On a CPU the result has the same bits as without the interruption.

    ``data``, ``data_dir``: the place of the run's data, if they have moved; or the data as a Python object, if the file that
    the run kept is gone. ``on_epoch``: as in `search`.

    Raises `OcheError` if there is no run at ``path``, if another process works in it, or if it fails.
    """
    from oche.devices.launch import join_process_group, make_log
    from oche.runs import execute
    from oche.runs.python_data import listeners_of, place_again

    listeners = listeners_of(on_epoch)
    processes, log = join_process_group(), make_log(quiet)
    with processes.raise_together():
        run = Run.open(path)
        place = place_again(run, data, log, processes.is_main)
    if run.kind == "fit" and run.state != "complete":
        from oche.fitting.run import resume_fit

        return resume_fit(run.path, log, with_place(run.config, place, data_dir))
    if run.state == "complete":
        log.say(f"{path} is complete; nothing to resume")
        if processes.is_main and not (run.path / "report.html").exists():  # stopped between its end and its report
            from oche.report.run_page import refresh_reports, write_report

            write_report(run.path)
            refresh_reports(run.path.resolve().parent)
        return run
    with processes.raise_together():
        config = moved = run.config  # refuses what is neither
        if place is not None or data_dir is not None:
            moved = with_place(config, place, data_dir)
    with processes.detecting_lost_processes():
        execute.resume_run(run.path, moved, log, moved=moved != config, listeners=listeners)
    return run


@checked
def evaluate(
    what: Run | str | Path,
    data: Data | None = None,
    *,
    data_dir: str | Path | None = None,
    damaged: Literal["refuse", "skip"] | None = None,
    layout: Literal["NHWC", "NCHW"] | None = None,
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
    - ``data``: other data than the run's, measured whole: images of its classes, or of some of them, matched by name, or text
      in the language of its vocabulary; a Python object too, as in `search`. (Of data with a test part that part.) The run's
      own data at another place are known by their content, and their recorded test part is measured.
    - ``data_dir``: a folder with archives downloaded by hand.
    - ``damaged``: ``"skip"`` leaves out images that cannot be decoded, ``"refuse"`` refuses them; None: as the run did.
    - ``layout``: the axes of arrays; by default they are known by the channels of the network.
    - ``out``: for images, a folder for the whole assessment, with figures and a page.

    Raises `OcheError` if there is no finished training, or the data do not fit.
    """
    from oche.core.console import Log
    from oche.deploy.evaluate import evaluate_run, result_numbers, write_evaluation
    from oche.runs.python_data import place_of, shape_of

    run = what if isinstance(what, Run) else Run.open(what)
    archives, log = None if data_dir is None else Path(data_dir), Log(quiet=quiet)
    size, own_layout = shape_of(run)
    with place_of(data, size, layout or own_layout, log, whole=True) as (place, _):
        found = evaluate_run(run, place, archives, device, log, damaged, layout)
    if out is not None:
        write_evaluation(found, run, Path(out))
    return result_numbers(found)


@checked
def load(what: Run | str | Path, device: str = "cpu") -> Classifier:
    """Return the trained network of a finished training: an ``nn.Module`` in evaluation mode, ready for use.

    ``what``: a training run, its directory, or a file written by ``oche export --to safetensors``. The network maps
    normalised images (B, C, H, W) to logits (B, K). It has ``classes``, ``mean``, ``std`` and ``image`` (H, W).

    Raises `OcheError` if there is no finished training, or its weights, genotype and configuration do not fit together.
    """
    from oche.deploy.classifier import load

    return load(what, device)


@checked
def run_search(
    config: SearchConfig,
    *,
    out: str | Path | None,
    overwrite: bool,
    log: Log,
    before: Callable[[], None] = lambda: None,
    keep: Path | None = None,
    listeners: tuple[OnEpoch, ...] = (),
) -> Run:
    """Search by ``config`` in a new run directory, and return the run. All checks come before the directory is made.

    ``before`` is called once the directory exists. ``keep``: the file of ``config.data``, of which the run keeps a copy.
    ``listeners`` are called with the record of each epoch. Raises `OcheError` if the search cannot start or fails.
    """
    from oche.devices.launch import join_process_group
    from oche.runs.execute import start_run
    from oche.runs.membership import Earlier
    from oche.runs.plan import plan_search
    from oche.runs.python_data import with_kept_data

    processes = join_process_group()
    with processes.detecting_lost_processes():
        earlier = Earlier.named_by(config, log, processes)
        plan = processes.first_on_each_machine(lambda: plan_search(config, log, earlier=earlier))
        name = f"{slug(plan.config.data)}-{plan.config.method}"
        path = processes.broadcast_path(Path(out) if out else next_free_path(Path("runs") / name))
        plan = with_kept_data(plan, path, keep)
        start_run(path, plan, overwrite=overwrite, log=log, before=before, keep=keep, listeners=listeners)
    return Run(path)


@checked
def run_train(
    config: TrainConfig,
    *,
    out: str | Path | None,
    overwrite: bool,
    log: Log,
    refresh: bool = True,
    keep: Path | None = None,
    listeners: tuple[OnEpoch, ...] = (),
) -> Run:
    """Train by ``config`` in a new run directory, and return the run. All checks come before the directory is made.

    ``refresh``: whether the report of the search that holds the training is written anew at the end. ``keep`` and
    ``listeners``: as in `run_search`.

    Raises `OcheError` if the training cannot start or fails.
    """
    from oche.devices.launch import join_process_group
    from oche.runs.execute import start_run
    from oche.runs.membership import Earlier
    from oche.runs.plan import plan_training
    from oche.runs.python_data import with_kept_data

    processes = join_process_group()
    with processes.detecting_lost_processes():
        earlier = Earlier.named_by(config, log, processes)
        plan = processes.first_on_each_machine(lambda: plan_training(config, log, earlier=earlier))
        name = f"{slug(plan.config.data)}-train"
        path = processes.broadcast_path(Path(out) if out else next_free_path(Path("runs") / name))
        plan = with_kept_data(plan, path, keep)
        start_run(path, plan, overwrite=overwrite, log=log, refresh=refresh, keep=keep, listeners=listeners)
    return Run(path)
