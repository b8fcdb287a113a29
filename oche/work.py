"""The work of a run in its directory: from a configuration and data to everything that the run leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from .arch import Genotype
from .bilevel import Search
from .bilevel import search as search_loop
from .configs import Common, SearchConfig, TrainConfig
from .cost import flops, parameters
from .cost.in_run import cost_found, timed_method
from .data import Corpus, Dataset, load
from .data.text import load_text
from .data.text_files import is_text
from .language import LanguageTraining
from .language import train as language_loop
from .language_recipe import LanguageRecipe
from .loop import Diverged, Interrupted, OutOfMemory, Session
from .run.checkpoint import latest_step, save_weights
from .run.config import dump_yaml
from .run.engine import Engine
from .run.environment import environment
from .run.log import Interrupt, Log
from .run.rundir import RunDir
from .run.session import DirectorySession
from .spaces.lstm import LSTM
from .training import Recipe, Training
from .training import train as training_loop
from .truth import truth as find_truth


def load_data(config: Common, log: Log) -> Any:
    """The data set that ``config`` names; of text a `Corpus`."""
    if is_text(config.data):
        return load_text(
            config.data, tokens=config.tokens, data_dir=config.data_dir, holdout=config.holdout, limit=config.limit,
            progress=not log.quiet,
        )  # fmt: skip
    return load(
        config.data, data_dir=config.data_dir, holdout=config.holdout, limit=config.limit, size=config.size,
        seed=config.seed, progress=not log.quiet,
    )  # fmt: skip


def start(
    path: Path,
    config: SearchConfig | TrainConfig,
    data: Any,
    *,
    overwrite: bool,
    log: Log,
    before: Callable[[], None] = lambda: None,
) -> None:
    """Makes the run directory and does the work. ``before`` is called once the directory exists."""
    kind = "search" if isinstance(config, SearchConfig) else "train"
    with RunDir.create(path, dump_yaml(config), kind, overwrite=overwrite) as run:
        run.write_json("environment.json", environment(config.device))
    before()
    go_on(path, config, log, data)


def go_on(path: Path, config: SearchConfig | TrainConfig, log: Log, data: Any = None) -> None:
    """Does what is left of a run's work, whatever happens leaving a state that says so."""
    from .report import write_report

    with RunDir.open(path) as run, Interrupt() as interrupt:
        run.set_state("running")
        try:
            data = data or load_data(config, log)
            engine = Engine(config.device, config.threads, fused=config.engine)
            session = DirectorySession(run, log, interrupt, config.checkpoint)
            if isinstance(config, SearchConfig):
                summary = _search(run, config, data, engine, session)
            else:
                summary = _TRAIN[type(config.train)](run, config, data, engine, session)
        except Interrupted:
            run.set_state("interrupted")
            log.warn(f"stopped; everything is saved; go on with: oche resume {path}")
            raise
        except (Diverged, OutOfMemory) as error:
            told = type(error)(f"{error}; {_way_on(path, config, error.settings)}")
            run.set_state("failed", error=f"{type(error).__name__}: {told}")
            raise told from None
        except BaseException as error:
            run.set_state("failed", error=f"{type(error).__name__}: {error}")
            raise
        run.write_json("summary.json", {**summary, "note": data.note, "data": config.data})
        run.set_state("complete")
    write_report(path)


def _way_on(path: Path, config: SearchConfig | TrainConfig, settings: tuple[str, ...]) -> str:
    """How a run that failed by its ``settings`` can go on."""
    part, step = "search" if isinstance(config, SearchConfig) else "train", latest_step(path / "checkpoints")
    kept = "no checkpoint is there, so it begins anew" if step is None else f"the checkpoint of step {step} is kept"
    change = " or ".join(f"{part}.{name}" for name in settings)
    return f"{kept}: change {change} in {path / 'config.yaml'} and write: oche resume {path}"


