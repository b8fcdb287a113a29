"""Mutation testing of the mathematics: every small change to a formula should make a test fail.

    python benchmarks/reliability/mutants.py                        all modules, one process, resumable
    python benchmarks/reliability/mutants.py --modules relax hessian

mutmut changes each module in a copy of the tree below OUT, and only the tests named here run on it. Killed mutants are not tried
again; survivors are, each time, so that new tests count. Survivors that change nothing are listed in equivalent.yaml, with the
reason. OUT/table.md has the rates, OUT/survivors.diff every change that no test notices. mutmut cannot change functions with a
decorator other than classmethod and staticmethod.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import tyro
import yaml

ROOT = Path(__file__).resolve().parents[2]
EQUIVALENT = Path(__file__).with_name("equivalent.yaml")
# module of oche: files of tests/ that are run on its mutants
MODULES = {
    "methods/perturbations": ("methods/test_perturbations", "methods/test_bounds"),
    "methods/discretize": (
        *(f"methods/discretize/test_{name}" for name in ("base", "darts_pt", "sgas", "successive", "top_k")),
        "methods/test_bounds",
    ),
    "methods/relaxations": ("methods/test_relaxations", "methods/test_stochastic_relaxations"),
    "methods/stochastic_relaxations": (
        "methods/test_stochastic_relaxations",
        "methods/test_relaxations",
        "methods/discretize/test_successive",
    ),
    "core/architecture": (
        "core/test_architecture",
        "core/test_genotypes",
        "core/test_genotype_text",
        "methods/test_bounds",
    ),
    "core/genotype_text": ("core/test_genotype_text", "core/test_genotypes", "core/test_architecture"),
    "methods/curvature": ("methods/test_curvature", "methods/test_bounds"),
    "core/eigenvalue_stop": ("core/test_eigenvalue_stop", "methods/test_bounds"),
    "methods/hypergradients": ("methods/test_hypergradients", "methods/test_bounds"),
    "methods/regularizers": ("methods/test_regularizers", "methods/test_bounds"),
    "methods/cost_constraints": ("methods/test_cost_constraints",),
    "cost/expected_cost": ("cost/test_expected_cost",),
    "core/schedules": ("core/test_schedules", "methods/test_stochastic_relaxations", "methods/test_bounds"),
    "core/optimizers": ("core/test_optimizers", "core/test_exponentiated_gradient", "methods/test_bounds"),
}
_STATUS = {0: "survived", 1: "killed", 3: "killed", 5: "no tests", 33: "no tests", None: "not tried"}
_TIMEOUT = (-24, 24, 36, 152, 255)  # time limit of mutmut, so that a mutant that never ends is noticed


@dataclass(frozen=True)
class Setting:
    modules: tuple[str, ...] = tuple(MODULES)
    """modules of oche, in this order"""
    out: Path = Path("build/mutants")
    """folder for the copies and the results"""
    jobs: int = 1
    """mutants at a time"""


def copy(module: str, to: Path) -> None:
    """Copy the files that the tests of ``module`` need to ``to``; leave equal files alone."""
    for folder in ("oche", "tests"):
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                _put(to / file.relative_to(ROOT), file.read_bytes())
    _put(to / "pyproject.toml", (ROOT / "pyproject.toml").read_bytes())
    only = f"oche/{module}/*.py" if (ROOT / "oche" / module).is_dir() else f"oche/{module}.py"
    tests = "\n  ".join(f"tests/{name}.py" for name in MODULES[module])
    _put(to / "setup.cfg", _CONFIG.format(only=only, tests=tests).encode())


_CONFIG = """[mutmut]
source_paths = oche
only_mutate = {only}
pytest_add_cli_args =
  -n
  0
  -p
  no:cacheprovider
pytest_add_cli_args_test_selection =
  {tests}
