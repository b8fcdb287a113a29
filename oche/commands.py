"""The commands of the command line. Each takes its arguments as a list and prints for people."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro
import yaml

from .api import Run, free, plan_training, read_genotype, run_search, run_train
from .api import resume as resume_run
from .arch import titled
from .bench.setting import Setting as BenchSetting
from .compare import Setting
from .configs import SearchConfig, TrainConfig
from .errors import OcheError, nearest
from .methods import METHODS
from .plugins import load_plugins
from .recipes import RECIPES
from .run.config import parse
from .run.log import Log
from .spaces import SPACES

T = TypeVar("T")
Path_ = Annotated[Path, tyro.conf.Positional]


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What a command is told beside its configuration."""

    out: Path | None = None
    """run directory; by default the next free one below runs/"""
    overwrite: bool = False
    """move an existing run of that name aside and start anew"""
    quiet: bool = False
    """say nothing but warnings"""


@dataclass(frozen=True, kw_only=True)
class SearchArgs(Flags, SearchConfig):
    pass


@dataclass(frozen=True, kw_only=True)
class TrainArgs(Flags, TrainConfig):
    random: int = 0
    """train this many random cells of the run's space the same way, to compare"""


def search(args: list[str]) -> int:
    named, rest = _named(args, "method", "space")
    space = _choose("space", named.get("space", "darts"), SPACES)()
    method = named.get("method", space.method)
    default = SearchArgs(
        method=method, search=space.suited(_choose("method", method, METHODS).make()), space=space,
        data={"text": "ptb"}.get(space.domain, SearchConfig.data),
    )  # fmt: skip
    given = parse(
        default, rest, prog="oche search",
        description="Finds cells by gradient descent. Options follow the method: choose it with --method NAME (see oche list "
        "methods), the space with --space NAME; --config FILE repeats a run or starts from its settings.",
        epilog="examples:\n"
        "  oche search                                          digits, β-DARTS\n"
        "  oche search --data cifar10 --method darts-2nd --out runs/cifar\n"
        "  oche search --data my/images --search.budget 30m --space.channels 8\n"
        "  oche search --config runs/cifar/config.yaml --seed 1 --out runs/cifar-1",
    )  # fmt: skip
    log = Log(quiet=given.quiet)
    run = run_search(_part(given, SearchConfig), out=given.out, overwrite=given.overwrite, log=log)
    _say_found(run, log)
    return 0


def train(args: list[str]) -> int:
    named, rest = _named(args, "recipe", "data")
    if "data" in named:  # it decides what else a run's settings say, and comes on top of a --config file all the same
        rest += ["--data", named["data"]]
    what = rest.pop(0) if rest and not rest[0].startswith("-") else next(iter(_values(rest, "--genotype")), None)
    if what is None and not _values(rest, "--config") and not {"-h", "--help"} & set(rest):
        raise OcheError(
            "oche train needs a genotype first: write oche train runs/x, oche train DARTS_V2, or --config FILE"
        )
    options: dict[str, Any] = {}
    if (recipe := named.get("recipe")) is not None:
        options = {"recipe": recipe, "train": _choose("recipe", recipe, RECIPES)()}
    config, out = plan_training(what or "DARTS_V2", named.get("data"), options)
    if {"-h", "--help"} & set(rest):  # a whole genotype among the defaults would say nothing to anybody
        config = replace(config, genotype=what or "")
    given = parse(
        TrainArgs(**{f.name: getattr(config, f.name) for f in fields(TrainConfig)}), rest,
        prog="oche train WHAT",
        description="Trains a network from scratch. WHAT is a run directory, a published name (oche list genotypes) or the text "
        "of a genotype; --recipe NAME chooses size and schedule, --data another data set. Recurrent cells, and "
        "lstm, make language models, trained on text.",
        epilog="examples:\n"
        "  oche train runs/cifar                                published setting: 20 cells, 600 epochs\n"
        "  oche train runs/digits-beta-darts --recipe small --random 3\n"
        "  oche train runs/cifar --data cifar100                transfer the cell\n"
        "  oche train DARTS_V2 --data cifar10 --train.cutout 0 --train.drop-path 0.1\n"
        "  oche train DARTS_RNN_V2 --data ptb                   a language model, as published\n"
        "  oche train --genotype lstm --data my.txt --recipe recurrent-small",
    )  # fmt: skip
    log = Log(quiet=given.quiet)
    config = _part(given, TrainConfig)
    if given.random < 0:
        raise OcheError(f"--random {given.random} is no number of cells; use 0 or more")
    if given.random and (out is None or Run.open(str(what)).kind != "search"):
        raise OcheError("--random needs a search to take the space from; write oche train runs/x --random 3")
    run = run_train(config, out=given.out or out, overwrite=given.overwrite, log=log)
    _say_trained(run, log)
    if given.random:
        _train_random(Run.open(str(what)), config, given.random, log)
    return 0


