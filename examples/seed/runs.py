"""The runs behind the tables and figures of the seed document. Each is made once, and shared by the scripts that need it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import oche
from oche.core.config.command_line import parse
from oche.core.errors import one_line, plural
from oche.training.image_recipes import Recipe
from oche.training.image_recipes import seed as seed_network
from oche.training.loop import Interrupted

ORDERS = {1: "ξ = 0", 2: "ξ > 0"}  # DARTS' first order, and its look-ahead with ξ = learning rate of the weights


@dataclass(frozen=True)
class Setting:
    """The settings of all experiments. Without budget and steps, every run has the length of the seed document."""

    data: str = "cifar10"
    """images to search and train on: a name or a path, as for `oche search --data`"""
    transfer: str | None = "cifar100"
    """images to transfer the found cells to (Table 3); None: no transfer"""
    data_dir: Path | None = None
    """folder with archives downloaded by hand"""
    limit: int | None = None
    """use only this many training images, drawn evenly over the classes"""
    size: int | None = None
    """side in pixels to which images of a folder are resized"""
    budget: str | None = None
    """length of each run in time instead of epochs: 90s, 10m, 2h"""
    search_steps: int | None = None
    """length of each search in steps"""
    train_steps: int | None = None
    """length of each training in steps"""
    out: Path = Path("runs/seed")
    """folder for the runs; finished runs are kept, unfinished ones continued"""
    seed: int = 0
    """seed of all random numbers"""
    device: str = "auto"
    """auto, cpu, cuda"""
    threads: int = 0
    """CPU threads; 0: torch's default"""
    quiet: bool = False
    """print the results only"""

    def common(self) -> dict:
        names = ("seed", "device", "threads", "data_dir", "limit", "size", "quiet")
        return {name: getattr(self, name) for name in names}

    def length(self, steps: int | None) -> dict:
        """The fields of a method or a recipe that set its length."""
        return dict(steps=steps) if steps is not None else dict(budget=self.budget)


def _ensure(path: Path, make: Callable[[], oche.Run], quiet: bool) -> oche.Run:
    """The run at ``path``: started, continued, or taken as it is."""
    if not (path / "status.json").exists():
        return make()
    run = oche.Run.open(path)
    return run if run.state == "complete" else oche.resume(path, quiet=quiet)


def search(setting: Setting, order: int) -> oche.Run:
    """§4.2 of the seed document: 8 cells, C = 16, 40 epochs, batch 64, logits from zero."""
    path = setting.out / f"search-order{order}"
    method = oche.methods.seed(order, **setting.length(setting.search_steps))
    space = oche.spaces.seed()
    return _ensure(
        path, lambda: oche.search(setting.data, space=space, method=method, out=path, **setting.common()), setting.quiet
    )


def evaluation(setting: Setting, order: int) -> oche.Run:
    """Table 2: the found cells in a network of the searched size, 100 epochs, on the halves of the search."""
    recipe = seed_network(cells=8, head=(2048, 1024, 256), batch=64, epochs=100, split=0.5)
    return _train(setting, order, "evaluation", setting.data, recipe)


def final(setting: Setting, order: int) -> oche.Run:
    """Table 3, CIFAR-10: 14 cells, 600 epochs, batch 128."""
    return _train(setting, order, "final", setting.data, seed_network())


def transferred(setting: Setting, order: int) -> oche.Run:
    """Table 3, CIFAR-100: the same network, 300 epochs, batch 64."""
    assert setting.transfer is not None
    return _train(setting, order, "transfer", setting.transfer, seed_network(epochs=300, batch=64))


def _train(setting: Setting, order: int, name: str, data: str, recipe: Recipe) -> oche.Run:
    found = search(setting, order)
    path = setting.out / f"{name}-order{order}"
    recipe = replace(recipe, **setting.length(setting.train_steps))
    return _ensure(path, lambda: oche.train(found, data, recipe=recipe, out=path, **setting.common()), setting.quiet)


def command(main: Callable[[Setting], None], about: str | None) -> None:
    """Run a script of this folder. Mistakes and their exit codes are those of ``oche``."""
    lines = (about or "").strip().splitlines()
    examples = "\n".join(f"  {line}" for line in lines if line.startswith("python "))
    try:
        given = parse(
            Setting, sys.argv[1:], prog=f"python {sys.argv[0]}", description=lines[0], epilog=f"examples:\n{examples}"
        )
        main(given)
    except oche.OcheError as error:
        print(f"oche: {one_line(error)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        print(f"oche: {one_line(error)}", file=sys.stderr)
        sys.exit(1)
    except (Interrupted, KeyboardInterrupt):  # its message says how to continue
        sys.exit(130)


# --- words ------------------------------------------------------------------------------------------------------------


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"


def length(run: oche.Run) -> str:
    """The actual length of a run: "100 steps of 64 images, 13.2 min"."""
    part = run.config.search if run.kind == "search" else run.config.train
    return f"{plural(run.summary['steps'], 'step')} of {plural(part.batch, 'image')}, {run.summary['seconds'] / 60:.1f} min"


def where(run: oche.Run) -> str:
    """Hardware, versions and data of a run, to print beside its results."""
    e = json.loads((run.path / "environment.json").read_text())
    device = e.get("gpu") or f"{e['cpu']}, {plural(e['cores'], 'core')}, {plural(e['threads'], 'thread')}"
    note = f" ({run.summary['note']})" if run.summary.get("note") else ""
    version = f"torch {e['torch']}, oche {e['oche']}" + (f" at {e['commit'][:12]}" if e["commit"] else "")
    return f"{Path(run.config.data).name}{note}; {device}; {version}; n = 1"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows])


def publish(setting: Setting, name: str, text: str) -> None:
    """Prints a result and keeps it beside its runs."""
    print(text)
    setting.out.mkdir(parents=True, exist_ok=True)
    (setting.out / f"{name}.md").write_text(text + "\n", encoding="utf-8")
