"""Studies on a Ray cluster of two nodes, one of which is killed: each must end as an undisturbed study.

    python benchmarks/reliability/nodes.py                    5 studies
    python benchmarks/reliability/nodes.py --studies 1 --seed 3

Both nodes are raylets of this machine, with one core each, as `ray.cluster_utils.Cluster` makes them; `oche study --on ray
--address` is a process of its own. When both nodes have a running trial and a random number of further records is written, the
node without the driver is killed (SIGKILL to its raylet; its workers follow). After every second kill another node joins.
Weights, records, genotypes and summaries of all trials are compared. A trial on another node must have been started once only,
and no step may be recorded twice. OUT/table.md has the outcome.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import tyro
import yaml
from kills import STUDY, study_results
from ray.cluster_utils import Cluster

from oche.runs.directory import read_metrics

TRIALS = 4
ASKED = STUDY | {"recipe": "none", "checkpoint": 0.5, "grid": {"method": "darts", "seed": [*range(TRIALS)]}}
ASKED |= {"search": {"batch": 8, "steps": 36}}
HEALTH = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000, "health_check_failure_threshold": 5}


@dataclass(frozen=True)
class Setting:
    studies: int = 5
    """number of studies; each loses a node"""
    seed: int = 0
    """seed of the moments, as far as the machine's speed allows"""
    out: Path = Path("build/nodes")
    """folder for the studies and the results"""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one study. ``begun``: processes that its trials needed; ``done``: complete trials when the node died."""

    code: int
    begun: int
    done: int
    equal: bool
    once: bool
    seconds: float


def ask(out: Path) -> Path:
    file = out.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(ASKED | {"out": str(out)}))
    return file


def records(out: Path) -> list[int]:
    """The lines of metrics.jsonl of each trial that has any."""
    return [file.read_bytes().count(b"\n") for file in out.glob("trials/*/search/metrics.jsonl")]


def wait(ready, driver: subprocess.Popen, what: str) -> None:
    end = time.monotonic() + 900
    while not ready():
        if driver.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"{what}: exit code {driver.poll()}")
        time.sleep(0.05)


def one(out: Path, calm: dict, chance: random.Random, joins: bool) -> Outcome:
    """A study that loses a node."""
    began = time.monotonic()
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, "_system_config": HEALTH}
    )
    try:
        other = cluster.add_node(num_cpus=1)
        line = [sys.executable, "-m", "oche", "study", str(ask(out)), "--on", "ray", "--address", cluster.address]
        with out.with_suffix(".log").open("w") as log:
            driver = subprocess.Popen([*line, "--quiet"], stdout=log, stderr=log)
        wait(lambda: len(records(out)) >= 2, driver, "two trials at work")
        goal = sum(records(out)) + chance.randint(1, 20)
        wait(lambda: sum(records(out)) >= goal, driver, f"{goal} records")
        done = len([*out.glob("trials/*/summary.json")])
        cluster.remove_node(other, allow_graceful=False)
        if joins:
            cluster.add_node(num_cpus=1)
        code = driver.wait(1800)
    finally:
        cluster.shutdown()
    begun = sum(log.read_text().count("oche study trial ") for log in out.glob("trials/*/log.txt"))
    steps = [[r["step"] for r in read_metrics(run)] for run in out.glob("trials/*/search")]
    once = all(s == sorted({*s}) for s in steps) and len(steps) == TRIALS
    return Outcome(code, begun, done, study_results(out) == calm, once, time.monotonic() - began)


def table(found: list[Outcome]) -> str:
    head = "| study | exit code | complete when it died | processes for 4 trials | as undisturbed | no step twice | seconds |"
    said = {True: "yes", False: "NO"}
    lines = [
        f"| {i} | {o.code} | {o.done} | {o.begun} | {said[o.equal]} | {said[o.once]} | {o.seconds:.0f} |"
        for i, o in enumerate(found, 1)
    ]
    return "\n".join([head, "|" + "---|" * 7, *lines, ""])


def main(setting: Setting) -> int:
    shutil.rmtree(setting.out, ignore_errors=True)
    out = setting.out.absolute()
    out.mkdir(parents=True)
    subprocess.run(
        [sys.executable, "-m", "oche", "study", str(ask(out / "calm")), "--jobs", "2", "--quiet"], check=True
    )
    calm, chance, found = study_results(out / "calm"), random.Random(setting.seed), []
    for i in range(setting.studies):
        found.append(one(out / f"study-{i}", calm, chance, i % 2 == 1))
        (out / "table.md").write_text(table(found))
    print(table(found))
    # The killed node has one core, so at most one trial was on it.
    return 0 if all(o.code == 0 and o.equal and o.once and o.begun <= TRIALS + 1 for o in found) else 1


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Setting)))