def _train_random(origin: Run, config: TrainConfig, count: int, log: Log) -> None:
    from .report import write_report
    from .seeds import generator

    for i in range(1, count + 1):
        cell = origin.config.space.random(generator(config.seed, "random cell", i))
        done = run_train(
            replace(config, genotype=str(cell)), out=free(origin.path / f"random-{i}"), overwrite=False, log=log
        )
        _say_trained(done, log)
    log.say(f"report: {write_report(origin.path)}")


@dataclass(frozen=True)
class ResumeArgs:
    run: Path_
    """run directory"""
    quiet: bool = False
    """say nothing but warnings"""


def resume(args: list[str]) -> int:
    given = _simple(
        ResumeArgs,
        args,
        "resume",
        "Goes on with an interrupted or killed run, to the very same result.",
        "oche resume runs/x",
    )
    log = Log(quiet=given.quiet)
    if (given.run / "demo.json").exists():
        from .demo import go_on

        go_on(given.run, log)
        return 0
    run = resume_run(given.run, quiet=given.quiet)
    if run.kind != "toy":
        (_say_found if run.kind == "search" else _say_trained)(run, log)
    return 0


@dataclass(frozen=True)
class EvaluateArgs:
    run: Path_
    """directory of a finished training"""
    data: str | None = None
    """other data than the run's own: with the same classes, or text"""
    data_dir: Path | None = None
    """folder with archives downloaded by hand, used instead of the network"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps"""
    quiet: bool = False
    """say nothing but the result"""


def evaluate(args: list[str]) -> int:
    from .api import evaluate as measured

    given = _simple(
        EvaluateArgs, args, "evaluate",
        "Measures the network of a finished training anew: test accuracy on images, validation and test perplexity on text.",
        "oche evaluate runs/x/train\n  oche evaluate runs/ptb/train --data other.txt",
    )  # fmt: skip
    numbers = measured(given.run, given.data, data_dir=given.data_dir, device=given.device, quiet=given.quiet)
    print(_reached(numbers))
    shares = {key: numbers[key] for key in numbers if key.endswith("_unknown") and numbers[key]}
    if shares:
        said = [
            f"{100 * share:.2f} % of {numbers[key.replace('unknown', 'tokens')]:,}" for key, share in shares.items()
        ]
        print(f"unknown tokens: {', '.join(said)}")
    return 0


@dataclass(frozen=True)
class ReportArgs:
    run: Path_
    """run directory"""


def report(args: list[str]) -> int:
    from .report import write_report

    given = _simple(
        ReportArgs, args, "report", "Draws the pictures of a run and writes its report.html.", "oche report runs/x"
    )
    write_report(Run.open(given.run).path)
    print(given.run / "report.html")
    return 0


@dataclass(frozen=True)
class ToyArgs:
    out: Path | None = None
    """where the picture and the report go; by default the next free runs/toy"""
    xi: tuple[float, ...] = (0.0, 0.3, 0.5, 0.7)
    """look-ahead steps to try; 0 is first order"""
    overwrite: bool = False
    """move an existing run of that name aside"""
    quiet: bool = False
    """say nothing but warnings"""


def toy(args: list[str]) -> int:
    from .demo import toy_in

    given = _simple(
        ToyArgs, args, "toy",
        "Solves min over a of L_val(w*(a), a) with L_train = (w - a)^2, L_val = a w - 2 a + 1 (the seed's Table 1, Figure 2).",
        "oche toy\n  oche toy --xi 0 0.5 1.0 --out runs/my-toy",
    )  # fmt: skip
    toy_in(given.out or free(Path("runs/toy")), Log(quiet=given.quiet), given.xi, given.overwrite)
    return 0


@dataclass(frozen=True)
class DemoArgs:
    out: Path | None = None
    """run directory; by default the next free runs/demo"""
    seed: int = 0
    """every random number follows from it"""
    overwrite: bool = False
    """move an existing run of that name aside"""
    quiet: bool = False
    """say nothing but warnings"""


