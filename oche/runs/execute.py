"""Execution of plans: from a checked plan to a complete run directory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from oche.core.config.serialize import to_dict
from oche.core.config.yaml_files import dump_yaml
from oche.core.console import Log
from oche.core.environment import describe_environment
from oche.core.errors import OcheError, one_line
from oche.core.signals import Interrupt
from oche.data import Corpus
from oche.devices.launch import join_process_group
from oche.devices.process_group import ProcessGroup, ProcessLost
from oche.methods.recipe import SearchRecipe
from oche.report import run_page
from oche.runs.changes import BEGAN, check_changes
from oche.runs.checkpoint import latest_step
from oche.runs.config import SearchConfig, TrainConfig
from oche.runs.directory import NullRunDir, RunDir
from oche.runs.documents import read_document
from oche.runs.membership import ENVIRONMENT, Earlier, record
from oche.runs.plan import Plan, SearchPlan, TrainPlan, check_shares, make_engine, plan_resumed
from oche.runs.proving import with_proved_form
from oche.runs.python_data import keep_data
from oche.runs.search_and_train import RUN_TRAINING, run_search
from oche.runs.session import Listener, make_session
from oche.runs.warm_start import keep_warm_start
from oche.training.loop import Diverged, Interrupted, OutOfMemory


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
    engine = with_proved_form(run, plan, engine, log, lambda: interrupt.asked)
    session = make_session(run, log, interrupt, config.checkpoint, processes, listeners)
    for line in filter(None, data.note.split("; ")):
        session.log.say(f"data: {line}")
    if isinstance(plan, SearchPlan):
        summary = run_search(run, plan, engine, session)
    else:
        summary = RUN_TRAINING[type(plan.config.train)](run, plan.config, data, engine, session)
    return {**summary, "note": data.note, "data": config.data}


def _resume_hint(path: Path, config: SearchConfig | TrainConfig, settings: tuple[str, ...]) -> str:
    """Return how to continue a run that failed because of its ``settings``."""
    part, step = "search" if isinstance(config, SearchConfig) else "train", latest_step(path / "checkpoints")
    kept = "no checkpoint is there, so it begins anew" if step is None else f"the checkpoint of step {step} is kept"
    moved = SearchRecipe.moved if isinstance(config, SearchConfig) else {}  # config.yaml has the full paths of fields
    paths = [(part, *moved.get(first, (first,)), *rest) for first, *rest in (name.split(".") for name in settings)]
    change = " or ".join(map(".".join, paths))
    return f"{kept}: change {change} in {path / 'config.yaml'} and write: oche resume {path}"