timeout_constant = 20
timeout_multiplier = 4
use_git_change_detection = false
"""


def _put(path: Path, data: bytes) -> None:
    if not path.is_file() or path.read_bytes() != data:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def mutmut(at: Path, *words: str) -> str:
    """Return the output of ``mutmut WORDS``, run in ``at`` on one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    line = [sys.executable, "-m", "mutmut", *words]
    done = subprocess.run(line, cwd=at, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"mutmut {' '.join(words[:2])} failed in {at}:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def statuses(at: Path) -> dict[str, str]:
    """The status of each mutant, by name."""
    found = {}
    for file in sorted((at / "mutants" / "oche").rglob("*.py.meta")):
        for name, code in json.loads(file.read_text())["exit_code_by_key"].items():
            found[name] = "timeout" if code in _TIMEOUT else _STATUS.get(code, "crashed")
    return found


_SHOW = """import sys
from mutmut.mutation.diff_apply import get_diff_for_mutant
for name in sys.argv[1:]:
    print(name)
    print(get_diff_for_mutant(name))"""


def changes(at: Path, names: list[str]) -> dict[str, str]:
    """The changed lines of each mutant, "- …" and "+ …"."""
    command = [sys.executable, "-c", _SHOW, *names]
    found: dict[str, list[str]] = {name: [] for name in names}
    name = ""
    for line in subprocess.run(command, cwd=at, capture_output=True, text=True, check=True).stdout.splitlines():
        if line in found:
            name = line
        elif line[:1] in "+-" and line[:3] not in ("+++", "---"):
            found[name].append(f"{line[0]} {line[1:].strip()}")
    return {name: "\n".join(lines) for name, lines in found.items()}


def is_equivalent(name: str, changed: str, known: list[dict[str, str]]) -> bool:
    """Whether equivalent.yaml lists this change of this function."""
    function = name.rpartition("__mutmut_")[0].replace(".x_", ".").replace("xǁ", "").replace("ǁ", ".")
    return any(function.endswith(entry.get("of", "")) and re.fullmatch(entry["change"], changed) for entry in known)


def one(module: str, setting: Setting) -> tuple[Counter[str], int, list[str], float]:
    """Return the mutants by status, the number of equivalent survivors, the diffs of the other survivors, and seconds."""
    at, began = place(module, setting.out, ""), time.monotonic()
    copy(module, at)
    jobs = ("--max-children", str(setting.jobs))
    again = [name for name, status in statuses(at).items() if status in ("survived", "no tests")] if at.exists() else []
    (at / "mutants" / "mutmut-stats.json").unlink(
        missing_ok=True
    )  # the map from tests to functions, since a test may have changed
    mutmut(at, "run", *jobs)
    if again:
        mutmut(at, "run", *jobs, *again)
    found = statuses(at)
    known = yaml.safe_load(EQUIVALENT.read_text()) or []
    unseen = [name for name, status in found.items() if status in ("survived", "no tests")]
    changed = changes(at, unseen)
    left = [name for name in unseen if not is_equivalent(name, changed[name], known)]
    told = [f"{name}: {found[name]}\n{changed[name]}\n" for name in left]
    return Counter(found.values()), len(unseen) - len(left), told, time.monotonic() - began


def place(module: str, out: Path, suffix: str) -> Path:
    """The folder of a module's results."""
    return out / (module.replace("/", "-") + suffix)


def row(module: str, counts: Counter[str], equivalent: int, seconds: float) -> str:
    total = sum(counts.values())
    noticed = counts["killed"] + counts["timeout"] + counts["crashed"]
    of_all, of_real = 100 * noticed / total, 100 * noticed / (total - equivalent)
    shares = (f"{of_all:.1f} %", f"{of_real:.1f} %", f"{seconds:.0f}")
    cells = [f"`{module}`", total, noticed, equivalent, total - noticed - equivalent, *shares]
    return "| " + " | ".join(map(str, cells)) + " |"


HEAD = """| module | mutants | killed | equivalent | survive | killed of all | killed of those that are not equivalent | seconds |
|---|---|---|---|---|---|---|---|"""


def main(setting: Setting) -> None:
    setting.out.mkdir(parents=True, exist_ok=True)
    for module in setting.modules:
        counts, equivalent, left, seconds = one(module, setting)
        place(module, setting.out, ".row").write_text(row(module, counts, equivalent, seconds) + "\n")
        place(module, setting.out, ".diff").write_text("\n".join(left))
        print(place(module, setting.out, ".row").read_text(), end="", flush=True)
    rows = [file.read_text() for name in MODULES if (file := place(name, setting.out, ".row")).exists()]
    (setting.out / "table.md").write_text(f"{HEAD}\n{''.join(rows)}")
    shown = [file.read_text() for name in MODULES if (file := place(name, setting.out, ".diff")).exists()]
    (setting.out / "survivors.diff").write_text("\n".join(shown))


if __name__ == "__main__":
    main(tyro.cli(Setting, description=__doc__))
