"""`oche search`."""

from __future__ import annotations

from dataclasses import dataclass

from ..api import run_search
from ..configs import SearchConfig
from ..methods import METHODS
from ..run.config import parse
from ..run.log import Log
from ..spaces import SPACES
from .shared import Flags, choose, part, say_found, take


@dataclass(frozen=True, kw_only=True)
class SearchArgs(Flags, SearchConfig):
    pass


def search(args: list[str]) -> int:
    named, rest = take(args, "method", "space")
    space = choose("space", named.get("space", "darts"), SPACES)()
    method = named.get("method", space.method)
    default = SearchArgs(
        method=method, search=space.suited(choose("method", method, METHODS).make()), space=space,
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
    run = run_search(part(given, SearchConfig), out=given.out, overwrite=given.overwrite, log=log)
    say_found(run, log)
    return 0
