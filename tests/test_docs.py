"""Check README and docs against the program: commands parse, snippets run, tables list what exists, links work."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import small_runs
from oche.cli import main as cli
from oche.runs.config import SearchConfig, TrainConfig
from oche.strategies.config import StrategyConfig
from paths import ROOT

pytestmark = pytest.mark.slow  # runs the commands and the Python of the pages

PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "theory").glob("*.md")),
]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}


@dataclass(frozen=True)
class Block:
    """A fenced block: the page, the language after the fence, the lines."""

    page: str
    language: str
    text: str


def blocks(language: str) -> list[Block]:
    fence = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    found = [Block(page, *match) for page, text in TEXTS.items() for match in fence.findall(text)]
    return [block for block in found if block.language == language]


def commands(language: str = "sh", prompt: str = "") -> list[str]:
    lines = [line for block in blocks(language) for line in block.text.splitlines()]
    return sorted({line.removeprefix(prompt) for line in lines if line.startswith(f"{prompt}oche ")})


# --- commands -----------------------------------------------------------------------------------------------------------


class Reached(Exception):
    """Raised in place of a command's work, with the arguments of that work."""


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory in which commands parse as for a user, and raise `Reached` where their work would begin."""

    def reached(*args: object, **kwargs: object) -> None:
        raise Reached(args)

    for name in (
        "oche.cli.fit.run_fit",
        "oche.cli.fit.plan_fit",
        "oche.cli.search.run_search",
        "oche.cli.strategy.run_strategy",
        "oche.cli.train.run_train",
        "oche.cli.completion.options_of",
        "oche.cli.runs.resume_run",
        "oche.study.comparison.run.run_comparison",
        "oche.export.export",
        "oche.deploy.predict.predict",
        "oche.deploy.evaluate.evaluate_run",
        "oche.cli.demo.run_demo",
        "oche.cli.demo.run_toy",
        "oche.report.run_page.write_report",
        "oche.report.comparison_page.write_comparison",
        "oche.core.nasbench201.Table",
        "oche.bench.table.run_bench",
        "oche.cost.summary.summarise_costs",
        "oche.cost.latency_table.fill_table",
        "oche.study.run.run_study",
        "oche.bench.doctor.examine",
        "oche.study.ray.run_study_on_ray",
        "oche.study.slurm.write_job_array",
        "oche.study.status.status_table",
        "oche.study.report.write_study_report",
        "oche.study.trial.run_trial",
    ):
        monkeypatch.setattr(name, reached)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "my.yaml").write_text(blocks("yaml")[0].text)
    (tmp_path / "study.yaml").symlink_to(ROOT / "examples" / "study.yaml")
    return tmp_path


def make_run(path: Path, kind: str) -> None:
    """Make a finished run at ``path``, with the files that a command reads first."""
    from oche.core.config.yaml_files import dump_yaml
    from oche.core.genotypes import DARTS_V2
    from oche.runs.directory import RunDir

    config = SearchConfig() if kind == "search" else TrainConfig(genotype=str(DARTS_V2))
    with RunDir.create(path, dump_yaml(config), kind) as run:
        run.write_text("genotype.txt", str(DARTS_V2))
        run.set_state("complete")


def prepare(words: list[str]) -> None:
    """Make the runs that a command line reads: all paths below runs/, except after --out."""
    if words[:1] == ["study"]:  # its commands continue a study that has begun
        for word in words[1:]:
            if word.startswith("runs/") and not Path(word).exists():
                Path(word).mkdir(parents=True)
                shutil.copy(ROOT / "examples" / "study.yaml", Path(word))
        return
    for before, word in zip(["", *words], words, strict=False):
        if word.startswith("runs/") and before != "--out":
            path = Path(word).parent if word.endswith(".yaml") else Path(word)
            if not path.exists():
                make_run(path, "train" if path.name == "train" else "search")


@pytest.mark.parametrize("line", commands())
def test_commands_of_the_pages_are_understood(line: str, workshop: Path, operations: None) -> None:
    understood(line)


def understood(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    words = words[: min((words.index(sign) for sign in (">", ">>") if sign in words), default=len(words))]
    prepare(words)
    if words[0] in ("list", "show"):  # fast enough to run
        assert cli.main(words) == 0
        return
    with pytest.raises(Reached) as caught:
        assert cli.main(words) == 0, line
    if words[0] in ("search", "train"):
        config, *_ = caught.value.args[0]
        by_strategy = isinstance(config, StrategyConfig) and "--strategy" in words
        assert by_strategy or isinstance(config, SearchConfig if words[0] == "search" else TrainConfig)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_examples_of_the_help_are_understood(command: str, workshop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):
        cli.main([command, "--help"])
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  oche ")]
    assert lines
    for line in lines:
        understood(re.split(r"\s{3,}", line)[0])  # three spaces separate an example from its explanation


def test_mistakes_are_answered_as_shown(workshop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = [b.text.splitlines() for b in blocks("text") if b.text.startswith("$ oche ")]
    assert shown
    for command, answer in shown:
        assert cli.main(shlex.split(command)[2:]) == 2
        assert capsys.readouterr().err.strip() == answer


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = re.findall(r"^make (\w+)", "\n".join(b.text for b in blocks("sh")), re.MULTILINE)
    named += re.findall(r"`make (\w+)", "\n".join(TEXTS.values()))
    assert {"demo", "test", "lint", "docs"} <= set(named)
    assert all(f"\n{target}:" in makefile for target in named)


def test_every_command_has_its_section() -> None:
    sections = re.findall(r"^## oche (\w+)\n\n```\{oche-help\} (\w+)$", TEXTS["docs/command-line.md"], re.MULTILINE)
    assert sections == [(name, name) for name, _ in sections]
    assert {name for name, _ in sections} == set(cli.COMMANDS)


# --- Python -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def operations() -> Iterator[None]:
    """Remove the operations, components and methods that a test registered."""
    from oche.core import plugins
    from oche.core.registry import COMPONENTS
    from oche.methods.catalog import METHODS
    from oche.spaces import OPERATIONS, SPACES

    tables: tuple[dict, ...] = (OPERATIONS, COMPONENTS, METHODS, SPACES)
    before, loaded = [dict(table) for table in tables], set(plugins._LOADED)
    yield
    for table, old in zip(tables, before, strict=True):
        table.clear()
        table.update(old)
    plugins._LOADED.intersection_update(loaded)


@pytest.fixture
def shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the searches and trainings of a snippet to two steps of a tiny network."""
    from oche.api import search, train
    from oche.runs.options import find_space
    from oche.training.image_recipes import Recipe, small

    small_runs.no_report(monkeypatch)

    def short_search(data: Any = "digits", *, space: Any = None, method: Any = None, **fields: Any) -> Any:
        space = replace(find_space(space), channels=2, cells=3)
        for length in ("epochs", "budget"):
            fields.pop(length, None)
        return search(data, space=space, method=method, **{"limit": 40, **fields, "steps": 2, "batch": 8})

    def short_train(what: Any, data: Any = None, *, recipe: Any = None, **fields: Any) -> Any:
        if isinstance(recipe, Recipe) or recipe == "small":
            fields = {k: v for k, v in fields.items() if k not in ("epochs", "budget")}
            fields |= {"channels": 2, "cells": 3, "steps": 2, "batch": 8}
        return train(what, data, recipe=recipe, **fields)

    def short_fit(data: Any, *, out: Any = None, **fields: Any) -> Any:
        kept = {k: v for k, v in fields.items() if k in ("seed", "size", "layout", "holdout", "device", "threads")}
        return train(
            "RESNET", data, recipe=small(channels=2, cells=1, steps=2, batch=8), out=out, **{"limit": 40, **kept}
        )

    for home in ("oche", "oche.estimator"):
        monkeypatch.setattr(f"{home}.fit", short_fit)
        monkeypatch.setattr(f"{home}.search", short_search)
        monkeypatch.setattr(f"{home}.train", short_train)