def _search(run: RunDir, config: SearchConfig, data: Any, engine: Engine, session: DirectorySession) -> dict[str, Any]:
    truth = find_truth(config.table, config.data)

    def describe(task: Search) -> None:
        space, mixes = config.space, task.settled(0.0)
        example = space.example(engine)
        groups = {
            name: {"edges": dag.edges, "inputs": dag.inputs, "candidates": space.candidates}
            for name, dag in task.groups.items()
        }
        _say_form(session, task.computes)
        if config.engine == "fused" and engine.device.type == "cuda":
            from .fused.graphs import replay

            replay(task, session.log.warn)
        run.write_json("space.json", {
            "space": config.method, "computes": task.computes, "parameters": parameters(task.net),
            "flops": flops(task.net, lambda: task.net(*example, mixes)), **space.about(data), "groups": groups,
            "network": space.describe(), **({} if truth is None else {"truth": truth.describe()}),
            **({} if task.priced is None else {"priced": task.priced.describe()}),
        })  # fmt: skip
        if task.priced is not None:
            session.log.say(f"penalty on {task.priced.words()}")

    method = timed_method(run.path, config, engine, session.log)
    task, clock = search_loop(
        config.space, method, data, seed=config.seed, engine=engine, session=session, before=describe,
        truth=truth or (lambda cells: {}),
    )  # fmt: skip
    genotype = task.conclude()
    run.write_text("genotype.txt", str(genotype) + "\n")
    logits = {f"logits.{name}": a.detach() for name, a in zip(task.groups, task.logits, strict=True)}
    save_weights(run.path / "weights.safetensors", {**task.net.state_dict(), **logits}, {"genotype": str(genotype)})
    last, measures = session.history[-1], [f"{part}_{task.feed.meter.measure}" for part in ("val", "train")]
    return {
        "genotype": str(genotype), **{name: last.get(name) for name in measures},
        "parameters": parameters(task.net), "steps": clock.step, "seconds": clock.elapsed, "step_ms": _step_ms(session),
        **({} if truth is None else truth(genotype)), **cost_found(task.priced, genotype, session.log),
    }  # fmt: skip


def _say_form(session: DirectorySession, computes: str) -> None:
    if computes:
        session.log.say(f"cells compute {computes}")


def _train(
    run: RunDir, config: TrainConfig, data: Dataset, engine: Engine, session: DirectorySession
) -> dict[str, Any]:
    assert isinstance(config.train, Recipe)
    genotype = Genotype.parse(config.genotype)
    run.write_text("genotype.txt", str(genotype) + "\n")
    costs: dict[str, int] = {}

    def describe(task: Training) -> None:
        image = engine.images(torch.zeros(1, data.channels, *data.image))
        costs.update(parameters=parameters(task.net), flops=flops(task.net, lambda: task.net(image)))
        _say_form(session, task.computes)
        run.write_json("space.json", {
            "space": config.recipe, "computes": task.computes, **costs, "image": data.image, "in_channels": data.channels,
            "classes": data.classes,
            "mean": data.mean, "std": data.std, "groups": {}, "network": task.net.describe(),
        })  # fmt: skip

    task, clock = training_loop(
        genotype, config.train, data, seed=config.seed, engine=engine, session=session, title=run.path.name, before=describe
    )  # fmt: skip
    save_weights(run.path / "weights.safetensors", task.net.state_dict(), {"genotype": str(genotype)})
    last = session.history[-1]
    return {
        "genotype": str(genotype), **{key: last[key] for key in _RESULTS if key in last}, **costs,
        "steps": clock.step, "seconds": clock.elapsed, "step_ms": _step_ms(session),
    }  # fmt: skip


def _train_language(
    run: RunDir, config: TrainConfig, corpus: Corpus, engine: Engine, session: DirectorySession
) -> dict[str, Any]:
    assert isinstance(config.train, LanguageRecipe)
    if config.genotype != LSTM:
        run.write_text("genotype.txt", config.genotype + "\n")
    costs: dict[str, int] = {}

    def describe(task: LanguageTraining) -> None:
        word = torch.zeros(1, 1, dtype=torch.int64, device=engine.device)
        costs.update(parameters=parameters(task.net), flops=flops(task.net, lambda: task.net(word)))
        _say_form(session, task.computes)
        run.write_json("space.json", {
            "space": config.recipe, "computes": task.computes, **costs, "vocabulary": len(corpus.vocabulary), "groups": {},
            "network": task.net.describe(),
        })  # fmt: skip

    task, clock, found = language_loop(
        config.genotype, config.train, corpus, seed=config.seed, engine=engine, session=session, title=run.path.name,
        before=describe,
    )  # fmt: skip
    run.write_json("vocabulary.json", {"tokens": corpus.tokens, "vocabulary": corpus.vocabulary})
    save_weights(run.path / "weights.safetensors", task.net.state_dict(), {"genotype": config.genotype})
    return {
        "genotype": config.genotype, **found, "train_ppl": session.history[-1].get("train_ppl"), **costs,
        "steps": clock.step, "seconds": clock.elapsed, "step_ms": _step_ms(session),
    }  # fmt: skip


_TRAIN: dict[type, Callable[..., dict[str, Any]]] = {Recipe: _train, LanguageRecipe: _train_language}
_RESULTS = ("test_acc", "test_loss", "val_acc", "val_loss", "train_acc")


def _step_ms(session: Session) -> float | None:
    """Median over epochs of the mean time of a step: one slow epoch does not count."""
    times = [ms for r in session.history if (ms := r.get("timings", {}).get("step_ms")) is not None]
    return median(times) if times else None