def demo(args: list[str]) -> int:
    from .demo import start

    given = _simple(
        DemoArgs, args, "demo",
        "Toy problem, search on the 1,797 handwritten digits of scikit-learn, training of the found network beside three random "
        "cells, report. No download; about three minutes on two cores.",
        "oche demo\n  oche demo --seed 1 --out runs/demo-1",
    )  # fmt: skip
    start(given.out or free(Path("runs/demo")), given.seed, given.overwrite, Log(quiet=given.quiet))
    return 0


@dataclass(frozen=True)
class ExportArgs:
    run: Path_
    """directory of a finished training"""
    to: Literal["onnx", "torch-export", "safetensors"] = "onnx"
    """onnx and torch-export: a graph that needs no oche; safetensors: weights that oche.load reads"""
    out: Path | None = None
    """file to write; by default export/model.onnx, .pt2 or .safetensors in the run's directory"""
    input: Literal["normalised", "uint8-nchw", "uint8-nhwc"] = "normalised"
    """normalised: floats in, logits out; uint8: images as they are in, in this layout, probabilities out"""
    size: int | None = None
    """side of the images that the graph takes; by default as trained"""
    fold: bool = True
    """whether BatchNorms become part of the convolutions before them"""
    int8: bool = False
    """quantise to 8 bits, ranges measured on training images (onnx)"""
    tolerance: float = 1e-4
    """largest difference to the trained network that is let through"""
    overwrite: bool = False
    """replace a file of that name"""
    quiet: bool = False
    """say nothing but warnings"""


def export(args: list[str]) -> int:
    from .export import Export
    from .export import export as write

    given = _simple(
        ExportArgs,
        args,
        "export",
        "Writes the network of a finished training to a file, without what only training needs, and checks on images of the run "
        "that the file gives the network's own numbers. Batches may be of any size.",
        "oche export runs/x/train                                   ONNX\n"
        "  oche export runs/x/train --input uint8-nhwc --int8         pixels in, probabilities out, 8 bits\n"
        "  oche export runs/x/train --to torch-export --out x.pt2\n"
        "  oche export runs/x/train --to safetensors",
    )
    write(given.run, _part(given, Export), out=given.out, overwrite=given.overwrite, log=Log(quiet=given.quiet))
    return 0


@dataclass(frozen=True)
class PredictArgs:
    run: Path_
    """directory of a finished training, or a file of oche export --to safetensors"""
    folder: Path_
    """folder of images; those in folders below it too"""
    out: Path = Path("predictions.csv")
    """file to write"""
    top: int = 3
    """classes an image, the likeliest first"""
    batch: int = 256
    """images at once"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps"""
    overwrite: bool = False
    """replace a file of that name"""
    quiet: bool = False
    """say nothing but warnings"""


def predict(args: list[str]) -> int:
    from .predict import predict as classify

    given = _simple(
        PredictArgs,
        args,
        "predict",
        "Classifies the images of a folder and writes a CSV file: file, class, probability, and the next likeliest classes.",
        "oche predict runs/x/train my/images --out predictions.csv",
    )
    classify(
        given.run, given.folder, out=given.out, top=given.top, batch=given.batch, device=given.device,
        overwrite=given.overwrite, log=Log(quiet=given.quiet),
    )  # fmt: skip
    return 0


@dataclass(frozen=True, kw_only=True)
class CompareArgs(Setting):
    quiet: bool = False
    """say nothing but warnings"""


def compare(args: list[str]) -> int:
    from .compare import run

    given = _simple(
        CompareArgs,
        args,
        "compare",
        "Runs methods with several seeds on NAS-Bench-201, each search a process of its own, and writes what their cells really "
        "reach: OUT/table.md, table.csv and compare.svg. Finished runs are kept and unfinished ones go on, so the same line can "
        "be given again. The defaults suit a small machine; the published size is in the last example.",
        "oche compare --table nasbench201.parquet --methods darts gdas --seeds 0 1 2 --steps 400\n"
        "  oche compare --data cifar10.parquet --table nasbench201.parquet --budget 5m --jobs 2 --out runs/five-minutes\n"
        "  oche compare --table nasbench201.parquet --channels 16 --cells 5 --limit None --steps 19500 --device cuda",
    )
    return run(given, Log(quiet=given.quiet))


