"""`--on ray`: a study's trials on a Ray cluster. The only file that knows Ray.

A trial is what it is everywhere: a process of its own, started by the worker that Ray gives it to, in a directory that all
nodes see. So Ray's own state is worth nothing to us and is not kept: whatever dies, a worker, a node or the driver, the
directories say what is left to do, and locks that nobody does it twice.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from oche.core.console import Log
from oche.core.errors import OcheError
from oche.core.signals import Interrupt
from oche.runs.directory import last_metric
from oche.study.config import Place, Study
from oche.study.early_stopping import Follower
from oche.study.local import Job, begin, ended, pool, rows_of
from oche.study.processes.resources import Room
from oche.study.processes.subprocess import Child
from oche.study.random_search import Tune
from oche.study.results import state
from oche.study.run import close, opened
from oche.study.trial import mark

_LOOK = 0.2  # seconds between two looks at a process
_LOST = 3  # workers and nodes that a trial may lose before that counts as a crash


def run(study: Study, log: Log, where: str, address: str | None) -> int:
    """Does all trials of ``study`` that are not done, on the cluster at ``address``; None: one on this machine, while it lasts.

    Returns 0 if all are done, 1 if some failed, 130 if it was interrupted. Raises `OcheError` as `opened` does, and where Ray
    is not installed or cannot be reached.
    """
    _ray()
    with opened(study, log, where) as jobs, Interrupt() as interrupt, _cluster(address, study.place):
        if study.tune is None:
            needs = _needs(study)
            pool(jobs, Room([{}] * len(jobs)), log, interrupt, lambda job, slot: Task(job, needs))  # Ray has them wait
        else:
            _tuned(jobs, study, study.tune, log, interrupt)
    return close(study.place.out, jobs, log, interrupt.asked)


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise OcheError('--on ray needs Ray; write pip install "oche[study]", or leave --on out') from None
    return ray


@contextmanager
def _cluster(address: str | None, place: Place) -> Iterator[None]:
    ray = _ray()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    own = {"include_dashboard": False, "num_cpus": None if place.jobs == "auto" else place.jobs * place.threads}
    try:
        ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **({} if address else own))
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise OcheError(
            f"no Ray cluster at {address or 'this machine'}: {reason}; start one with ray start --head"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _needs(study: Study) -> dict[str, float]:
    """What Ray sets aside for a trial. Of GPUs a share, where trials are told to use them or the cluster has any."""
    device, place = study.trials[0].search.device, study.place
    on_gpu = device.startswith("cuda") or (device == "auto" and _ray().cluster_resources().get("GPU", 0) > 0)
    return {"num_cpus": place.threads, "num_gpus": place.gpus if on_gpu else 0}


# --- trials as they are -----------------------------------------------------------------------------------------------


class Task:
    """One trial given to the cluster, as a process that ends, and can be asked to."""

    def __init__(self, job: Job, needs: dict[str, float]) -> None:
        ray = _ray()
        self.pid = 0  # it is on another machine, or may be
        self.exit: int | None = None
        self._asked = False
        task = ray.remote(**needs, max_retries=_LOST)(_attend)
        self._result = task.remote(str(job.path.absolute()), int(needs["num_cpus"]))

    def ended(self) -> bool:
        ray = _ray()
        if not ray.wait([self._result], timeout=0)[0]:
            return False
        try:
            self.exit = ray.get(self._result)
        except (ray.exceptions.TaskCancelledError, KeyboardInterrupt):
            self.exit = 130
        except ray.exceptions.RayError:
            self.exit = 1  # the worker was lost, too often
        return True

    def ask(self) -> None:
        if not self._asked:
            self._asked = True
            _ray().cancel(self._result)  # in the worker, a KeyboardInterrupt

    def kill(self) -> None:
        _ray().cancel(self._result, force=True)  # the worker dies, and its trial saves and stops


def _attend(path: str, threads: int) -> int:
    """In a worker: does what is left of a trial; returns the exit code of its process."""
    job = Job.at(Path(path))
    child = begin(job, threads, {})
    try:
        _wait(child)
    except KeyboardInterrupt:
        child.ask()
        _wait(child)
    ended(job, child)
    assert child.exit is not None
    return child.exit


def _wait(child: Child) -> None:
    while not child.ended():
        time.sleep(_LOOK)


# --- hyper-parameters -------------------------------------------------------------------------------------------------


def _tuned(jobs: Sequence[Job], study: Study, tune: Tune, log: Log, interrupt: Interrupt) -> None:
    """Successive halving (ASHA) over ``jobs``, by Ray Tune. What it ends early is marked as stopped."""
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C is ours, see `_watch`
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the trials' own records say all
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the newer one prints even when quiet
    from ray import tune as api
    from ray.tune.schedulers import ASHAScheduler

    (metric, mode), needs, out = study.measure, _needs(study), study.place.out.absolute()
    scheduler = ASHAScheduler(
        time_attr="epoch", metric=metric, mode=mode, max_t=max(study.epochs, tune.grace) + 1,
        grace_period=tune.grace, reduction_factor=tune.reduction,
    )  # fmt: skip
    with log.lines() as show, TemporaryDirectory(prefix="ray-", dir=out) as scratch:
        run = api.RunConfig(
            storage_path=scratch, verbose=0, failure_config=api.FailureConfig(max_failures=_LOST),
            stop=_watch(lambda: interrupt.asked, lambda: show(lambda: rows_of(jobs))),
        )  # fmt: skip
        api.Tuner(
            api.with_resources(_trainable(), {"cpu": needs["num_cpus"], "gpu": needs["num_gpus"]}),
            param_space={
                "path": api.grid_search([str(job.path.absolute()) for job in jobs]), "metric": metric,
                "threads": study.place.threads,
            },
            tune_config=api.TuneConfig(scheduler=scheduler),
            run_config=run,
        ).fit()  # fmt: skip
    for job in jobs if not interrupt.asked else ():
        if state(job.path) == "interrupted":
            mark(job.path, "stopped", f"stopped after epoch {last_metric(job.path / job.last).get('epoch', 0)}")


def _trainable() -> Any:
    from ray.tune import Trainable

    class Trial(Trainable):
        """A trial as Ray Tune sees it: a step is an epoch."""

        def setup(self, config: dict[str, Any]) -> None:
            self.follower = Follower(Job.at(Path(config["path"])), config["metric"], config["threads"])

        def step(self) -> dict[str, Any]:
            return self.follower.next()

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """The trial's own directory has all; Tune asks for this at each end."""

        def load_checkpoint(self, checkpoint: Any) -> None:
            """After a worker's death the epochs that there are come once more, without work."""

        def cleanup(self) -> None:
            self.follower.stop()

    return Trial


def _watch(asked: Callable[[], bool], show: Callable[[], None]) -> Any:
    """What Tune asks now and then whether all is to stop; the live lines are drawn on the occasion."""
    from ray.tune.stopper import NoopStopper, Stopper

    class Watch(Stopper):
        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            show()
            return asked()

        def __reduce__(self) -> tuple[Any, ...]:  # Tune keeps a copy on disk, which nobody reads
            return NoopStopper, ()

    return Watch()
