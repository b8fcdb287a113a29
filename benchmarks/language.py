"""Does a search of recurrent cells help at the budget of two CPU cores? A short search on the Penn Treebank, then short trainings
of the found cell, a random cell, published cells and an LSTM of equal size, all in the same way, for several seeds.

    python benchmarks/language.py --data ../shared/data/ptb.train.txt.gz --out runs/language

All trainings of a seed see the same windows in the same order for the same number of steps. The same line keeps finished runs and
continues unfinished ones; OUT/table.md is written after each run. The results are far from those at the published sizes: they
compare cells at this budget only.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import oche
from oche.core import atomic_files as atomic
from oche.core.environment import describe_environment
from oche.core.errors import OcheError
from oche.core.seeds import generator
from oche.methods.catalog import METHODS
from oche.networks.lstm import LSTM, width_for_weights
from oche.spaces.darts_rnn import RecurrentSpace, recurrent
from oche.training.language_recipes import LanguageRecipe, PlainSgd, recurrent_small

KINDS = ("found", "random", "lstm", "DARTS_RNN_V1", "DARTS_RNN_V2", "ENAS_RNN")


@dataclass(frozen=True)
class Comparison:
    """The settings of all runs."""

    data: str
    out: Path
    seeds: tuple[int, ...]
    kinds: tuple[str, ...]
    method: str
    search_steps: int
    search_width: int
    search_batch: int
    search_lr: float
    steps: int
    width: int
    batch: int
    lr: float
    device: str
    threads: int

    @property
    def common(self) -> dict:
        return {"device": self.device, "threads": self.threads, "quiet": True}

    @property
    def space(self) -> RecurrentSpace:
        # The published dropout of 0.75 is too strong for so narrow a supernet.
        return recurrent(width=self.search_width, dropouts=recurrent_small().dropouts)

    def recipe(self, corpus_words: int, kind: str) -> LanguageRecipe:
        """The recipe of a training; the width of an LSTM gives it as many weights as a cell has."""
        alike = recurrent_small(width=self.width, batch=self.batch, steps=self.steps, w=PlainSgd(lr=self.lr))
        if kind != LSTM:
            return alike
        cell = alike.network("DARTS_RNN_V2", corpus_words)
        weights = sum(w.numel() for w in cell.parameters())
        return replace(alike, width=width_for_weights(weights, corpus_words))

    def search(self, seed: int) -> oche.Run:
        method = self.space.adapt_search(METHODS[self.method].make(steps=self.search_steps))
        w = replace(method.method.weight_optimizer, lr=self.search_lr, lr_min=self.search_lr)
        method = replace(method, w=w, batch=self.search_batch)
        return made(
            self.out / f"search-{seed}",
            lambda path: oche.search(self.data, space=self.space, method=method, out=path, seed=seed, **self.common),
        )

    def genotype(self, kind: str, seed: int) -> str:
        if kind == "found":
            return str(self.search(seed).genotype)
        if kind == "random":
            return str(self.space.random(generator(seed, "random cell")))
        return kind

    def training(self, kind: str, seed: int, words: int) -> oche.Run:
        genotype, recipe = self.genotype(kind, seed), self.recipe(words, kind)
        return made(
            self.out / f"{kind}-{seed}",
            lambda path: oche.train(genotype, self.data, recipe=recipe, out=path, seed=seed, **self.common),
        )


def made(path: Path, make: Callable[[Path], oche.Run]) -> oche.Run:
    """The run at ``path``: started, continued, or taken as it is."""
    if not (path / "status.json").exists():
        return make(path)
    return oche.resume(path)


def run(setting: Comparison) -> Path:
    """Make the missing runs, seed by seed; return the path of the table."""
    words = len(oche.data.load_text(setting.data).vocabulary)
    runs: dict[tuple[str, int], oche.Run] = {}
    for seed in setting.seeds:
        for kind in setting.kinds:
            runs[kind, seed] = setting.training(kind, seed, words)
            summary = runs[kind, seed].summary
            print(
                f"{kind}, seed {seed}: validation {summary['val_ppl']:.2f}, test {summary['test_ppl']:.2f}", flush=True
            )
            write(setting, runs)
    return setting.out / "table.md"


def write(setting: Comparison, runs: dict[tuple[str, int], oche.Run]) -> None:
    """Write OUT/table.md: perplexities, weights and time of each kind, then the found cell against the others, seed by seed."""
    about = describe_environment(setting.device)
    lines = [
        "# Recurrent cells at one small budget",
        "",
        f"Data: {Path(setting.data).name}; search: {setting.method}, width {setting.search_width}, batch {setting.search_batch}, "
        f"learning rate {setting.search_lr:g}, {setting.search_steps} steps; every training: recipe recurrent-small, width "
        f"{setting.width} (lstm: as many weights), batch {setting.batch}, learning rate {setting.lr:g}, {setting.steps} steps. "
        f"{about['cpu']}, {setting.threads or about['threads']} threads, torch {about['torch']}, device {setting.device}. "
        "Mean ± sample standard deviation over seeds; lower is better. Searches have seen the validation text, not the test's.",
        "",
        "| kind | n | weights | validation perplexity | test perplexity | minutes of training | minutes of search |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in setting.kinds:
        own = [run for (k, _), run in runs.items() if k == kind]
        if own:
            lines.append(_row(setting, kind, own))
    lines += ["", "Found minus the other, test perplexity, the same seed:", ""]
    for kind in setting.kinds:
        both = [s for s in setting.seeds if kind != "found" and {("found", s), (kind, s)} <= runs.keys()]
        if both:
            gaps = [runs["found", s].summary["test_ppl"] - runs[kind, s].summary["test_ppl"] for s in both]
            lines.append(f"- {kind}: {spread(gaps)} (n = {len(gaps)}; {', '.join(f'{gap:+.2f}' for gap in gaps)})")
    lines += ["", "Cells found:", ""]
    lines += [f"- seed {seed}: `{run.genotype}`" for (kind, seed), run in runs.items() if kind == "found"]
    atomic.write_bytes(setting.out / "table.md", ("\n".join(lines) + "\n").encode())


def _row(setting: Comparison, kind: str, own: list[oche.Run]) -> str:
    numbers = [run.summary for run in own]
    searched = "–"
    if kind == "found":
        times = [oche.Run.open(setting.out / f"search-{run.config.seed}").summary["seconds"] / 60 for run in own]
        searched = spread(times)
    cells = [
        kind, str(len(own)), f"{numbers[0]['parameters']:,}", spread([n["val_ppl"] for n in numbers]),
        spread([n["test_ppl"] for n in numbers]), spread([n["seconds"] / 60 for n in numbers]), searched,
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def spread(values: list[float]) -> str:
    """Mean ± sample standard deviation; for one value the mean alone."""
    mean = f"{statistics.fmean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def parsed(args: list[str]) -> Comparison:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", default="ptb", help="ptb, wikitext2, or a text as oche train takes it")
    add("--out", type=Path, default=Path("runs/language"), help="folder for runs and table")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="what is trained")
    add("--method", choices=list(METHODS), default="darts", help="of the search")
    add("--search-steps", type=int, default=400)
    add("--search-width", type=int, default=64)
    add("--search-batch", type=int, default=64)
    add("--search-lr", type=float, default=20.0, help="of the weights in the search; published: 20")
    add("--steps", type=int, default=1500, help="of each training")
    add("--width", type=int, default=128)
    add("--batch", type=int, default=32)
    add("--lr", type=float, default=20.0, help="of every training, cells and lstm alike; published: 20")
    add("--device", default="cpu")
    add("--threads", type=int, default=0, help="0: torch's own number")
    given = vars(parser.parse_args(args))
    return Comparison(**{key: tuple(value) if isinstance(value, list) else value for key, value in given.items()})


if __name__ == "__main__":
    try:
        table = run(parsed(sys.argv[1:]))
    except OcheError as error:
        sys.exit(f"{error}")
    print(table.read_text(encoding="utf-8"))