@dataclass(frozen=True)
class BenchArgs(BenchSetting):
    out: Path | None = None
    """file for the table, in Markdown"""
    quiet: bool = False
    """say nothing but the table"""


def bench(args: list[str]) -> int:
    from .bench.command import bench

    given = _simple(
        BenchArgs, args, "bench",
        "Times steps of searches and of training in several forms of the same computation, in turns, each form in a process of "
        "its own: median, spread, peak memory, and how many times as fast as the published code or oche's plain form.",
        "oche bench\n  oche bench --works first second --batch 64 --threads 2 --out speed.md\n"
        "  oche bench --works pc-darts --batch 256 --device cuda --steps 5",
    )  # fmt: skip
    return bench(_part(given, BenchSetting), given.out, Log(quiet=given.quiet))


@dataclass(frozen=True)
class QueryArgs:
    what: Annotated[str, tyro.conf.Positional]
    """cell of NAS-Bench-201: its text, that of a genotype, or the directory of a search"""
    table: Path
    """Parquet file of the benchmark's accuracies (see oche.bench201.Table)"""


def query(args: list[str]) -> int:
    from .bench201 import Table

    given = _simple(
        QueryArgs,
        args,
        "query",
        "Looks a cell up in a table of NAS-Bench-201: accuracies, ranks, and how far it is below the best.",
        "oche query '|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|' "
        "--table nasbench201.parquet\n  oche query runs/x --table nasbench201.parquet",
    )
    arch = Run.open(given.what).genotype if os.path.isdir(given.what) else given.what
    print(Table(given.table).describe(arch))
    return 0


@dataclass(frozen=True)
class ShowArgs:
    what: Annotated[str, tyro.conf.Positional]
    """published name, run directory, file with a genotype, or its text"""
    out: Path = Path(".")
    """folder for the drawings (SVG and PNG)"""


def show(args: list[str]) -> int:
    from .report.cells import cell_png, cell_svg
    from .report.terminal import genotype_text

    given = _simple(
        ShowArgs,
        args,
        "show",
        "Draws the cells of a genotype in the terminal and to files.",
        "oche show DARTS_V2\n  oche show runs/x --out pictures",
    )
    path = Path(given.what)
    if os.path.isdir(path):  # pathlib refuses to ask about a long text
        genotype, name = Run.open(path).genotype, path.resolve().name
    else:
        genotype = read_genotype(path)
        name = "genotype" if {"(", "|"} & set(given.what) else path.stem
    print(genotype_text(genotype))
    print(genotype)
    given.out.mkdir(parents=True, exist_ok=True)
    for kind, cell in genotype.cells.items():
        file = given.out / f"{name}-{kind}.svg"
        file.write_text(cell_svg(cell, f"{name}: {titled(kind)}"))
        cell_png(cell, file.with_suffix(".png"), f"{name}: {titled(kind)}")
        print(f"drawn: {file} and .png")
    return 0


def list_things(args: list[str]) -> int:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from .listing import TABLES

    known = ", ".join(TABLES)
    if args and args[0] in ("-h", "--help"):
        print(f"usage: oche list [{known.replace(', ', '|')}] [--plugins FILE ...]\n\nexample:\n  oche list methods")
        return 0
    topics = args
    if "--plugins" in args:
        at = args.index("--plugins")
        load_plugins(tuple(Path(p) for p in args[at + 1 :]))
        topics = args[:at]
    if len(topics) > 1 or (topics and topics[0] not in TABLES):
        raise OcheError(f"oche list knows no {' '.join(topics)!r}{nearest(topics[0], [*TABLES])}; write one of {known}")
    # A pipe has no width to fit: a row a line, for grep and cut.
    console = Console(width=None if sys.stdout.isatty() else 1000)
    for topic in topics or TABLES:
        columns, rows = TABLES[topic]()
        table = Table(title=topic, title_justify="left", box=None, pad_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*map(escape, row))  # 'oche[hub]' is no markup
        console.print(table)
    return 0


# --- shared -----------------------------------------------------------------------------------------------------------


