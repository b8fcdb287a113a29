"""The method of docs/extending.md and the space of docs/add-a-space.md, run as a reader would run them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import oche
import small_runs
from oche.cli import main as cli
from oche.core import plugins
from oche.core.registry import COMPONENTS
from oche.methods.catalog import METHODS
from oche.spaces import SPACES
from paths import ROOT

pytestmark = pytest.mark.slow  # runs the examples

EXAMPLES = ROOT / "examples"
FILE = EXAMPLES / "my_method.py"


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What a plugin registers is forgotten after the test."""
    tables: tuple[dict, ...] = (METHODS, COMPONENTS, SPACES)
    befores, loaded = [dict(table) for table in tables], set(plugins._LOADED)
    yield
    for table, before in zip(tables, befores, strict=True):
        table.clear()
        table.update(before)
    plugins._LOADED.intersection_update(loaded)


def words(out: Path, *more: str) -> list[str]:
    return ["search", "--plugins", str(FILE), *more, *small_runs.TINY, "--quiet", "--out", str(out)]


def test_it_is_twenty_lines() -> None:
    code = FILE.read_text().partition('"""\n\n')[2]
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 20
    page = (ROOT / "docs" / "extending.md").read_text()
    assert "```{literalinclude} ../examples/my_method.py" in page


def test_a_method_of_ones_own_by_name(tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "methods", "--plugins", str(FILE)]) == 0
    assert "sharpened" in capsys.readouterr().out
    assert cli.main(words(tmp_path / "a", "--method", "sharpened", "--search.relax.tau", "4", "0.25")) == 0
    assert cli.main(words(tmp_path / "b", "--method", "sharpened", "--search.relax.tau", "4", "0.25")) == 0
    assert cli.main(words(tmp_path / "c", "--method", "sharpened", "--search.relax.tau", "4", "4")) == 0
    one, other = (oche.Run.open(tmp_path / name) for name in "ac")
    assert one.config.method == "sharpened" and one.config.search == METHODS["sharpened"].make(
        steps=3, batch=16, relax=COMPONENTS["Sharpened"]((4.0, 0.25))
    )
    assert small_runs.metrics(tmp_path / "a") == small_runs.metrics(tmp_path / "b") and set(one.genotype.cells) == {
        "normal",
        "reduce",
    }
    # The same logits at first; what decisions look at is sharper at the end.
    first, *_, last = small_runs.metrics(tmp_path / "a")
    for record, tau in ((first, 4.0), (last, 0.25)):
        logits = torch.tensor(record["logits"]["normal"], dtype=torch.float64)
        weights = torch.tensor(record["arch"]["normal"]["weights"], dtype=torch.float64)
        torch.testing.assert_close(weights, (logits / tau).softmax(1), rtol=1e-5, atol=1e-7)
    assert other.config.search.method.relax.tau == (4.0, 4.0)


def test_its_part_in_another_method(tmp_path: Path, quick: None) -> None:
    more = ("--method", "pc-darts", "--search.relax.ops", "Sharpened", "--search.edge.k", "2", "--search.warmup", "0")
    assert cli.main(words(tmp_path / "x", *more)) == 0
    assert type(oche.Run.open(tmp_path / "x").config.search.method.relax.ops).__name__ == "Sharpened"


@pytest.mark.parametrize("method", ["beta-darts", "pc-darts"])
def test_a_space_of_ones_own(method: str, tmp_path: Path, quick: None) -> None:
    file = EXAMPLES / "my_space.py"
    assert f"```{{literalinclude}} ../examples/{file.name}" in (EXAMPLES.parent / "docs" / "add-a-space.md").read_text()
    more = ["--plugins", str(file), "--space", "near", "--method", method, "--space.channels", "4"]
    tiny = [*more, "--space.cells", "3", "--limit", "60", "--search.batch", "16", "--search.steps", "3", "--quiet"]
    assert cli.main(["search", *tiny, "--out", str(tmp_path / "x")]) == 0
    run = oche.Run.open(tmp_path / "x")
    for cell in run.genotype.cells.values():
        assert [(i, j) for _, i, j in cell.edges] == [(j - k, j) for j in range(2, 6) for k in (2, 1)]
    assert len(small_runs.metrics(run.path)[-1]["logits"]["normal"]) == 8
    assert cli.main(["train", str(run.path), *small_runs.TRAIN, "--limit", "60", "--quiet"]) == 0
