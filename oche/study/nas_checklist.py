"""The 14 best practices of Lindauer and Hutter (Best practices for scientific research on NAS, JMLR 2020, 1909.02453) as
questions, answered by the files of a study. Numbers and order are the paper's; questions and answers are in our own words.

If the files cannot answer a question, the answer is "not known", with what a paper has to state itself. No answer is in the
study's favour by default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from oche.runs.directory import last_metric
from oche.study.provenance import Provenance
from oche.study.trial import RANDOM

Said = Literal["yes", "in part", "no", "the study does not know"]
NOT_KNOWN: Said = "the study does not know"
_FREE = (
    "seed",
    "device",
    "threads",
    "checkpoint",
    "data_dir",
    "plugins",
    "table",
)  # the seed, and settings that change no result
_TABLE = "the table of NAS-Bench-201"
_PARTS = {3: "code", 11: "comparing methods", 14: "reporting"}  # the last practice of each part of the paper


@dataclass(frozen=True)
class Answer:
    """``number``: that of the best practice; ``because``: the evidence; ``state``: what a paper still has to state itself."""

    number: int
    question: str
    said: Said
    because: str
    state: str = ""

    @property
    def part(self) -> str:
        return next(part for last, part in _PARTS.items() if self.number <= last)


Reply = tuple[Said, str, str]
_ITEMS: list[tuple[str, Callable[[Provenance], Reply]]] = []


def answers(provenance: Provenance) -> tuple[Answer, ...]:
    """The answers to all questions, in the order of the paper."""
    return tuple(Answer(n, question, *answer(provenance)) for n, (question, answer) in enumerate(_ITEMS, 1))


def _asks(question: str) -> Callable[[Callable[[Provenance], Reply]], Callable[[Provenance], Reply]]:
    def enter(answer: Callable[[Provenance], Reply]) -> Callable[[Provenance], Reply]:
        _ITEMS.append((question, answer))
        return answer

    return enter


# --- releasing code (1 to 3) ------------------------------------------------------------------------------------------


@_asks("Is the code that trains the networks available, with its settings?")
def _training(provenance: Provenance) -> Reply:
    if any(config["train"] for config in provenance.configs):
        return _availability(provenance)
    if provenance.tables:
        return (
            "in part",
            f"no network is trained: accuracies are those of {_TABLE}",
            "the benchmark's own code and paper",
        )
    return "no", "no network is trained in this study", "trainings of the found cells: write recipe: small, for example"


@_asks("Is the code of the search methods available?")
def _methods(provenance: Provenance) -> Reply:
    return _availability(provenance)


def _availability(provenance: Provenance) -> Reply:
    what = f"oche {', '.join(provenance.distinct('oche')) or 'of unknown version'}"
    if plugins := sorted({path for config in provenance.configs for path in config["search"].get("plugins", ())}):
        return "in part", f"{what}, and plugins", f"where the plugins are available: {', '.join(plugins)}"
    return "yes", what, "where oche is available"


@_asks("Is it the code that was run, not a later version?")
def _as_run(provenance: Provenance) -> Reply:
    versions, commits = provenance.distinct("oche"), provenance.distinct("commit")
    if dirty := [commit for commit in commits if commit.endswith("-dirty")]:
        return "no", f"files differed from commit {dirty[0][:12]}", "the changed files, or run from a commit"
    if len(commits) > 1 or len(versions) > 1:
        short = ", ".join(commit[:12] for commit in commits)
        return "in part", f"{len(versions)} versions, {len(commits)} commits: {short}", "which trials ran which"
    if not commits:
        return "in part", "no commit known (an installed package)", "the package's origin"
    return "yes", f"all runs: commit {commits[0][:12]}", ""


# --- comparing methods (4 to 11) --------------------------------------------------------------------------------------


@_asks("Do all methods use the same benchmark: data and split, space, training code and its settings?")
def _benchmark(provenance: Provenance) -> Reply:
    spaces = {config["labels"]["space"] for config in provenance.configs}
    trained = provenance.differing("train", (*_FREE, "genotype", "data", "recipe"))
    if len(spaces) > 1:
        return (
            "no",
            f"{len(spaces)} spaces: {', '.join(sorted(spaces))}",
            "compare within a space, or relative to random",
        )
    sized = [key for key in provenance.differing("search", _FREE) if key.startswith("space.")]
    if trained or sized:
        parts = [
            f"{what} differ in {_list(keys)}" for what, keys in (("trainings", trained), ("spaces", sized)) if keys
        ]
        return "in part", ", ".join(parts), "why, or compare groups that agree in it"
    known = [comparison.name for comparison in provenance.comparisons]
    return "yes", f"one space, one training, the same split by seed, on {', '.join(known)}", ""


@_asks("Are parts of the method left out or changed one at a time (ablations)?")
def _ablations(provenance: Provenance) -> Reply:
    apart = ("method", "space", "data")
    varied = dict.fromkeys(key for config in provenance.configs for key in config["labels"] if key not in apart)
    if varied:
        return "yes", f"trials vary {', '.join(varied)}", ""
    return "no", "no setting of a method varies in this study", "ablations, if the paper proposes a method"


@_asks("Is every method evaluated in the same way?")
def _protocol(provenance: Provenance) -> Reply:
    measured = [comparison for comparison in provenance.comparisons if comparison.key]
    if not measured:
        return NOT_KNOWN, "no trial is finished", ""
    if lacking := [f"{a.name}: {g.name}" for a in measured for g in a.groups if not g.of(a.key)]:
        return "in part", f"no {measured[0].what} of {_list(lacking)}", "why they are missing"
    how = "; ".join(f"{comparison.name}: {comparison.what}" for comparison in measured)
    return "yes", f"{how}; each cell is trained once, and the test part chooses nothing", ""


@_asks("Is performance shown as a function of the time spent?")
def _over_time(provenance: Provenance) -> Reply:
    records = [last for trial in provenance.results if (last := last_metric(trial.path / "search"))]
    if not records:
        return "no", "no search has left records", ""
    said = "incumbents over time in this report"
    if any("true_acc" in last for last in records):
        return "yes", f"{said}, with the accuracy of their cells by the table", ""
    return (
        "in part",
        f"{said}, by the supernet's own validation, which is not the quality of the cells",
        "the accuracy of earlier cells after their own training",
    )


@_asks("Is there a comparison with random cells, and with random search?")
def _random(provenance: Provenance) -> Reply:
    counts = {a.name: [len(g.of(a.key)) for g in a.groups if g.control and a.key] for a in provenance.comparisons}
    if lacking := [name for name, found in counts.items() if not sum(found)]:
        return "no", f"no finished random cells on {_list(lacking)}", f"add {RANDOM} to the methods"
    shared = any(trial.labels["method"] == "random-ws" and trial.state == "complete" for trial in provenance.results)
    cells = ", ".join(f"{name}: {sum(found)}" for name, found in counts.items())
    said = f"random cells, trained the same way ({cells})"
    if shared:
        return "yes", f"{said}; random search with shared weights (random-ws)", ""
    return (
        "in part",
        f"{said}; no random search",
        "random search of equal cost: random-ws, or the best of several cells",
    )


@_asks("Are there several runs with different seeds, and are the seeds reported?")
def _several(provenance: Provenance) -> Reply:
    least = min(provenance.seeds.values(), default=0)
    few = [f"{name} ({n})" for name, n in provenance.seeds.items() if n < 3]
    if few:
        return "no" if least < 2 else "in part", f"fewer than 3 finished seeds: {_list(few)}", "add seeds"
    return "yes", f"at least {least} finished seeds in every group, each named in the tables", ""


@_asks("Are tabular or surrogate benchmarks used for thorough evaluation?")
def _tabular(provenance: Provenance) -> Reply:
    return ("yes", _TABLE, "") if provenance.tables else ("no", "no table was given", "")


@_asks("Are other causes of a difference kept equal: hardware, versions, time limits?")
def _confounders(provenance: Provenance) -> Reply:
    if not provenance.environments:
        return NOT_KNOWN, "no run has an environment.json yet", "hardware and versions"
    looked = {"hardware": ("gpu", "cpu"), "torch": ("torch",), "threads": ("threads",), "system": ("platform",)}
    several = {what: found for what, names in looked.items() if len(found := provenance.distinct(*names)) > 1}
    lengths = provenance.lengths
    if several or len(lengths) > 1:
        parts = [f"{what}: {'; '.join(found)}" for what, found in several.items()]
        parts += [f"searches of {_list(lengths)}"] if len(lengths) > 1 else []
        return "no", ", ".join(parts), "how far this can matter"
    jobs = provenance.asked.get("jobs")
    beside = "" if jobs == 1 else f"; with jobs: {jobs} trials ran at the same time, which affects their times"
    alike = " · ".join(f"{what} {found[0]}" for what, names in looked.items() if (found := provenance.distinct(*names)))
    return "yes", f"all runs: {alike}{beside}", ""


# --- reporting (12 to 14) ---------------------------------------------------------------------------------------------


@_asks("Are hyper-parameters given, with how they were chosen and at what cost?")
def _tuned(provenance: Provenance) -> Reply:
    given = "trial.json of each trial has every setting, defaults too"
    state = "what was tried before this study, on which data, and how long it took"
    if tune := provenance.asked.get("tune"):
        drawn = ", ".join(tune["over"])
        points = f"{tune.get('samples')} points, seed {tune.get('seed')}"
        return "in part", f"{given}; this study draws {drawn}, {points}, at the reported cost", state
    return NOT_KNOWN, f"{given}; how they were chosen is not in the files", state


@_asks("Is the time of the whole pipeline given, not only that of the search?")
def _time(provenance: Provenance) -> Reply:
    done = [trial for trial in provenance.results if trial.state == "complete"]
    if not done:
        return NOT_KNOWN, "no trial is finished", ""
    state = "time of trials outside this study, tuning among them"
    if any("cpu_s" not in trial.numbers for trial in done):
        return "in part", "seconds of search and training; CPU time is not known of all trials", state
    return "yes", "seconds of search and of training, CPU time and peak memory of every trial, retries included", state


@_asks("Is everything about the experimental setup given?")
def _setup(provenance: Provenance) -> Reply:
    if not provenance.environments:
        return NOT_KNOWN, "no run has an environment.json yet", "hardware and versions"
    return (
        "yes",
        "config.yaml and environment.json of each run: every setting, versions, hardware, commit",
        "publish these",
    )


def _list(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
