"""oche from Python: `search`, `train`, `resume`, and the `Run` they return. The command line calls the same functions."""

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
    from oche.runs.config import SearchConfig, TrainConfig
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
    """Searches for cells on ``data`` and returns the run.

    ``space``: a search space (default `oche.spaces.darts()`); its classes, channels and image size are taken from the data.
    ``method``: a `SearchRecipe`, or a `Method` with the settings of DARTS (default the one named by ``space.method``, as suits the space; in a space of language models take
    others as ``space.adapt_search(oche.methods.gdas())``). ``options``: further fields of `SearchConfig`, such as ``seed=1`` or
    ``device="cpu"``. ``out``: run directory, by default the next free one below ``runs/``. Raises `OcheError`.
    """
    from oche.devices.launch import make_log
    from oche.methods.method import Method
    from oche.methods.published import METHODS, closest
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
        parts |= {"search": method, "method": closest(method, {name: m.make() for name, m in METHODS.items()})}
    return run_search(
        SearchConfig(data=str(data), **parts, **options), out=out, overwrite=overwrite, log=make_log(quiet)
    )


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
    `oche.training.language_recipes.recurrent()`). ``options``: further fields of `TrainConfig`. Raises `OcheError`.
    """
    from oche.devices.launch import make_log
    from oche.methods.published import closest
    from oche.training.recipes import RECIPES

    if recipe is not None:
        alike = {name: made for name, make in RECIPES.items() if type(made := make()) is type(recipe)}
        options |= {"train": recipe, "recipe": closest(recipe, alike)}
    config, default_out = default_training(what, data, options)
    return run_train(config, out=out or default_out, overwrite=overwrite, log=make_log(quiet))


def resume(path: str | Path, *, quiet: bool = True) -> Run:
    """Goes on with an unfinished run, to the same result bit for bit on CPU as without the interruption.

    Raises `OcheError` where there is no run, or another process is at work in it.
    """
    from oche.devices.launch import join_process_group, make_log
    from oche.runs import execute

    processes, log = join_process_group(), make_log(quiet)
    with processes.raise_together():
        run = Run.open(path)
    if run.state == "complete":
        log.say(f"{path} is complete; nothing to resume")
        if processes.is_main and not (run.path / "report.html").exists():  # stopped between its end and its report
            from oche.report.run_page import write_report

            write_report(run.path)
        return run
    with processes.raise_together():
        config = run.config  # refuses what is neither
    with processes.detecting_lost_processes():
        execute.resume(run.path, config, log)
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

    Of images ``test_acc``, ``test_loss``, ``test_ece`` (expected calibration error, see `oche.analysis.classification.Assessment`) and
    ``test_images``; the folder ``out`` gets the whole assessment, with pictures and a page. Of text for each part, val and
    test, ``val_ppl`` (perplexity), ``val_loss`` (nats a token), ``val_tokens``, and ``val_unknown``, the share of them that the
    network's vocabulary lacks or that are written as unknown. ``data``: other data than the run's own, with the same classes,
    or text in its vocabulary's language; a text file by itself is measured as a whole, and called test. Raises `OcheError`.
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
    """The trained network of a finished training, ready for use: an ``nn.Module`` in evaluation mode.

    ``what``: a training run or its directory, or a file that ``oche export --to safetensors`` wrote. It maps normalised images
    (B, C, H, W) to logits (B, K) and knows its ``classes``, ``mean``, ``std`` and ``image`` (H, W). Raises `OcheError` where
    there is no finished training, or its weights, genotype and configuration do not belong together.
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
    """Starts a search in a new run directory. All that can be refused is refused before the directory is made.

    ``before`` is called once the directory exists.
    """
    from oche.devices.launch import join_process_group
    from oche.runs.execute import start
    from oche.runs.plan import plan_search

    processes = join_process_group()
    with processes.detecting_lost_processes():
        plan = processes.first_on_each_machine(lambda: plan_search(config, log))
        name = f"{slug(plan.config.data)}-{plan.config.method}"
        path = processes.broadcast_path(Path(out) if out else next_free_path(Path("runs") / name))
        start(path, plan, overwrite=overwrite, log=log, before=before)
    return Run(path)


def run_train(config: TrainConfig, *, out: str | Path | None, overwrite: bool, log: Log) -> Run:
    """Starts a training in a new run directory. All that can be refused is refused before the directory is made."""
    from oche.devices.launch import join_process_group
    from oche.runs.execute import start
    from oche.runs.plan import plan_training

    processes = join_process_group()
    with processes.detecting_lost_processes():
        plan = processes.first_on_each_machine(lambda: plan_training(config, log))
        name = f"{slug(plan.config.data)}-train"
        path = processes.broadcast_path(Path(out) if out else next_free_path(Path("runs") / name))
        start(path, plan, overwrite=overwrite, log=log)
    return Run(path)
