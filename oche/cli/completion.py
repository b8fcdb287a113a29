"""`oche completion`: the completion of commands and options in a shell.

The script that it prints holds all names. So pressing the tabulator starts no Python.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import redirect_stdout
from importlib import import_module

from oche.core.config.help import HELP, HELP_ALL, LIST, asks
from oche.core.errors import OcheError, did_you_mean

_PARTS = {
    "study": ("status", "report", "trial"),
    "list": ("methods", "strategies", "scores", "spaces", "data", "genotypes", "operations", "recipes"),
    "completion": ("bash", "zsh", "fish"),
}  # words that may follow a command
_USAGE = """usage: oche completion bash|zsh|fish

Print a script that completes commands, options and their values. Print it again after an update of oche.

examples:
  oche completion bash >> ~/.bashrc
  oche completion zsh >> ~/.zshrc
  oche completion fish > ~/.config/fish/completions/oche.fish"""


def completion(args: list[str]) -> int:
    if asks(args):
        print(_USAGE)
        return 0
    if len(args) != 1 or args[0] not in _WRITE:
        found = f" found {' '.join(args)!r}{did_you_mean(args[0], [*_WRITE])};" if args else ""
        raise OcheError(
            f"oche completion needs the name of a shell;{found} write oche completion {' or '.join(_WRITE)}"
        )
    print(_WRITE[args[0]]())
    return 0


Option = tuple[str, tuple[str, ...], str]  # flag, values to choose from, text


def options_of(command: str) -> list[Option]:
    """Return the options of a command, as its help lists them."""
    from oche.cli.main import COMMANDS

    if command in ("list", "completion"):
        return [("--plugins", (), "Python files to run first")] if command == "list" else []
    run = getattr(import_module(f"oche.cli.{COMMANDS[command][0]}"), command)
    out = io.StringIO()
    try:
        with redirect_stdout(out):
            run([LIST])
    except SystemExit:
        pass
    return [(flag, tuple(values.split()), text) for flag, values, text in map(_cells, out.getvalue().splitlines())]


def _cells(line: str) -> tuple[str, str, str]:
    flag, values, text = line.split("\t")
    return flag, values, text


def _names() -> dict[str, tuple[str, ...]]:
    """Return the values of options that take names from a list."""
    from oche.data import DATASETS, TEXTS
    from oche.methods.catalog import METHODS
    from oche.spaces import SPACES
    from oche.strategies.catalog import STRATEGIES
    from oche.training.recipes import RECIPES

    return {
        "--strategy": (*STRATEGIES,),
        "--method": (*METHODS,), "--methods": (*METHODS,), "--space": (*SPACES,), "--recipe": (*RECIPES,),
        "--data": (*DATASETS, *TEXTS), "--device": ("auto", "cpu", "cuda", "mps"),
    }  # fmt: skip


def _each() -> Iterator[tuple[str, str, list[Option]]]:
    """Yield (command, what it does, its options with the values to choose from)."""
    from oche.cli.main import COMMANDS

    names = _names()
    for command, (_, text) in COMMANDS.items():
        yield (
            command,
            text.partition(":  ")[0],
            [(flag, values or names.get(flag, ()), what) for flag, values, what in options_of(command)],
        )


def bash() -> str:
    """Return the script for bash."""
    each = list(_each())
    commands = " ".join(name for name, *_ in each)
    values = [
        f"      {name}\\ {flag}) words={' '.join(words)!r} ;;"
        for name, _, options in each
        for flag, words, _ in options
        if words
    ]
    flags = [
        f"        {name}) words={' '.join([*(flag for flag, *_ in options), HELP[-1], HELP_ALL])!r} ;;"
        for name, _, options in each
    ]
    parts = [f"        {name}) words={' '.join(words)!r} ;;" for name, words in _PARTS.items()]
    return "\n".join([
        "# completion of oche for bash, written by: oche completion bash",
        "_oche() {",
        '  local current="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" command="${COMP_WORDS[1]}" words=""',
        '  if [ "$COMP_CWORD" -eq 1 ]; then',
        f"    words={commands!r}",
        "  else",
        '    case "$command $before" in',
        *values,
        "    esac",
        '    if [ -z "$words" ] && [ "${current:0:1}" = "-" ]; then',
        '      case "$command" in',
        *flags,
        "      esac",
        '    elif [ -z "$words" ] && [ "$COMP_CWORD" -eq 2 ]; then',
        '      case "$command" in',
        *parts,
        "      esac",
        "    fi",
        "  fi",
        '  COMPREPLY=($(compgen -W "$words" -- "$current"))',
        "}",
        "complete -o default -F _oche oche",
    ])  # fmt: skip


def zsh() -> str:
    """Return the script for zsh, which reads that of bash."""
    return "\n".join([
        "# completion of oche for zsh, written by: oche completion zsh",
        "autoload -U +X compinit && compinit -u",
        "autoload -U +X bashcompinit && bashcompinit",
        bash(),
    ])  # fmt: skip


def fish() -> str:
    """Return the script for fish."""
    lines = ["# completion of oche for fish, written by: oche completion fish"]
    for name, text, options in _each():
        lines.append(f"complete -c oche -n __fish_use_subcommand -f -a {name} -d {_quoted(text)}")
        inside = f"-n '__fish_seen_subcommand_from {name}'"
        if name in _PARTS:
            lines.append(f"complete -c oche {inside} -f -a {_quoted(' '.join(_PARTS[name]))}")
        more = [(HELP[-1], (), "explain the command"), (HELP_ALL, (), "explain all options")]
        for flag, words, what in (*options, *more):
            values = f" -x -a {_quoted(' '.join(words))}" if words else ""
            lines.append(f"complete -c oche {inside} -l {flag.removeprefix('--')}{values} -d {_quoted(what[:80])}")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


_WRITE = {"bash": bash, "zsh": zsh, "fish": fish}
