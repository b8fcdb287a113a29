"""Run a command and print mistakes as one line. Heavy modules are imported only when a command needs them."""

from __future__ import annotations

import sys
from importlib import import_module

from oche._version import __version__
from oche.core.errors import OcheError, did_you_mean, one_line
from oche.core.quiet import quiet_libraries
from oche.devices.launch import reports_error, started_by_torchrun

# command: (module of oche.cli, what it does)
COMMANDS = {
    "demo": ("demo", "toy problem, search, training and report on handwritten digits, in three minutes"),
    "toy": ("demo", "solve the bilevel toy problem with several look-ahead steps"),
    "fit": ("fit", "find and train a good network in a given time:  oche fit my/images --budget 1h"),
    "search": ("search", "find cells by gradient descent:  oche search --data cifar10 --method darts-2nd"),
    "train": ("train", "train a found or published network from scratch:  oche train runs/x"),
    "resume": ("runs", "continue an interrupted run:  oche resume runs/x"),
    "evaluate": ("runs", "measure a trained network again, on other data too:  oche evaluate runs/x/train"),
    "export": ("deploy", "write a trained network as ONNX, torch.export or weights:  oche export runs/x/train"),
    "predict": ("deploy", "classify a folder of images with a trained network:  oche predict runs/x/train FOLDER"),
    "compare": ("study", "run methods and seeds on NAS-Bench-201:  oche compare --table FILE --methods darts gdas"),
    "study": ("study", "run many methods, seeds and settings, with statistics:  oche study study.yaml"),
    "bench": ("measure", "time a step in every form, beside the published code:  oche bench --batch 16"),
    "cost": ("measure", "show weights, FLOPs and time of a network and its operations:  oche cost DARTS_V2"),
    "doctor": ("doctor", "show what this machine has, what was proved on it, and what to install"),
    "query": ("lookup", "look a cell up in a table of NAS-Bench-201:  oche query '|nor_conv_3x3~0|+…' --table FILE"),
    "show": ("lookup", "draw a cell in the terminal and to a file:  oche show DARTS_V2"),
    "report": ("runs", "write the report of a run again:  oche report runs/x"),
    "list": ("lookup", "list names: oche list methods|strategies|spaces|data|operations …"),
    "completion": ("completion", "complete commands and options in a shell:  oche completion bash"),
}

SHARED = ("search", "train", "resume")  # commands that several processes of torchrun can run together


def usage() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items())
    return f"""oche {__version__}: differentiable architecture search

usage: oche COMMAND [OPTIONS]

{rows}

Start with 'oche demo'. 'oche COMMAND --help' explains a command and its main options, --help-all the rest.
Your own images: 'oche fit path/to/folder --budget 1h' with one folder of images per class."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; return the exit code: 0 done, 1 failed, 2 a mistake in the arguments, 130 interrupted."""
    args = sys.argv[1:] if argv is None else argv
    if not args or args[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if args[0] == "--version":
        print(__version__)
        return 0
    try:
        return _run(args[0], args[1:])
    except OcheError as error:
        if reports_error(error):
            print(f"oche: {one_line(error)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of a pipe, such as head, has closed it
        sys.stderr.close()
        return 0
    except OSError as error:  # such as a full disk, or a folder without write permission
        where = f"{error.filename}: " if error.filename else ""
        print(f"oche: {one_line(f'{where}{error.strerror or error}')}", file=sys.stderr)
        return 1


_OUT_OF_MEMORY = (
    "out of memory; saved checkpoints stay; use a smaller batch (--search.batch, --train.batch) or fewer channels "
    "(--space.channels, --train.channels)"
)


def _run(command: str, args: list[str]) -> int:
    if command not in COMMANDS:
        raise OcheError(
            f"unknown command {command!r}{did_you_mean(command, [*COMMANDS])}; commands: {', '.join(COMMANDS)}"
        )
    if started_by_torchrun() and command not in SHARED:
        raise OcheError(
            f"oche {command} cannot run on several ranks; only {', '.join(SHARED)} can; start it without torchrun"
        )
    try:
        with quiet_libraries("--quiet" in args):  # before torch is imported
            module = import_module(f"oche.cli.{COMMANDS[command][0]}")
            return getattr(module, command.replace("list", "list_things"))(args) or 0
    except Exception as error:
        if type(error).__name__ == "Interrupted":
            return 130
        from oche.core.memory import out_of_memory

        if out_of_memory(error):  # outside of a step; a step itself tries which batch would fit
            print(f"oche: {_OUT_OF_MEMORY}", file=sys.stderr)
            return 1
        raise
