"""Carry out a fit: its stages are runs of their own in one directory, so a fit can be resumed at any point.

config.yaml  status.json  plan.json  summary.json  report.html
search/  train/  export/  control-residual/  control-random/
"""

from __future__ import annotations

import time
from dataclasses import fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from oche.core.atomic_files import read_json
from oche.core.budget import parse_duration
from oche.core.config.yaml_files import dump_yaml, load_yaml
from oche.core.console import Log, format_duration
from oche.core.environment import describe_environment
from oche.core.errors import OcheError, one_line, plural
from oche.core.genotypes import resolve
from oche.core.plugins import load_plugins
from oche.core.seeds import generator
from oche.data import Corpus, Dataset
from oche.deploy.export import Export, export
from oche.devices.engine import Engine
from oche.fitting.comparison import compare_networks, right_predictions
from oche.fitting.controls import controls_of, like_cost
from oche.fitting.forms import Form
from oche.fitting.kept_times import KeptTimes
from oche.fitting.page import write_fit_page
from oche.fitting.planner import FitPlan, is_short, make_plan
from oche.fitting.priors import CONTROL, stem_of
from oche.fitting.step_times import Timings, search_setting
from oche.fitting.warm import shipped_weights
from oche.networks.build import network_sizes
from oche.runs.claim import is_run
from oche.runs.config import Common, FitConfig, SearchConfig, TrainConfig
from oche.runs.directory import RunDir
from oche.runs.execute import resume_run, start_run
from oche.runs.plan import plan_search, plan_training
from oche.runs.python_data import keep_data, kept_place
from oche.runs.resolve import read_genotype, with_absolute_paths
from oche.runs.run import Run
from oche.runs.run_data import load_data
from oche.training.image_recipes import modern
from oche.training.loop import Interrupted

SHORTEST_TRAINING = 0.02  # share of the budget that is left to the training however long the search took
SMALLEST_SIDE = 32  # pixels; images of more are made smaller where the time is short for them
TAKEN_LR = 0.3  # learning rate of weights from another network, as a share of that of new ones