def _named(args: list[str], *names: str) -> tuple[dict[str, str], list[str]]:
    """Takes ``--name VALUE`` out of ``args`` for each of ``names``; a --config file answers where the command line does not.

    These choose the defaults that all other options then change, so they are read first; plugins are run here too, since
    options may name what they register.
    """
    found: dict[str, str] = {}
    rest: list[str] = []
    items = iter(args)
    for item in items:
        flag, equals, value = item.partition("=")
        if flag.removeprefix("--") in names and flag.startswith("--"):
            value = value if equals else next(items, None)
            if value is None:
                raise OcheError(f"{flag} needs a value; write {flag} NAME")
            found[flag[2:]] = value
        else:
            rest.append(item)
    file = _from_config(rest)
    load_plugins(_paths(rest, "--plugins") or tuple(Path(p) for p in _texts(file.get("plugins"))))
    for name, value in file.items():
        if name in names and name != "data" and found.get(name, value) != value:
            raise OcheError(
                f"--{name} {found[name]} and the --config file contradict each other: the file sets the {name} and its values; "
                f"leave one of them out, or change single values"
            )
        if name in names and isinstance(value, str):
            found.setdefault(name, value)
    return found, rest


def _paths(args: list[str], flag: str) -> tuple[Path, ...]:
    """The words after ``flag``, up to the next option."""
    found: list[Path] = []
    inside = False
    for arg in args:
        if arg.startswith("--"):
            name, equals, word = arg.partition("=")
            inside = name == flag and not equals
            found += [Path(word)] if name == flag and equals else []
        elif inside:
            found.append(Path(arg))
    return tuple(found)


def _texts(value: Any) -> list[str]:
    """``value`` if it is a list of text; what else a file may have there is refused where the file is read."""
    return value if isinstance(value, list) and all(isinstance(v, str) for v in value) else []


def _from_config(args: list[str]) -> dict[str, Any]:
    """The top level of the --config file, if there is one."""
    files = _values(args, "--config")
    if not files or not Path(files[0]).is_file():
        return {}  # a missing file is reported where it is read
    try:
        tree = yaml.safe_load(Path(files[0]).read_text())
    except yaml.YAMLError:
        return {}  # likewise
    return tree if isinstance(tree, dict) else {}


def _values(args: list[str], flag: str) -> list[str]:
    """The values of ``flag``."""
    pairs = pairwise([*args, ""])
    return [a.partition("=")[2] or b for a, b in pairs if a.partition("=")[0] == flag]


def _choose(what: str, name: str, table: dict[str, T]) -> T:
    if name not in table:
        raise OcheError(f"unknown {what} {name!r}{nearest(name, [*table])}; known: {', '.join(table)}")
    return table[name]


def _part(args: Any, cls: Callable[..., T]) -> T:
    """The configuration among a command's arguments."""
    return cls(**{f.name: getattr(args, f.name) for f in fields(cls)})  # pyright: ignore[reportArgumentType]


def _simple(cls: type[T], args: list[str], command: str, description: str, example: str) -> T:
    """Parses the arguments of a command without a configuration."""
    return parse(cls, args, prog=f"oche {command}", description=description, epilog=f"examples:\n  {example}")


def _percent(x: float | None) -> str:
    return "unknown" if x is None else f"{100 * x:.2f} %"


def _say_found(run: Run, log: Log) -> None:
    space = run.config.space
    name = space.recipe
    full = f"oche train {run.path}{'' if name == 'darts' else f' --recipe {name}'}"
    small, recipe = f"oche train {run.path} --recipe {space.small}", RECIPES[name]()
    log.say(f"found: {run.genotype}")
    log.say(f"report: {run.path / 'report.html'}\nnext: {small}     a small network, on any machine")
    log.say(f"      {full:<{len(small)}}     the published size, {recipe.epochs} epochs, for a GPU")


def _reached(numbers: dict[str, Any]) -> str:
    """ "test accuracy 98.12 %", or "validation perplexity 61.20, test perplexity 58.90"."""
    parts = {"val": "validation", "test": "test"}
    perplexities = [
        f"{what} perplexity {numbers[key]:.2f}" for part, what in parts.items() if (key := f"{part}_ppl") in numbers
    ]
    if perplexities:
        return ", ".join(perplexities)
    part = "val" if "val_acc" in numbers else "test"
    return f"{parts[part]} accuracy {_percent(numbers.get(f'{part}_acc'))}"


def _say_trained(run: Run, log: Log) -> None:
    summary = run.summary
    note = f" ({summary['note']})" if summary.get("note") else ""
    log.say(f"{run.path}: {_reached(summary)}, {summary['parameters']:,} weights{note}")
    log.say(f"report: {run.path / 'report.html'}")
