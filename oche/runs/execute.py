"""Execution of plans: from a checked plan to a complete run directory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from oche.analysis.decisions import count_decided
from oche.bilevel.cuda_graph_replay import replay
from oche.bilevel.search import Search
from oche.bilevel.search import search as search_loop
from oche.core.architecture import Genotype
from oche.core.atomic_files import read_json
from oche.core.budget import Clock
from oche.core.config.serialize import to_dict
from oche.core.config.yaml_files import dump_yaml
from oche.core.console import Log
from oche.core.environment import describe_environment
from oche.core.errors import OcheError, one_line
from oche.core.signals import Interrupt
from oche.cost import flops, parameters
from oche.data import Corpus, Dataset
from oche.devices.engine import Engine
from oche.devices.launch import join_process_group
from oche.devices.process_group import ProcessGroup, ProcessLost
from oche.methods.recipe import SearchRecipe
from oche.networks.lstm import LSTM
from oche.report import run_page
from oche.report.mixture_history import find_decisions, read_mixtures
from oche.runs.chance import majority_shares
from oche.runs.changes import BEGAN, check_changes
from oche.runs.checkpoint import latest_step
from oche.runs.config import SearchConfig, TrainConfig
from oche.runs.directory import NullRunDir, RunDir
from oche.runs.documents import read_document
from oche.runs.latency_budget import cost_of_result, with_latency_table
from oche.runs.membership import ENVIRONMENT, Earlier, record
from oche.runs.plan import Plan, SearchPlan, TrainPlan, check_shares, make_engine, plan_resumed
from oche.runs.python_data import keep_data
from oche.runs.session import Listener, WorkSession, make_session
from oche.runs.warm_start import keep_warm_start, kept_warm_start
from oche.training.assess import assess
from oche.training.image_recipes import Recipe
from oche.training.image_trainer import Training
from oche.training.image_trainer import train as training_loop
from oche.training.language_recipes import LanguageRecipe
from oche.training.language_trainer import LanguageTraining
from oche.training.language_trainer import train as language_loop
from oche.training.loop import Diverged, Interrupted, OutOfMemory, Session


def check_unchanged(path: Path, data: Any) -> None:
    """Raise `OcheError` if the run at ``path`` was begun for other images than ``data`` holds now."""
    if not (path / "space.json").exists():
        return
    began, now = read_document(path / "space.json"), _data_shape(data)
    for name in sorted(began.keys() & now.keys()):
        if began[name] != now[name]:
            was, found = (one_line(facts[name])[:80] for facts in (began, now))
            raise OcheError(
                f"{path} was begun with {name} {was}, and {data.name} has {found} now; restore the original data, "
                "or start anew"
            )


def _data_shape(data: Any) -> dict[str, Any]:
    """Return what a network must know of its images, by the keys of space.json.

    Nothing for text: its checkpoints hold the vocabulary and are checked themselves.
    """
    if isinstance(data, Corpus):
        return {}
    facts = {"classes": list(data.classes), "image": list(data.image), "in_channels": data.channels}
    return {**facts, "pixels": to_dict(data.pixels)}


def _run_fingerprint(config: SearchConfig | TrainConfig, data: Any) -> bytes:
    """Return the settings and data that must be equal on all ranks. Paths may differ, because machines do."""
    places = {"data": "", "data_dir": None, "plugins": (), "parts": None} | (
        {"table": None} if hasattr(config, "table") else {}
    )
    same = dump_yaml(replace(config, **places))
    if isinstance(data, Corpus):
        return same.encode() + str(data.vocabulary).encode() + data.train.numpy().tobytes()
    ids = b"" if data.train.ids is None else data.train.ids.numpy().tobytes()
    return same.encode() + str(data.classes).encode() + data.train.labels.numpy().tobytes() + ids


def start_run(
    path: Path,
    plan: Plan,
    *,
    overwrite: bool,
    log: Log,
    before: Callable[[], None] = lambda: None,
    refresh: bool = True,
    keep: Path | None = None,
    listeners: tuple[Listener, ...] = (),
) -> None:
    """Create the run directory and execute ``plan``. ``before`` is called once the directory exists.

    ``refresh``: whether the report of the search that holds a training is written anew at the end. ``keep``: a file of data
    that was handed over in Python, of which the directory gets a copy. ``listeners``: as in `DirectorySession`.

    Raises `OcheError` if the directory is taken or the run fails.
    """
    config, processes = plan.config, join_process_group()
    kind = "search" if isinstance(plan, SearchPlan) else "train"
    with processes.raise_together():
        if processes.is_main:
            with RunDir.create(path, dump_yaml(config), kind, overwrite=overwrite) as run:
                shared = {"ranks": processes.world_size} if processes.is_distributed else {}
                shared |= record(run, config, plan.data)
                run.write_json(ENVIRONMENT, describe_environment(config.device) | shared)
                run.write_text(BEGAN, dump_yaml(config))
                if isinstance(plan, TrainPlan) and plan.warm is not None:
                    keep_warm_start(run, plan.warm)
                if keep is not None:
                    keep_data(path, keep, log)
    before()
    _execute(path, config, log, plan, refresh, listeners=listeners)


def resume_run(
    path: Path,
    config: SearchConfig | TrainConfig,
    log: Log,
    *,
    moved: bool = False,
    listeners: tuple[Listener, ...] = (),
) -> None:
    """Do what is left of the run at ``path``, whose configuration is ``config``. ``listeners``: as in `DirectorySession`.

    ``moved``: the data of ``config`` are at another place than config.yaml says; it is written anew once they were found there.

    Raises `OcheError` if the run fails, or if the configuration was changed in a way that a stopped run cannot take.
    """
    processes = join_process_group()
    with processes.raise_together():
        if processes.is_main:
            check_changes(path, config, log)
    _execute(path, config, log, None, True, moved, listeners)


def _execute(
    path: Path,
    config: SearchConfig | TrainConfig,
    log: Log,
    plan: Plan | None,
    refresh: bool,
    moved: bool = False,
    listeners: tuple[Listener, ...] = (),
) -> None:
    """Do what is left of a run, and write how it ends into its status.json. ``plan`` None: make the plan anew.

    ``refresh``: write the report of the run whose directory holds this one anew, too.
    """
    processes = join_process_group()
    with processes.raise_together():
        opened = RunDir.open(path) if processes.is_main else NullRunDir(path)
    with opened as run, Interrupt(processes.is_distributed, quiet=not processes.is_main) as interrupt:
        run.set_state("running")
        try:
            with processes.detecting_lost_processes():
                plan = plan or _plan_again(run, config, log, processes, moved)
                summary = _compute(run, config, log, plan, interrupt, processes, listeners)
        except Interrupted:
            run.set_state("interrupted")
            log.warn(f"stopped; everything is saved; go on with: oche resume {path}")
            raise
        except (Diverged, OutOfMemory) as error:
            told = type(error)(f"{error}; {_resume_hint(path, config, error.settings)}")
            told.said = isinstance(error, Diverged) and not processes.is_main  # all ranks have the same loss
            run.set_state("failed", error=f"{type(error).__name__}: {told}")
            raise told from None
        except ProcessLost as error:
            told = ProcessLost(f"{error}; go on with: oche resume {path}")
            run.set_state("failed", error=f"Lost: {told}")
            raise told from None
        except BaseException as error:
            run.set_state("failed", error=f"{type(error).__name__}: {error}")
            raise
        run.write_json("summary.json", summary)
        run.set_state("complete")
    if processes.is_main:
        run_page.write_report(path)
        if refresh:
            run_page.refresh_reports(path.resolve().parent)


def _plan_again(
    run: RunDir, config: SearchConfig | TrainConfig, log: Log, processes: ProcessGroup, moved: bool
) -> Plan:
    """Return the plan of a run to resume, and write what its directory lacks: the record of its data, or their new place."""
    earlier = Earlier.shared(run.path, log, processes)
    plan = processes.first_on_each_machine(lambda: plan_resumed(config, log, earlier))
    with processes.raise_together():
        if processes.is_main:
            if not earlier.begun and earlier.manifest is None and earlier.text is None:  # killed before it was written
                run.write_json(ENVIRONMENT, run.read_json(ENVIRONMENT) | record(run, config, plan.data))
            if moved:
                run.write_text("config.yaml", dump_yaml(config))
    return plan


def _compute(
    run: RunDir,
    config: SearchConfig | TrainConfig,
    log: Log,
    plan: Plan,
    interrupt: Interrupt,
    processes: ProcessGroup,
    listeners: tuple[Listener, ...],
) -> dict[str, Any]:
    """Check that data and processes are as before and agree, then search or train. Return the summary."""
    data = plan.data
    with processes.raise_together():
        check_shares(config, data, processes)
        check_unchanged(run.path, data)
    processes.check_agreement("their settings and data", _run_fingerprint(config, data))
    engine = make_engine(config, processes)
    processes.check_agreement("the kind of their device", engine.device.type.encode())
    session = make_session(run, log, interrupt, config.checkpoint, processes, listeners)
    for line in filter(None, data.note.split("; ")):
        session.log.say(f"data: {line}")
    if isinstance(plan, SearchPlan):
        summary = _run_search(run, plan, engine, session)
    else:
        summary = _RUN_TRAINING[type(plan.config.train)](run, plan.config, data, engine, session)
    return {**summary, "note": data.note, "data": config.data}


def _resume_hint(path: Path, config: SearchConfig | TrainConfig, settings: tuple[str, ...]) -> str:
    """Return how to continue a run that failed because of its ``settings``."""
    part, step = "search" if isinstance(config, SearchConfig) else "train", latest_step(path / "checkpoints")
    kept = "no checkpoint is there, so it begins anew" if step is None else f"the checkpoint of step {step} is kept"
    moved = SearchRecipe.moved if isinstance(config, SearchConfig) else {}  # config.yaml has the full paths of fields
    paths = [(part, *moved.get(first, (first,)), *rest) for first, *rest in (name.split(".") for name in settings)]
    change = " or ".join(map(".".join, paths))
    return f"{kept}: change {change} in {path / 'config.yaml'} and write: oche resume {path}"


def _run_search(run: RunDir, plan: SearchPlan, engine: Engine, session: WorkSession) -> dict[str, Any]:
    """Search, write the results of the search, and return them for the summary."""
    config, data, truth = plan.config, plan.data, plan.truth
    chance: dict[str, float] = {}

    def describe(task: Search) -> None:
        if isinstance(data, Dataset):
            held = {"validation": task.feed.val} if "val" in task.meters else {}
            shares = majority_shares(data, {**held, "test": data.test}, session.log)
            if held:
                chance["val_majority"] = shares["validation"]
        space, mixes = config.space, task.settled(0.0)
        example = space.example_input(engine)
        groups = {
            name: {"edges": dag.edges, "inputs": dag.inputs, "candidates": space.candidates}
            for name, dag in task.groups.items()
        }
        _choose_computation(task, engine, session)
        run.write_json("space.json", {
            "space": config.method, "computes": task.computes, "parameters": parameters(task.net),
            "flops": flops(task.net, lambda: task.net(*example, mixes)), **space.data_facts(data), "groups": groups,
            **({} if isinstance(data, Corpus) else {"pixels": to_dict(data.pixels)}),
            "network": space.describe(), **({} if truth is None else {"truth": truth.describe()}),
            **({} if task.cost_constraint is None else {"priced": task.cost_constraint.describe()}), **chance,
        })  # fmt: skip
        if task.cost_constraint is not None:
            session.log.say(f"penalty on {task.cost_constraint.summarize()}")

    recipe = with_latency_table(run.path, config, engine, session.log)
    task, clock = search_loop(
        config.space, recipe, data, seed=config.seed, engine=engine, session=session, before=describe,
        truth=truth or (lambda cells: {}),
    )  # fmt: skip
    genotype = task.conclude()
    run.write_text("genotype.txt", str(genotype) + "\n")
    logits = {f"logits.{name}": a.detach() for name, a in zip(task.groups, task.logits, strict=True)}
    run.write_weights("weights.safetensors", {**task.net.state_dict(), **logits}, {"genotype": str(genotype)})
    last, measures = session.history[-1], [f"{part}_{task.feed.meter.measure}" for part in ("val", "train")]
    return {
        "genotype": str(genotype), **{name: last.get(name) for name in measures}, **chance,
        **({"val_images": len(task.feed.val)} if "val_acc" in last else {}),
        **_decided(run, session, genotype), "parameters": parameters(task.net), **_times(clock, session),
        **({} if truth is None else truth(genotype)), **cost_of_result(task.cost_constraint, genotype, session.log),
    }  # fmt: skip


def _decided(run: RunDir, session: WorkSession, genotype: Genotype) -> dict[str, int]:
    """Return how many nodes of the found cells the search decided, for the summary; see `oche.analysis.decisions`."""
    mixtures = read_mixtures(read_json(run.path / "space.json"), session.history)
    decided, nodes = count_decided(find_decisions(mixtures, genotype))
    return {"decided_nodes": decided, "nodes": nodes} if nodes else {}


def _choose_computation(task: Search | Training | LanguageTraining, engine: Engine, session: WorkSession) -> None:
    """Log the form in which the cells of ``task`` compute, and replay its steps from CUDA graphs if that is asked for."""
    if task.computes:
        session.log.say(f"cells compute {task.computes}")
    if engine.fused == "fused" and engine.device.type == "cuda":
        replay(task, session.log.warn)


def _run_image_training(
    run: RunDir, config: TrainConfig, data: Dataset, engine: Engine, session: WorkSession
) -> dict[str, Any]:
    """Train a network for images, write its results, and return them for the summary."""
    assert isinstance(config.train, Recipe)
    genotype = Genotype.parse(config.genotype)
    run.write_text("genotype.txt", str(genotype) + "\n")
    costs: dict[str, int] = {}

    def describe(task: Training) -> None:
        majority_shares(data, {{"val": "validation"}.get(task.held, task.held): task.held_split}, session.log)
        image = engine.images(torch.zeros(1, data.channels, *data.image))
        costs.update(parameters=parameters(task.net), flops=flops(task.net, lambda: task.net(image)))
        _choose_computation(task, engine, session)
        run.write_json("space.json", {
            "space": config.recipe, "computes": task.computes, **costs, "image": data.image, "in_channels": data.channels,
            "classes": data.classes,
            "mean": data.mean, "std": data.std, "pixels": to_dict(data.pixels), "groups": {}, "network": task.net.describe(),
        })  # fmt: skip

    task, clock = training_loop(
        genotype, config.train, data, seed=config.seed, engine=engine, session=session, title=run.path.name, before=describe,
        warm=kept_warm_start(run.path),
    )  # fmt: skip
    run.write_weights("weights.safetensors", task.net.state_dict(), {"genotype": str(genotype)})
    last = session.history[-1]
    return {
        "genotype": str(genotype), **_write_assessment(run, task), **{key: last[key] for key in _RESULTS if key in last}, **costs,
        **_times(clock, session),
    }  # fmt: skip


def _write_assessment(run: RunDir, task: Training) -> dict[str, float]:
    """Write the errors of the trained network to assessment.json. Return accuracy, loss, majority and calibration error."""
    if task.held_split is None or not task.engine.processes.is_main:
        return {}
    found = assess(task.net, task.held_split, task.data, task.engine.single_process, task.held)
    run.write_json("assessment.json", found.to_dict())
    numbers = {"acc": found.numbers["accuracy"], "loss": found.nll, "balanced_acc": found.balanced_accuracy}
    held, numbers = task.held, numbers | {"majority": found.majority, "ece": found.ece}
    return {f"{held}_{name}": value for name, value in numbers.items()} | {f"{held}_images": found.images}


def _run_language_training(
    run: RunDir, config: TrainConfig, corpus: Corpus, engine: Engine, session: WorkSession
) -> dict[str, Any]:
    """Train a language model, write its results, and return them for the summary."""
    assert isinstance(config.train, LanguageRecipe)
    if config.genotype != LSTM:
        run.write_text("genotype.txt", config.genotype + "\n")
    costs: dict[str, int] = {}

    def describe(task: LanguageTraining) -> None:
        word = torch.zeros(1, 1, dtype=torch.int64, device=engine.device)
        costs.update(parameters=parameters(task.net), flops=flops(task.net, lambda: task.net(word)))
        _choose_computation(task, engine, session)
        run.write_json("space.json", {
            "space": config.recipe, "computes": task.computes, **costs, "vocabulary": len(corpus.vocabulary), "groups": {},
            "network": task.net.describe(),
        })  # fmt: skip

    task, clock, found = language_loop(
        config.genotype, config.train, corpus, seed=config.seed, engine=engine, session=session, title=run.path.name,
        before=describe,
    )  # fmt: skip
    run.write_json("vocabulary.json", {"tokens": corpus.tokens, "vocabulary": corpus.vocabulary})
    run.write_weights("weights.safetensors", task.net.state_dict(), {"genotype": config.genotype})
    return {
        "genotype": config.genotype, **found, "train_ppl": session.history[-1].get("train_ppl"), **costs,
        **_times(clock, session),
    }  # fmt: skip


_RUN_TRAINING: dict[type, Callable[..., dict[str, Any]]] = {
    Recipe: _run_image_training,
    LanguageRecipe: _run_language_training,
}
_RESULTS = ("test_acc", "test_loss", "val_acc", "val_loss", "train_acc")


def _times(clock: Clock, session: Session) -> dict[str, Any]:
    """Return steps and times for the summary: ``seconds`` as `oche.core.budget` defines them, and ``other_seconds``.

    The others are what this process spent besides: before the first step, preparing in it, and after the last one.
    """
    others = time.monotonic() - session.began - (clock.seconds - clock.resumed)
    return {
        "steps": clock.step, "seconds": clock.seconds, "other_seconds": max(0.0, others),
        "step_ms": _median_step_ms(session),
    }  # fmt: skip


def _median_step_ms(session: Session) -> float | None:
    """Return the median over epochs of the mean time of a step, in milliseconds. So one slow epoch does not count."""
    times = [ms for r in session.history if (ms := r.get("timings", {}).get("step_ms")) is not None]
    return median(times) if times else None
