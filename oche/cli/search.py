"""`oche search`: find cells by gradient descent."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from oche.api import run_search
from oche.cli.common import Flags, choose, part, say_found, take, values
from oche.core.config.command_line import parse
from oche.core.errors import OcheError
from oche.devices.launch import make_log
from oche.methods.catalog import METHODS
from oche.runs.config import SearchConfig
from oche.runs.resolve import default_search
from oche.spaces import SPACES

MAIN = (
    "--data", "--size", "--method", "--space", "--search.budget", "--search.epochs", "--search.batch", "--space.channels",
    "--space.cells", "--limit", "--seed", "--device", "--out", "--overwrite", "--quiet",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SearchArgs(Flags, SearchConfig):
    pass


def search(args: list[str]) -> int:
    if values(args, "--strategy") or "--strategy" in args:
        from oche.cli.strategy import search_by_strategy

        return _on_shared_weights(args) if "shared" in values(args, "--evaluate") else search_by_strategy(args)
    named, rest = take(args, "method", "space")
    choose("space", space := named.get("space", "darts"), SPACES)
    if "method" in named:
        choose("method", named["method"], METHODS)
    planned = default_search(space, named.get("method"))
    default = SearchArgs(**{f.name: getattr(planned, f.name) for f in fields(SearchConfig)})
    given = parse(
        default, rest, prog="oche search",
        description="Find cells by gradient descent. Choose the method with --method NAME (see oche list methods) and the space "
        "with --space NAME; they set the defaults of all other options. --config FILE repeats a run or starts from its settings. "
        "--strategy NAME (see oche list strategies) searches without gradients, by a table, trainings or scores: "
        "oche search --strategy local --help.",
        epilog="examples:\n"
        "  oche search                                          digits, β-DARTS\n"
        "  oche search --data cifar10 --method darts-2nd --out runs/cifar\n"
        "  oche search --data my/images --search.budget 30m --space.channels 8\n"
        "  oche search --config runs/cifar/config.yaml --seed 1 --out runs/cifar-1\n"
        "  oche search --strategy local --table nasbench201.parquet --queries 100",
        main=MAIN, texts={
            "--method": "search method, by its name in oche list methods; sets the defaults of --search options "
            f"(default: {planned.method})",
            "--space": f"search space, by its name in oche list spaces; sets the defaults of --space options (default: {space})",
        },
    )  # fmt: skip
    log = make_log(given.quiet)
    run = run_search(part(given, SearchConfig), out=given.out, overwrite=given.overwrite, log=log)
    say_found(run, log)
    return 0


def _on_shared_weights(args: list[str]) -> int:
    """Train a supernet by uniform paths, and choose among its architectures by a strategy: an ordinary search run."""
    from oche.strategies.catalog import STRATEGIES
    from oche.strategies.shared import ByStrategy

    named, rest = take(args, "strategy", "evaluate", "space", "queries")
    entry = choose("strategy", name := named["strategy"], STRATEGIES)
    choose("space", space := named.get("space", "darts"), SPACES)
    try:
        queries = int(named.get("queries", 1000))
    except ValueError:
        raise OcheError(f"--queries takes a whole number, found {named['queries']!r}") from None
    planned = default_search(space, "random-ws")
    select = ByStrategy(strategy=entry.make(), queries=queries)
    planned = replace(planned, search=replace(planned.search, method=replace(planned.search.method, select=select)))
    given = parse(
        SearchArgs(**{f.name: getattr(planned, f.name) for f in fields(SearchConfig)}), rest, prog="oche search",
        description=f"Train a supernet by uniform random paths; at the end the strategy {name} chooses among its architectures "
        "by their validation accuracy. Settings of the strategy are --search.select.strategy options, their number --queries "
        "(default: 1000).",
        epilog="examples:\n  oche search --strategy evolution --evaluate shared --data digits --queries 200",
        main=MAIN,
    )  # fmt: skip
    log = make_log(given.quiet)
    run = run_search(part(given, SearchConfig), out=given.out, overwrite=given.overwrite, log=log)
    say_found(run, log)
    return 0
