"""The work of a run: search or train, write the results into its directory, and return its summary."""

from __future__ import annotations

import time
from collections.abc import Callable
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
from oche.cost import flops, parameters
from oche.data import Corpus, Dataset
from oche.devices.engine import Engine
from oche.networks.lstm import LSTM
from oche.report.mixture_history import find_decisions, read_mixtures
from oche.runs.chance import majority_shares
from oche.runs.config import TrainConfig
from oche.runs.directory import RunDir
from oche.runs.latency_budget import cost_of_result, with_latency_table
from oche.runs.plan import SearchPlan
from oche.runs.session import WorkSession
from oche.runs.warm_start import kept_warm_start
from oche.training.assess import assess
from oche.training.image_recipes import Recipe
from oche.training.image_trainer import Training
from oche.training.image_trainer import train as training_loop
from oche.training.language_recipes import LanguageRecipe
from oche.training.language_trainer import LanguageTraining
from oche.training.language_trainer import train as language_loop
from oche.training.loop import Session


def run_search(run: RunDir, plan: SearchPlan, engine: Engine, session: WorkSession) -> dict[str, Any]:
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
    if engine.replays:
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


RUN_TRAINING: dict[type, Callable[..., dict[str, Any]]] = {
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
