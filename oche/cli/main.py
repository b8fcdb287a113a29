"""The command line's front door: finds the command, turns mistakes into one line. Heavy imports wait until a command runs."""

from __future__ import annotations

import sys
from importlib import import_module

from oche._version import __version__
from oche.core.errors import OcheError, nearest, one_line
from oche.devices.process_group import several, speaks

# command: (module of oche.cli, what it is for)
COMMANDS = {
    "demo": ("demo", "the whole story on handwritten digits, in three minutes: toy, search, training, report"),
    "toy": ("demo", "the bilevel toy problem: iterations and trajectories for several look-ahead steps"),
    "search": ("search", "find cells by gradient descent:  oche search --data cifar10 --method darts-2nd"),
    "train": ("train", "train a found or published network from scratch:  oche train runs/x"),
    "resume": ("resume_evaluate_report", "go on with an interrupted run:  oche resume runs/x"),
    "evaluate": (
        "resume_evaluate_report",
        "measure a trained network anew, on other data too:  oche evaluate runs/x/train",
    ),
    "export": (
        "export_predict",
        "write a trained network for others to run: ONNX, torch.export, weights:  oche export runs/x/train",
    ),
    "predict": (
        "export_predict",
        "classify a folder of images with a trained network:  oche predict runs/x/train FOLDER",
    ),
    "compare": (
        "compare_bench",
        "methods and seeds on NAS-Bench-201 at one length:  oche compare --table FILE --methods darts gdas",
    ),
    "study": ("study", "many methods, seeds and settings, each trial once, with statistics:  oche study study.yaml"),
    "bench": (
        "compare_bench",
        "time and memory of a step in every form, beside the published code:  oche bench --batch 16",
    ),
    "cost": ("cost", "weights, FLOPs and time of a network and of every candidate in it:  oche cost DARTS_V2"),
    "query": (
        "show_list_query",
        "look a cell up in a table of NAS-Bench-201:  oche query '|nor_conv_3x3~0|+…' --table FILE",
    ),
    "show": ("show_list_query", "draw a cell in the terminal and to a file:  oche show DARTS_V2"),
    "report": ("resume_evaluate_report", "write the report of a run anew:  oche report runs/x"),
    "list": ("show_list_query", "what there is: oche list methods|spaces|data|genotypes|operations|recipes"),
}

SHARED = ("search", "train", "resume")  # what torchrun's processes can do together


def usage() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items())
    return f"""oche {__version__}: differentiable architecture search

usage: oche COMMAND [OPTIONS]

{rows}

Start with 'oche demo'. 'oche COMMAND --help' explains a command and its options.
Your own images: 'oche search --data path/to/folder' with one folder of images per class."""


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0 done, 1 failed, 2 a mistake in what was asked, 130 interrupted."""
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
        if speaks(error):
            print(f"oche: {one_line(error)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        sys.stderr.close()
        return 0
    except OSError as error:  # a full disk, a folder that may not be written: the system says what, the name says where
        where = f"{error.filename}: " if error.filename else ""
        print(f"oche: {one_line(f'{where}{error.strerror or error}')}", file=sys.stderr)
        return 1


_SMALLER = (
    "out of memory; what is saved stays: write a smaller batch (--search.batch, --train.batch) or fewer channels "
    "(--space.channels, --train.channels)"
)


def _run(command: str, args: list[str]) -> int:
    if command not in COMMANDS:
        raise OcheError(f"unknown command {command!r}{nearest(command, [*COMMANDS])}; commands: {', '.join(COMMANDS)}")
    if several() and command not in SHARED:
        raise OcheError(
            f"oche {command} is no work for several ranks, {', '.join(SHARED)} are; start it without torchrun"
        )
    module = import_module(f"oche.cli.{COMMANDS[command][0]}")
    run = getattr(module, command.replace("list", "list_things"))
    try:
        return run(args) or 0
    except Exception as error:
        if type(error).__name__ == "Interrupted":
            return 130
        from oche.core.memory import out_of_memory

        if out_of_memory(error):  # not in a step, where it is tried which batch would fit
            print(f"oche: {_SMALLER}", file=sys.stderr)
            return 1
        raise