def plan_fit(config: FitConfig, log: Log) -> tuple[FitConfig, FitPlan, Dataset]:
    """Return the complete configuration, the plan and the data of a fit. Makes no directory. Raises `OcheError`."""
    began = time.monotonic()
    load_plugins(config.plugins)
    config = with_absolute_paths(config)
    if config.genotype is not None:
        genotype = read_genotype(config.genotype)
        if not network_sizes(genotype):
            raise OcheError(
                "a fit sizes its network to the budget, and the blocks of a chain say the size of theirs; write oche train "
                f"GENOTYPE --data {config.data} --train.budget {config.budget}"
            )
        config = replace(config, genotype=str(genotype))
    data = _images(config, log)
    engine = Engine(config.device, config.threads, fused=config.engine)
    init = shipped_weights(config, data)
    log.say("timing steps on this machine")
    plan = make_plan(config, data, engine, lambda: time.monotonic() - began, init)
    may_shrink = config.size is None
    while may_shrink and is_short(plan, data) and min(data.image) > SMALLEST_SIDE:
        config = replace(config, size=max(SMALLEST_SIDE, min(data.image) // 2))
        log.say(f"the time is short for images of {min(data.image)} pixels a side; with {config.size} instead")
        data = _images(config, log)
        plan = make_plan(config, data, engine, lambda: time.monotonic() - began, init)
    return config, plan, data


def _images(config: FitConfig, log: Log) -> Dataset:
    data = load_data(config, log)
    if isinstance(data, Corpus):
        raise OcheError(
            f"{config.data} is text, and a fit trains classifiers of images; write: oche search --space recurrent"
        )
    if data.test is None and config.control:
        raise OcheError(
            "holdout=0 leaves no test images to compare the network with controls on; use a holdout above 0, or --no-control"
        )
    return data


def predicted_seconds(name: str, plan: FitPlan) -> float:
    """Return the planned time of the stage ``name``: search, train or a control."""
    if name == "search":
        return plan.search_seconds
    return plan.train_seconds + (plan.search_seconds if name == "control-residual" else 0.0)


def describe_plan(plan: FitPlan, controls: list[str]) -> str:
    """Return the plan in a few lines, with predicted times; ``controls``: their names."""
    parts = [
        ("search", plan.search_seconds),
        ("training", plan.train_seconds),
        ("assessment, export, report", plan.closing_seconds),
    ]
    times = ", ".join(f"{name} {format_duration(seconds)}" for name, seconds in parts if seconds)
    lines = [f"plan: {plan.why[0]}", *(f"      {line}" for line in plan.why[1:])]
    lines.append(f"      {times}; ready after {format_duration(plan.seconds)}")
    if controls:
        more = sum(predicted_seconds(name, plan) for name in controls)
        lines.append(
            f"      then {plural(len(controls), 'control')}, {format_duration(more)} more (--no-control leaves them out)"
        )
    return "\n".join(lines)


def start_fit(
    path: Path,
    config: FitConfig,
    plan: FitPlan,
    data: Dataset,
    *,
    overwrite: bool,
    log: Log,
    keep: Path | None = None,
) -> Run:
    """Make the directory of a fit and carry it out. Raises `OcheError` if the directory is taken or a stage fails.

    ``keep``: a file of data that were handed over in Python, of which the directory gets a copy.
    """
    if keep is not None:
        config = replace(config, data=str(kept_place(path, keep)))
    with RunDir.create(path, dump_yaml(config), "fit", overwrite=overwrite) as run:
        run.write_json("environment.json", describe_environment(config.device))
        run.write_json("plan.json", plan.to_dict())
        if keep is not None:
            keep_data(path, keep, log)
        _carry_out(run, config, plan, data, log)
    return Run(path)


def resume_fit(path: Path, log: Log, config: FitConfig | None = None) -> Run:
    """Finish the fit at ``path``. Raises `OcheError` if a stage fails or another process works on it.

    ``config``: that of the fit with its data at another place; None: as it began.
    """
    config = config or load_yaml(path / "config.yaml", FitConfig())
    plan = FitPlan.from_dict(read_json(path / "plan.json"), str(path / "plan.json"))
    with RunDir.open(path) as run:
        run.set_state("running")
        _carry_out(run, config, plan, _images(config, log), log)
    return Run(path)


def _carry_out(run: RunDir, config: FitConfig, plan: FitPlan, data: Dataset, log: Log) -> None:
    """Do the stages that are not done, and write how the fit ends into its status."""
    try:
        Stages(run, config, plan, data, log).carry_out()
    except Interrupted:
        run.set_state("interrupted")
        log.warn(f"stopped; everything is saved; go on with: oche resume {run.path}")
        raise
    except BaseException as error:
        run.set_state("failed", error=f"{type(error).__name__}: {one_line(error)}")
        raise
    run.set_state("complete")
    write_fit_page(run.path)


class Stages:
    """The stages of one fit, in order."""

    def __init__(self, run: RunDir, config: FitConfig, plan: FitPlan, data: Dataset, log: Log) -> None:
        self.run, self.config, self.plan, self.data, self.log = run, config, plan, data, log
        self.path, self.controls = run.path, controls_of(config, plan)
        self.right: dict[str, list[bool]] = {}  # by stage: which test images its network has right
        self.common: dict[str, Any] = {f.name: getattr(config, f.name) for f in fields(Common)}

    def carry_out(self) -> None:
        """Do what is not done yet: search, training, export, controls. The page is written once there is a network."""
        names = [*(["search"] if self.plan.decision == "search" else []), "train", *self.controls]
        for i, name in enumerate(names, 1):
            if self._done(name):
                continue
            seconds = predicted_seconds(name, self.plan)
            later = [predicted_seconds(later, self.plan) for later in names[i:] if not self._done(later)]
            ready = datetime.now() + timedelta(seconds=seconds + sum(later))
            self.log.say(f"{i}/{len(names)} {name}: {format_duration(seconds)}; all is done about {ready:%H:%M}")
            self.log.later = sum(later)
            self._stage(name)
            self.log.later = 0.0
            if name == "train":
                self._export()
            if name != "search" and later:
                self._summarise()
                write_fit_page(self.path)
            if name == "train":
                self.log.say(f"the network is ready: {self.path / 'train'}; page: {self.path / 'report.html'}")
        self._export()  # a fit may have been stopped between its training and the export
        self._summarise()

    def _done(self, name: str) -> bool:
        return bool(Run(self.path / name).summary)

    def _stage(self, name: str) -> None:
        """Start the stage ``name``, or go on with it."""
        path = self.path / name
        if is_run(path):
            began = Run(path).config
            moved = replace(began, data=self.config.data, data_dir=self.config.data_dir)
            resume_run(path, moved, self.log, moved=moved != began)
        elif name == "search":
            start_run(path, plan_search(self._search_config(), self.log, self.data), overwrite=False, log=self.log)
        else:
            start_run(path, plan_training(self._train_config(name), self.log, self.data), overwrite=False, log=self.log)

    def _search_config(self) -> SearchConfig:
        space, recipe = search_setting(self.plan.stem, self.data, self.plan.batch, self.plan.search_steps)
        return SearchConfig(**self.common, method=space.method, space=space, search=recipe)

    def _train_config(self, name: str) -> TrainConfig:
        """Return the training of the network, or of a control: the same recipe and time."""
        plan, genotype = self.plan, self._genotype(name)
        channels, cells = plan.channels, plan.cells
        if name == "control-residual":
            channels, cells = like_cost(plan, self.data)
        warm = plan.init is not None and name == "train"
        form = self._form(name, genotype)
        recipe = modern(
            channels=channels, cells=cells, stem=stem_of(genotype, plan.stem), batch=plan.batch,
            budget=f"{self._train_seconds(name):.0f}s", evaluate=max(1, round(plan.epochs / 10)),
            taken_lr=TAKEN_LR if warm else 1.0, precision=form.precision,
        )  # fmt: skip
        init = Path(str(plan.init)) if warm else None
        common: dict[str, Any] = self.common | {"engine": form.engine}
        return TrainConfig(**common, genotype=genotype, recipe="modern", train=recipe, init=init)

    def _form(self, name: str, genotype: str) -> Form:
        """Return the form of a training: that of the plan, and for a residual control of another cell the fastest for it."""
        if name != "control-residual" or resolve(genotype) == resolve(self.plan.genotype):
            return self.plan.form
        engine = Engine(self.config.device, self.config.threads, fused=self.config.engine)
        times = Timings(self.data, engine, KeptTimes(self.data, engine), self.config.precision)
        return times.form(CONTROL, self.plan.stem, self.plan.batch)

    def _genotype(self, name: str) -> str:
        if name == "control-residual":
            return str(resolve(CONTROL))
        if name == "control-random":
            space = Run(self.path / "search").config.space
            return str(space.random(generator(self.config.seed, "random cell", 1)))
        if self.plan.decision == "search":
            return str(Run(self.path / "search").genotype)
        return str(resolve(self.plan.genotype))

    def _train_seconds(self, name: str) -> float:
        """Return the time of a training: what the search has left of the budget.

        The residual network gets the time of the search too: without a search it would have had it. The random cell gets
        the time of the network, so that the two differ by the cell alone.
        """
        used = Run(self.path / "search").summary.get("seconds", 0.0) if self.plan.decision == "search" else 0.0
        if name == "train":
            left = self.config.seconds - self.plan.spent - self.plan.closing_seconds - used
            return max(SHORTEST_TRAINING * self.config.seconds, left)
        trained = parse_duration(str(Run(self.path / "train").config.train.budget))
        return trained + used if name == "control-residual" else trained

    def _export(self) -> None:
        """Export the network, unless that was done or is not asked for."""
        if not self.config.export or (self.path / "export.json").exists():
            return
        out = self.path / "export" / "model.onnx"
        try:
            done = export(Run(self.path / "train"), Export(), out=out, overwrite=True, log=self.log)
            self.run.write_json("export.json", {"file": str(done.path.relative_to(self.path)), "bytes": done.bytes})
        except OcheError as error:
            self.log.say(f"not exported: {error}")
            self.run.write_json("export.json", {"why_not": one_line(error)})

    def _right(self, name: str) -> list[bool]:
        """Return which test images the network of the stage ``name`` has right; computed once."""
        if name not in self.right:
            engine = Engine(self.config.device, self.config.threads)
            self.right[name] = right_predictions(self.path / name, self.data, engine)
        return self.right[name]

    def _summarise(self) -> None:
        """Write the summary, with comparisons to the controls that are trained."""
        trained = Run(self.path / "train").summary
        others = [name for name in self.controls if self._done(name)]
        compared = {}
        if self.data.test is not None:
            compared = compare_networks(
                self._right("train"), {name: (self.path / name, self._right(name)) for name in others}
            )
        kept = ("genotype", "parameters", "flops", "note", "data", "steps")
        seconds = {name: Run(self.path / name).summary.get("seconds") for name in ("search", "train", *others)}
        self.run.write_json("summary.json", {
            **{key: value for key, value in trained.items() if key in kept or key.startswith("test_")},
            "stage_seconds": {name: value for name, value in seconds.items() if value is not None}, "comparisons": compared,
        })  # fmt: skip