@pytest.fixture(scope="module")
def exported(finished: tuple[Path, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exported runs at the paths that snippets read."""
    from oche.deploy.export import Export, export

    folder = tmp_path_factory.mktemp("exported") / "runs"
    shutil.copytree(finished[0], folder / "x")
    export(folder / "x" / "train", Export())
    shutil.copytree(folder / "x", folder / "demo")
    return folder


@pytest.fixture
def with_runs(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A current directory that holds the exported runs."""
    shutil.copytree(exported, tmp_path / "runs")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("block", blocks("python"), ids=lambda b: f"{b.page}: {b.text.splitlines()[-1][:40]}")
def test_python_runs(block: Block, operations: None, shortened: None, request: Any, tmp_path: Path) -> None:
    if "runs/" in block.text:
        request.getfixturevalue("with_runs")
    else:
        request.getfixturevalue("monkeypatch").chdir(tmp_path)
    exec(compile(block.text, block.page, "exec", dont_inherit=True), {"__name__": "snippet"})


# --- tables -------------------------------------------------------------------------------------------------------------


def documented(section: str) -> set[str]:
    """Return the names in code style in the first column of the tables of ``section`` of docs/runs.md."""
    part = TEXTS["docs/runs.md"].split(f"\n## {section}\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """A search of two steps, a training of two, and one of a language model, in run directories."""
    import oche
    from oche.api import search, train
    from oche.training.image_recipes import small
    from oche.training.language_recipes import recurrent_small

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("oche.report.run_page.write_report", lambda path: path)
        path = tmp_path_factory.mktemp("docs") / "x"
        space = oche.spaces.darts(channels=2, cells=3, candidates=("none", "skip_connect", "max_pool_3x3"))
        search(space=space, method=oche.methods.darts(steps=2, batch=8), limit=40, out=path)
        train(path, recipe=small(steps=2, batch=8, cells=3, channels=2))
        (path / "my.txt").write_text("a b c a b " * 40)
        words = recurrent_small(steps=2, batch=2, width=4)
        train("DARTS_RNN_V1", path / "my.txt", recipe=words, out=path / "train-words")
        (path / "my.txt").unlink()
    return path, path / "train", path / "train-words"


def test_records_hold_the_documented_fields(finished: tuple[Path, ...]) -> None:
    fields = documented("metrics.jsonl")
    written = {
        name
        for path in finished
        for line in (path / "metrics.jsonl").read_text().splitlines()
        for name in json.loads(line)
    }
    assert written <= fields
    # of searches in several stages, with a table of NAS-Bench-201, or with a penalty on cost
    rare = {"stage", "true_acc", "regret", "cost", "cost_found"}
    assert fields - written == rare


@pytest.mark.parametrize("name", ["space.json", "summary.json", "environment.json"])
def test_files_hold_the_documented_fields(name: str, finished: tuple[Path, ...]) -> None:
    part = TEXTS["docs/runs.md"].split(f"\n## {name}\n")[1].split("\n## ")[0]
    written = {field for path in finished for field in json.loads((path / name).read_text())}
    assert written <= set(re.findall(r"`(\w+)`", part))


def test_files_of_a_run_are_documented(finished: tuple[Path, ...]) -> None:
    table = TEXTS["docs/runs.md"].split("\n## ")[0]
    known = set(re.findall(r"`([\w.]+)/?`", table))
    for path in finished:
        found = {
            p.name
            for p in path.iterdir()
            if not p.name.startswith((".", "events.out")) and not p.name.startswith("train")
        }
        assert found <= known


def test_data_are_all_named() -> None:
    from oche.data.readers.named import NAMED
    from oche.data.registry import DATASETS

    text = TEXTS["docs/data.md"]
    assert all(f"`{name}`" in text for name in DATASETS)
    assert all(f"`{archive.file}`" in text for named in NAMED.values() for archive in named.archives)


def test_the_readme_lists_every_method() -> None:
    from oche.methods.catalog import METHODS

    table = TEXTS["README.md"].split("\n## Methods\n")[1].split("\n## ")[0]
    first = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = [name for cell in first for name in re.findall(r"`([\w-]+)`", cell)]
    assert sorted(named) == sorted(METHODS)


def test_every_method_has_its_section() -> None:
    from oche.methods.catalog import METHODS

    sections = re.split(r"^### ", TEXTS["docs/methods.md"], flags=re.MULTILINE)[1:]
    named = [re.findall(r"`([\w-]+)`", section.splitlines()[0]) for section in sections]
    assert sorted(name for names in named for name in names) == sorted(METHODS)
    for section in sections:
        assert re.search(r"^Composed as|^The seed document's recipe: `", section, re.MULTILINE)
        assert re.search(r"^1\. ", section, re.MULTILINE) and re.search(r"[Oo]urs: |\bours: ", section)


def test_every_result_is_on_its_page() -> None:
    shown = re.findall(r"^```\{include\} \.\./(benchmarks/results/\S+)$", TEXTS["docs/results.md"], re.MULTILINE)
    there = {p.relative_to(ROOT).as_posix() for p in (ROOT / "benchmarks" / "results").glob("*.md")}
    assert len(shown) == len(set(shown)) and set(shown) == there


def test_deviations_are_collected() -> None:
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        from deviations_of import deviations
    finally:
        sys.path.pop(0)
    found = deviations(ROOT / "oche")
    sources = {p.relative_to(ROOT).as_posix(): p.read_text(encoding="utf-8") for p in (ROOT / "oche").rglob("*.py")}
    assert set(found) == {name for name, text in sources.items() if re.search(r"\bDeviations? (\d|from)", text)}
    for name, stated in found.items():
        numbered = len(re.findall(r"\bDeviation \d", sources[name]))
        assert sum(len(re.findall(r"\bDeviation \d", text)) for _, text in stated) == numbered
    (text,) = (text for about, text in found["oche/core/schedules.py"] if about == "cosine")
    assert "half a cosine" in text and "every step, not every epoch" in text


def test_every_folder_is_in_how_it_is_built() -> None:
    page, package = TEXTS["docs/how-it-is-built.md"], ROOT / "oche"
    rows = dict(re.findall(r"^\| `([\w/]+/|\w+\.py)` \|.*\| `(\w+\.py)` \|$", page, re.MULTILINE))
    files = {path.name for path in package.glob("*.py") if not path.name.startswith("_")}
    folders = {f"{path.parent.relative_to(package).as_posix()}/" for path in package.glob("*/**/__init__.py")}
    assert files | folders == set(rows)
    for place, first in rows.items():
        assert (package / place / first if place.endswith("/") else package / place).is_file()


def test_every_path_in_how_it_is_built_exists() -> None:
    tables = "\n".join(line for line in TEXTS["docs/how-it-is-built.md"].splitlines() if line.startswith("|"))
    paths = re.findall(r"`([\w]+/[\w/]*(?:\.py)?)`", tables)
    assert len(paths) > 30
    assert all((ROOT / "oche" / path).exists() for path in paths)


def test_the_picture_of_folders_is_the_order_of_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    from import_map import FOLDERS, PICTURE, imports

    package, order = ROOT / "oche", list(FOLDERS)
    top = [p.name for p in package.iterdir() if (p / "__init__.py").exists()]
    top += [p.stem for p in package.glob("*.py") if not p.name.startswith("_")]
    assert sorted(order) == sorted(top)
    assert all(order.index(importer) < order.index(imported) for importer, imported in imports(package))
    assert all(f">{name}</text>" in PICTURE.read_text(encoding="utf-8") for name in order)
    rows = re.findall(r"^\| `(\w+)(?:/|\.py)` \|", TEXTS["docs/how-it-is-built.md"], re.MULTILINE)
    assert rows == order  # the table has the picture's order


def test_the_citation_names_this_version() -> None:
    import yaml

    import oche

    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == oche.__version__


# --- links --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", TEXTS)
def test_local_links_exist(page: str) -> None:
    text = re.sub(r"^```(?!\{image\}).*?^```$", "", TEXTS[page], flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^```\{image\} (\S+)", text, re.MULTILINE)
    for target in targets:
        if target.startswith(("http:", "https:", "#")):
            continue
        assert (ROOT / page).parent.joinpath(target.partition("#")[0]).exists(), f"{page} links to {target}"


def test_the_readme_has_its_licence_in_full() -> None:
    licence = (ROOT / "LICENSE").read_text()
    assert "Apache License" in licence and "END OF TERMS AND CONDITIONS" in licence
