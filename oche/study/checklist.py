"""The checklist of Lindauer and Hutter (Best practices for scientific research on NAS, JMLR 2020, 1909.02453), answered by what a
study's files say. Questions and answers are in our own words; the paper has the reasons for each.

What files cannot know is said to be unknown, with what to state elsewhere; nothing is answered in the study's favour by default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from .facts import Facts
from .trial import RANDOM

Said = Literal["yes", "in part", "no", "the study does not know"]
UNKNOWN: Said = "the study does not know"
_FREE = ("seed", "device", "threads", "checkpoint", "data_dir", "plugins", "table")  # change no result, or are the seed


@dataclass(frozen=True)
class Answer:
    """``because``: what was found; ``state``: what a paper still has to say in its own text."""

    part: str
    question: str
    said: Said
    because: str
    state: str = ""


Said_ = tuple[Said, str, str]
_ITEMS: list[tuple[str, str, Callable[[Facts], Said_]]] = []


def answers(facts: Facts) -> tuple[Answer, ...]:
    """Every item, in the order of the paper."""
    return tuple(Answer(part, question, *answer(facts)) for part, question, answer in _ITEMS)


def _asks(part: str, question: str) -> Callable[[Callable[[Facts], Said_]], Callable[[Facts], Said_]]:
    def enter(answer: Callable[[Facts], Said_]) -> Callable[[Facts], Said_]:
        _ITEMS.append((part, question, answer))
        return answer

    return enter


# --- releasing code ---------------------------------------------------------------------------------------------------

_CODE, _COMPARED, _REPORTED = "code", "comparing methods", "reporting"


@_asks(_CODE, "Is the code of the search method and of the search space available, as it was run?")
@_asks(_CODE, "Is the code that trains the final networks available, as it was run?")
def _code(facts: Facts) -> Said_:
    versions, commits = facts.distinct("oche"), facts.distinct("commit")
    what = f"oche {', '.join(versions) or 'of unknown version'}"
    plugins = sorted({path for trial in facts.trials for path in trial["search"].get("plugins", ())})
    state = f"where the plugins can be had: {', '.join(plugins)}" if plugins else ""
    if dirty := [commit for commit in commits if commit.endswith("-dirty")]:
        return "no", f"{what}: files differed from commit {dirty[0][:12]}", "the changed files, or run from a commit"
    if len(commits) > 1 or len(versions) > 1:
        short = ", ".join(commit[:12] for commit in commits)
        return "in part", f"{what}, {len(commits)} different commits: {short}", "which trials ran which"
    if not commits:
        return "in part", f"{what}, no commit known (an installed package)", state or "the package's origin"
    return "in part" if plugins else "yes", f"{what}, commit {commits[0][:12]}", state


@_asks(_CODE, "Are all settings of search and training given, and the seeds?")
def _settings(facts: Facts) -> Said_:
    seeds = sorted({row.seed for row in facts.rows})
    named = ", ".join(map(str, seeds[:20])) + (", …" if len(seeds) > 20 else "")
    return (
        "yes",
        f"trial.json of each trial has every setting, defaults too; seeds {named}",
        "publish study.yaml and these",
    )


# --- comparing methods ------------------------------------------------------------------------------------------------


@_asks(_COMPARED, "Do all methods have the same benchmark: data and split, space, training code and its settings?")
def _benchmark(facts: Facts) -> Said_:
    spaces = {trial["labels"]["space"] for trial in facts.trials}
    trained = facts.differing("train", (*_FREE, "genotype", "data", "recipe"))
    if len(spaces) > 1:
        return (
            "no",
            f"{len(spaces)} spaces: {', '.join(sorted(spaces))}",
            "compare within a space, or relative to random",
        )
    if trained:
        return "in part", f"trainings differ in {_few(trained)}", "why, or compare groups that agree in it"
    known = [arena.name for arena in facts.arenas]
    return "yes", f"one space, one training, the same split by seed, on {', '.join(known)}", ""


@_asks(_COMPARED, "Are other causes of a difference kept equal: hardware, versions, time limits?")
def _confounders(facts: Facts) -> Said_:
    if not facts.environments:
        return UNKNOWN, "no run has an environment.json yet", "hardware and versions"
    looked = {"hardware": ("gpu", "cpu"), "torch": ("torch",), "threads": ("threads",), "system": ("platform",)}
    several = {what: found for what, names in looked.items() if len(found := facts.distinct(*names)) > 1}
    lengths = facts.lengths
    if several or len(lengths) > 1:
        parts = [f"{what}: {'; '.join(found)}" for what, found in several.items()]
        parts += [f"searches of {_few(lengths)}"] if len(lengths) > 1 else []
        return "no", ", ".join(parts), "how far this can matter"
    jobs = facts.asked.get("jobs")
    beside = "" if jobs == 1 else f"; with jobs: {jobs} trials ran beside each other, so their times depend on it"
    alike = " · ".join(f"{what} {found[0]}" for what, names in looked.items() if (found := facts.distinct(*names)))
    return "yes", f"all runs: {alike}{beside}", ""


@_asks(_COMPARED, "Are parts of the method left out or changed one at a time (ablations)?")
def _ablations(facts: Facts) -> Said_:
    apart = ("method", "space", "data")
    varied = dict.fromkeys(key for trial in facts.trials for key in trial["labels"] if key not in apart)
    if varied:
        return "yes", f"trials vary {', '.join(varied)}", ""
    return "no", "no setting of a method varies in this study", "ablations, if a method of your own is claimed"


@_asks(_COMPARED, "Is every method judged in the same way?")
def _protocol(facts: Facts) -> Said_:
    measured = [arena for arena in facts.arenas if arena.key]
    if not measured:
        return UNKNOWN, "no trial is finished", ""
    if lacking := [f"{a.name}: {g.name}" for a in measured for g in a.groups if not g.of(a.key)]:
        return "in part", f"no {measured[0].what} of {_few(lacking)}", "why they are missing"
    how = "; ".join(f"{arena.name}: {arena.what}" for arena in measured)
    return "yes", f"{how}; each cell is trained once, and nothing is chosen by the test part", ""


@_asks(_COMPARED, "Is performance shown as a function of the time spent?")
def _over_time(facts: Facts) -> Said_:
    timed = any((row.path / "search" / "metrics.jsonl").is_file() for row in facts.rows)
    return ("yes", "incumbents over time in this report", "") if timed else ("no", "no search has left records", "")


@_asks(_COMPARED, "Is there a comparison with random cells, and with random search?")
def _random(facts: Facts) -> Said_:
    counts = {a.name: [len(g.of(a.key)) for g in a.groups if g.control and a.key] for a in facts.arenas}
    if lacking := [name for name, found in counts.items() if not sum(found)]:
        return "no", f"no finished random cells on {_few(lacking)}", f"add {RANDOM} to the methods"
    methods = {trial["labels"]["method"] for trial in facts.trials}
    shared = "random-ws" in methods
    cells = ", ".join(f"{name}: {sum(found)}" for name, found in counts.items())
    said = f"random cells, trained the same way ({cells})"
    if shared:
        return "yes", f"{said}; random search with shared weights (random-ws)", ""
    return (
        "in part",
        f"{said}; no random search",
        "random search of equal cost: random-ws, or the best of several cells",
    )


@_asks(_COMPARED, "Are there several runs with different seeds, and are the seeds reported?")
def _several(facts: Facts) -> Said_:
    least = min(facts.seeds.values(), default=0)
    few = [f"{name} ({n})" for name, n in facts.seeds.items() if n < 3]
    if few:
        return "no" if least < 2 else "in part", f"fewer than 3 finished seeds: {_few(few)}", "add seeds"
    return "yes", f"at least {least} finished seeds in every group, each named in the tables", ""


@_asks(_COMPARED, "Are tabular or surrogate benchmarks used for thorough evaluation?")
def _tabular(facts: Facts) -> Said_:
    tables = {trial["search"].get("table") for trial in facts.trials} - {None}
    return ("yes", "the table of NAS-Bench-201", "") if tables else ("no", "no table was given", "")


# --- reporting --------------------------------------------------------------------------------------------------------


@_asks(_REPORTED, "Is it said how hyper-parameters were chosen, and at what cost?")
def _tuned(facts: Facts) -> Said_:
    state = "what was tried before this study, on which data, and its time"
    if tune := facts.asked.get("tune"):
        drawn = ", ".join(tune["over"])
        return "in part", f"this study draws {drawn}, {tune.get('samples')} points, seed {tune.get('seed')}", state
    return UNKNOWN, "settings that differ from the published ones are in study.yaml", state


@_asks(_REPORTED, "Is the time of the whole pipeline given, not only that of the search?")
def _time(facts: Facts) -> Said_:
    done = [row for row in facts.rows if row.state == "complete"]
    if not done:
        return UNKNOWN, "no trial is finished", ""
    state = "time of trials outside this study, tuning among them"
    if any("cpu_s" not in row.numbers for row in done):
        return "in part", "seconds of search and training; CPU time is not known of all trials", state
    return "yes", "seconds of search and of training, CPU time and peak memory of every trial, retries included", state


@_asks(_REPORTED, "Is everything about the experimental setup given?")
def _setup(facts: Facts) -> Said_:
    if not facts.environments:
        return UNKNOWN, "no run has an environment.json yet", "hardware and versions"
    return (
        "yes",
        "config.yaml and environment.json of each run: every setting, versions, hardware, commit",
        "publish these",
    )


def _few(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
