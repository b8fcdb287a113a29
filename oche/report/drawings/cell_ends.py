"""What stands at the two ends of a drawn cell: the names of its inputs, and how its nodes make its output."""

from __future__ import annotations

from dataclasses import dataclass

from oche.core.architecture import Cell

PREVIOUS = ("c_{k-2}", "c_{k-1}")  # the inputs of a convolutional cell: the two cells before it


@dataclass(frozen=True)
class Ends:
    """``joins`` is what the output is of its nodes, "concat" or "mean"; empty where it is one of them."""

    inputs: tuple[str, ...]
    output: str
    joins: str
    node: int  # number of the output, the one after the last node where it is none of them


def ends(cell: Cell, inputs: tuple[str, ...] = ()) -> Ends:
    """The ends of ``cell``; names ``inputs`` are used where there are as many.

    A cell of one input whose output is its last node alone, of several, is one of NAS-Bench-201; any other cell of one
    input is a recurrent one.
    """
    last = max(cell.nodes)
    if cell.inputs != 1:
        names, output, joins = tuple(f"in_{i}" for i in range(cell.inputs)), "c_k", "concat"
    elif cell.concat == (last,) and len(cell.nodes) > 1:
        names, output, joins = ("in",), "out", ""
    else:
        names, output, joins = ("x, h",), "h_t", "mean"
    return Ends(inputs if len(inputs) == cell.inputs else names, output, joins, last + 1 if joins else last)
