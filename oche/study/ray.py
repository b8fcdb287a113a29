"""`--on ray`: the trials of a study on a Ray cluster. No other file imports Ray.

The worker that Ray gives a trial to starts the usual process for it, in a directory that all nodes see. Ray's own state is not
kept: if a worker, a node or the driver dies, the directories say what is left to do, and their locks keep two processes from
doing it twice.
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
from oche.core.extras import need
from oche.core.signals import Interrupt
from oche.runs.directory import last_metric
from oche.study.config import Placement, Study
from oche.study.early_stopping import TrialEpochs
from oche.study.local import TrialJob, note_killed, progress_rows, run_jobs, start_process
from oche.study.processes.oche_process import OcheProcess
from oche.study.processes.resources import ResourcePool
from oche.study.random_search import Tune
from oche.study.results import trial_state
from oche.study.run import finish_study, open_study
from oche.study.trial import mark_trial

_POLL = 0.2  # seconds between two looks at a process
_MAX_LOST = 3  # workers and nodes that a trial may lose before it counts as crashed


def run_study_on_ray(study: Study, log: Log, where: str, address: str | None) -> int:
    """Do the unfinished trials of ``study`` on the Ray cluster at ``address``; None starts a cluster on this machine.

    Returns 0 if all are done, 1 if some failed, 130 if it was interrupted. Raises `OcheError` as `open_study` does, and if
    Ray is not installed or cannot be reached.
    """
    _ray()
    with open_study(study, log, where) as jobs, Interrupt() as interrupt, _cluster(address, study.place):
        if study.tune is None:
            needs = _needs(study)
            run_jobs(
                jobs, ResourcePool([{}] * len(jobs)), log, interrupt, lambda job, slot: Task(job, needs)
            )  # Ray queues them
        else:
            _tuned(jobs, study, study.tune, log, interrupt)
    return finish_study(study.place.out, jobs, log, interrupt.asked)


def _ray() -> Any:
    return need("--on ray", "ray", instead="or leave --on out")


@contextmanager
def _cluster(address: str | None, place: Placement) -> Iterator[None]:
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
    """The resources that Ray reserves for a trial: CPUs, and a share of a GPU if trials use GPUs or the cluster has any."""
    device, place = study.trials[0].search.device, study.place
    on_gpu = device.startswith("cuda") or (device == "auto" and _ray().cluster_resources().get("GPU", 0) > 0)
    return {"num_cpus": place.threads, "num_gpus": place.gpus if on_gpu else 0}


# --- trials without early stopping ------------------------------------------------------------------------------------


class Task:
    """One trial on the cluster, with the interface of a process."""

    def __init__(self, job: TrialJob, needs: dict[str, float]) -> None:
        ray = _ray()
        self.pid = 0  # its process may be on another machine
        self.exit_code: int | None = None
        self._asked = False
        task = ray.remote(**needs, max_retries=_MAX_LOST)(_finish_trial)
        self._result = task.remote(str(job.path.absolute()), int(needs["num_cpus"]))

    def has_ended(self) -> bool:
        ray = _ray()
        if not ray.wait([self._result], timeout=0)[0]:
            return False
        try:
            self.exit_code = ray.get(self._result)
        except (ray.exceptions.TaskCancelledError, KeyboardInterrupt):
            self.exit_code = 130
        except ray.exceptions.RayError:
            self.exit_code = 1  # the worker was lost, too often
        return True

    def request_stop(self) -> None:
        if not self._asked:
            self._asked = True
            _ray().cancel(self._result)  # raises KeyboardInterrupt in the worker

    def kill(self) -> None:
        _ray().cancel(self._result, force=True)  # the worker dies, so its trial saves and stops


def _finish_trial(path: str, threads: int) -> int:
    """Finish a trial, in a worker; return the exit code of its process."""
    job = TrialJob.at(Path(path))
    process = start_process(job, threads, {})
    try:
        _wait(process)
    except KeyboardInterrupt:
        process.request_stop()
        _wait(process)
    note_killed(job, process)
    assert process.exit_code is not None
    return process.exit_code


def _wait(process: OcheProcess) -> None:
    while not process.has_ended():
        time.sleep(_POLL)


# --- trials with early stopping ---------------------------------------------------------------------------------------


def _tuned(jobs: Sequence[TrialJob], study: Study, tune: Tune, log: Log, interrupt: Interrupt) -> None:
    """Asynchronous successive halving (ASHA, 1810.05934) over ``jobs``, by Ray Tune; mark the trials that it stops early."""
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C is handled here, see `_stopper`
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the trials write their own records
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the newer output prints even when quiet
    from ray import tune as api
    from ray.tune.schedulers import ASHAScheduler

    (metric, mode), needs, out = study.measure, _needs(study), study.place.out.absolute()
    scheduler = ASHAScheduler(
        time_attr="epoch", metric=metric, mode=mode, max_t=max(study.epochs, tune.grace) + 1,
        grace_period=tune.grace, reduction_factor=tune.reduction,
    )  # fmt: skip
    with log.lines() as show, TemporaryDirectory(prefix="ray-", dir=out) as scratch:
        run_config = api.RunConfig(
            storage_path=scratch, verbose=0, failure_config=api.FailureConfig(max_failures=_MAX_LOST),
            stop=_stopper(lambda: interrupt.asked, lambda: show(lambda: progress_rows(jobs))),
        )  # fmt: skip
        api.Tuner(
            api.with_resources(_trainable(), {"cpu": needs["num_cpus"], "gpu": needs["num_gpus"]}),
            param_space={
                "path": api.grid_search([str(job.path.absolute()) for job in jobs]), "metric": metric,
                "threads": study.place.threads,
            },
            tune_config=api.TuneConfig(scheduler=scheduler),
            run_config=run_config,
        ).fit()  # fmt: skip
    for job in jobs if not interrupt.asked else ():
        if trial_state(job.path) == "interrupted":
            mark_trial(job.path, "stopped", f"stopped after epoch {last_metric(job.path / job.last).get('epoch', 0)}")


def _trainable() -> Any:
    from ray.tune import Trainable

    class Trial(Trainable):
        """A trial for Ray Tune; a step is an epoch."""

        def setup(self, config: dict[str, Any]) -> None:
            self.epochs = TrialEpochs(TrialJob.at(Path(config["path"])), config["metric"], config["threads"])

        def step(self) -> dict[str, Any]:
            return self.epochs.next()

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """Save nothing; the trial's own directory has everything. Tune calls this at each end."""

        def load_checkpoint(self, checkpoint: Any) -> None:
            """Load nothing; after the death of a worker the recorded epochs come again, without work."""

        def cleanup(self) -> None:
            self.epochs.stop()

    return Trial


def _stopper(asked: Callable[[], bool], show: Callable[[], None]) -> Any:
    """A Stopper, which Tune asks now and then whether to stop everything; it draws the live lines too."""
    from ray.tune.stopper import NoopStopper, Stopper

    class StopWhenInterrupted(Stopper):
        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            show()
            return asked()

        def __reduce__(self) -> tuple[Any, ...]:  # Tune pickles it, and nobody reads that copy
            return NoopStopper, ()

    return StopWhenInterrupted()
