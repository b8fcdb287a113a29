"""The 14 best practices of Lindauer and Hutter (Best practices for scientific research on NAS, JMLR 2020, 1909.02453), each asked
of a study and answered by its files. Numbers and order are the paper's; questions and answers are in our own words.

What files cannot know is said to be unknown, with what to state elsewhere; nothing is answered in the study's favour by default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from oche.runs.directory import last_metric
from oche.study.nas_checklist_facts import Facts
from oche.study.trial import RANDOM

Said = Literal["yes", "in part", "no", "the study does not know"]
UNKNOWN: Said = "the study does not know"
_FREE = ("seed", "device", "threads", "checkpoint", "data_dir", "plugins", "table")  # change no result, or are the seed
_TABLE = "the table of NAS-Bench-201"
_PARTS = {3: "code", 11: "comparing methods", 14: "reporting"}  # the last practice of each part of the paper


@dataclass(frozen=True)
class Answer:
    """``number``: of the best practice; ``because``: what was found; ``state``: what a paper still has to say itself."""

    number: int
    question: str
    said: Said
    because: str
    state: str = ""

    @property
    def part(self) -> str:
        return next(part for last, part in _PARTS.items() if self.number <= last)


Said_ = tuple[Said, str, str]
_ITEMS: list[tuple[str, Callable[[Facts], Said_]]] = []


def answers(facts: Facts) -> tuple[Answer, ...]:
    """Every item, in the order of the paper."""
    return tuple(Answer(n, question, *answer(facts)) for n, (question, answer) in enumerate(_ITEMS, 1))


def _asks(question: str) -> Callable[[Callable[[Facts], Said_]], Callable[[Facts], Said_]]:
    def enter(answer: Callable[[Facts], Said_]) -> Callable[[Facts], Said_]:
        _ITEMS.append((question, answer))
        return answer

    return enter


# --- releasing code (1 to 3) ------------------------------------------------------------------------------------------


@_asks("Can the code that trains the networks be had, with its settings?")
def _training(facts: Facts) -> Said_:
    if any(trial["train"] for trial in facts.trials):
        return _had(facts)
    if facts.tables:
        return (
            "in part",
            f"no network is trained: accuracies are those of {_TABLE}",
            "the benchmark's own code and paper",
        )
    return "no", "no network is trained in this study", "trainings of the cells found: write recipe: small, say"


@_asks("Can the code of the search methods be had?")
def _methods(facts: Facts) -> Said_:
    return _had(facts)


def _had(facts: Facts) -> Said_:
    what = f"oche {', '.join(facts.distinct('oche')) or 'of unknown version'}"
    if plugins := sorted({path for trial in facts.trials for path in trial["search"].get("plugins", ())}):
        return "in part", f"{what}, and plugins", f"where the plugins can be had: {', '.join(plugins)}"
    return "yes", what, "where oche can be had"


@_asks("Is it the code as it was run, and not a later version of it?")
def _as_run(facts: Facts) -> Said_:
    versions, commits = facts.distinct("oche"), facts.distinct("commit")
    if dirty := [commit for commit in commits if commit.endswith("-dirty")]:
        return "no", f"files differed from commit {dirty[0][:12]}", "the changed files, or run from a commit"
    if len(commits) > 1 or len(versions) > 1:
        short = ", ".join(commit[:12] for commit in commits)
        return "in part", f"{len(versions)} versions, {len(commits)} commits: {short}", "which trials ran which"
    if not commits:
        return "in part", "no commit known (an installed package)", "the package's origin"
    return "yes", f"all runs: commit {commits[0][:12]}", ""


# --- comparing methods (4 to 11) --------------------------------------------------------------------------------------


@_asks("Do all methods have the same benchmark: data and split, space, training code and its settings?")
def _benchmark(facts: Facts) -> Said_:
    spaces = {trial["labels"]["space"] for trial in facts.trials}
    trained = facts.differing("train", (*_FREE, "genotype", "data", "recipe"))
    if len(spaces) > 1:
        return (
            "no",
            f"{len(spaces)} spaces: {', '.join(sorted(spaces))}",
            "compare within a space, or relative to random",
        )
    sized = [key for key in facts.differing("search", _FREE) if key.startswith("space.")]
    if trained or sized:
        parts = [f"{what} differ in {_few(keys)}" for what, keys in (("trainings", trained), ("spaces", sized)) if keys]
        return "in part", ", ".join(parts), "why, or compare groups that agree in it"
    known = [arena.name for arena in facts.arenas]
    return "yes", f"one space, one training, the same split by seed, on {', '.join(known)}", ""


@_asks("Are parts of the method left out or changed one at a time (ablations)?")
def _ablations(facts: Facts) -> Said_:
    apart = ("method", "space", "data")
    varied = dict.fromkeys(key for trial in facts.trials for key in trial["labels"] if key not in apart)
    if varied:
        return "yes", f"trials vary {', '.join(varied)}", ""
    return "no", "no setting of a method varies in this study", "ablations, if a method of your own is claimed"


@_asks("Is every method judged in the same way?")
def _protocol(facts: Facts) -> Said_:
    measured = [arena for arena in facts.arenas if arena.key]
    if not measured:
        return UNKNOWN, "no trial is finished", ""
    if lacking := [f"{a.name}: {g.name}" for a in measured for g in a.groups if not g.of(a.key)]:
        return "in part", f"no {measured[0].what} of {_few(lacking)}", "why they are missing"
    how = "; ".join(f"{arena.name}: {arena.what}" for arena in measured)
    return "yes", f"{how}; each cell is trained once, and nothing is chosen by the test part", ""


@_asks("Is performance shown as a function of the time spent?")
def _over_time(facts: Facts) -> Said_:
    records = [last for row in facts.rows if (last := last_metric(row.path / "search"))]
    if not records:
        return "no", "no search has left records", ""
    said = "incumbents over time in this report"
    if any("true_acc" in last for last in records):
        return "yes", f"{said}, with what their cells reach by the table", ""
    return (
        "in part",
        f"{said}, by the supernet's own validation: that is not how good their cells are",
        "what cells of earlier moments reach once trained",
    )


@_asks("Is there a comparison with random cells, and with random search?")
def _random(facts: Facts) -> Said_:
    counts = {a.name: [len(g.of(a.key)) for g in a.groups if g.control and a.key] for a in facts.arenas}
    if lacking := [name for name, found in counts.items() if not sum(found)]:
        return "no", f"no finished random cells on {_few(lacking)}", f"add {RANDOM} to the methods"
    shared = any(row.labels["method"] == "random-ws" and row.state == "complete" for row in facts.rows)
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
def _several(facts: Facts) -> Said_:
    least = min(facts.seeds.values(), default=0)
    few = [f"{name} ({n})" for name, n in facts.seeds.items() if n < 3]
    if few:
        return "no" if least < 2 else "in part", f"fewer than 3 finished seeds: {_few(few)}", "add seeds"
    return "yes", f"at least {least} finished seeds in every group, each named in the tables", ""


@_asks("Are tabular or surrogate benchmarks used for thorough evaluation?")
def _tabular(facts: Facts) -> Said_:
    return ("yes", _TABLE, "") if facts.tables else ("no", "no table was given", "")


@_asks("Are other causes of a difference kept equal: hardware, versions, time limits?")
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


# --- reporting (12 to 14) ---------------------------------------------------------------------------------------------


@_asks("Are hyper-parameters given, and is it said how they were chosen and at what cost?")
def _tuned(facts: Facts) -> Said_:
    given = "trial.json of each trial has every setting, defaults too"
    state = "what was tried before this study, on which data, and its time"
    if tune := facts.asked.get("tune"):
        drawn = ", ".join(tune["over"])
        points = f"{tune.get('samples')} points, seed {tune.get('seed')}"
        return "in part", f"{given}; this study draws {drawn}, {points}, at the cost that it reports", state
    return UNKNOWN, f"{given}; how they were chosen is not in the files", state


@_asks("Is the time of the whole pipeline given, not only that of the search?")
def _time(facts: Facts) -> Said_:
    done = [row for row in facts.rows if row.state == "complete"]
    if not done:
        return UNKNOWN, "no trial is finished", ""
    state = "time of trials outside this study, tuning among them"
    if any("cpu_s" not in row.numbers for row in done):
        return "in part", "seconds of search and training; CPU time is not known of all trials", state
    return "yes", "seconds of search and of training, CPU time and peak memory of every trial, retries included", state


@_asks("Is everything about the experimental setup given?")
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
