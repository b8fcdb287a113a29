"""A discrete cell on the compiled kernels: preprocessing, nodes and concatenation as one function with an explicit gradient.

Every state is a sum of terms on earlier states; preprocessed inputs are states with one term. All first stages that read a
state compute on one image after another, while it is in a near cache, and so do their gradients. The formulas are those of
`oche.kernels.cpu.node`. With drop path, f the factor of an edge for an image::

    node = Σ_i f_i (γ_i r_i (z_i − m_i) + β_i)

Maps are dense in any number of channels. Cells with other operations (dense k × k convolutions, which torch computes faster, and
those of users) compute as plain modules.

Shapes: B images, C channels, H × W pixels; D edges that can drop.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from oche.kernels.cpu.node import norm_flags, ops, refuse_second_derivative
from oche.kernels.op_terms import Pool, Skip, Stage, parse_operation
from oche.networks.drop_path import EdgeFactors, can_drop
from oche.networks.forms import DiscreteCell
from oche.networks.operations import Zero

KINDS = {"stages": 0, "largest": 1, "mean": 2, "source": 3}


@dataclass(frozen=True)
class Piece:
    """A term of a state: an operation on state ``source``. ``row``: of its factors of drop path, −1 for none."""

    operation: tuple[Stage, ...] | Pool | Skip
    source: int
    row: int

    @property
    def stages(self) -> tuple[Stage, ...]:
        return self.operation if isinstance(self.operation, tuple) else ()

    def code(self) -> list[int]:
        operation = self.operation
        kind, stride = KINDS["stages"], 1
        if isinstance(operation, Pool):
            kind, stride = KINDS["largest" if operation.largest else "mean"], operation.stride
        elif isinstance(operation, Skip):
            kind = KINDS["source"]
        units = [value for stage in self.stages for value in (*stage.form, *norm_flags(stage.norm))]
        return [kind, self.source, self.row, stride, len(self.stages), *units]


class CellProgram:
    """The description of a cell as the kernels read it (see csrc/discrete.h), and the tensors that belong to it."""

    def __init__(self, cell: DiscreteCell, pieces: dict[int, list[Piece]]) -> None:
        """``pieces``: the terms of each state that is no input, in order."""
        shift = cell.cell.inputs * bool(cell.preprocessing)
        self.states, self.rows = pieces, sum(map(can_drop, cell.ops))
        self.concat = [state + shift for state in cell.cell.concat]
        self.inputs = cell.cell.inputs

    @cached_property
    def norms(self) -> list[nn.BatchNorm2d]:
        return [stage.norm for terms in self.states.values() for piece in terms for stage in piece.stages]

    @cached_property
    def reached(self) -> set[int]:
        """The states that the output depends on. Weights of others get no gradient, as in plain modules, so that weight decay
        does not move them.
        """
        found: set[int] = set()
        ahead = [*self.concat]
        while ahead:
            if (state := ahead.pop()) not in found:
                found.add(state)
                ahead += [piece.source for piece in self.states.get(state, ())]
        return found

    def code(self) -> list[int]:
        """Return the integers that csrc/discrete.h reads. Whether running statistics move may change, so they are not kept."""
        terms = [value for t in self.states.values() for value in (len(t), *(v for piece in t for v in piece.code()))]
        return [self.inputs, len(self.states), len(self.concat), *self.concat, *terms]

    def numbers(self) -> list[float]:
        return [float(number) for norm in self.norms for number in (norm.eps, norm.momentum or 0.0)]

    def parameters(self) -> list[Tensor]:
        return [
            parameter if state in self.reached else parameter.detach()
            for state, terms in self.states.items()
            for piece in terms
            for stage in piece.stages
            for parameter in stage.parameters
        ]

    def buffers(self) -> list[Tensor]:
        moved = (norm for norm in self.norms if norm_flags(norm)[1])
        return [b for n in moved for b in (n.running_mean, n.running_var, n.num_batches_tracked) if b is not None]


_PROGRAMS: WeakKeyDictionary[nn.Module, CellProgram | None] = WeakKeyDictionary()


def program_of(cell: DiscreteCell) -> CellProgram | None:
    """Return the program of ``cell``, None if an operation of it is not known to the kernels. Cached by cell."""
    if cell not in _PROGRAMS:
        _PROGRAMS[cell] = _program(cell)
    return _PROGRAMS[cell]


def _program(cell: DiscreteCell) -> CellProgram | None:
    inputs, before = cell.cell.inputs, cell.preprocessing
    shift = inputs if before else 0  # states of the genotype follow the inputs and the preprocessed inputs
    states: dict[int, list[tuple[nn.Module, int, int]]] = {inputs + i: [(m, i, -1)] for i, m in enumerate(before)}
    row = 0
    for op, (_, source, target) in zip(cell.ops, cell.cell.edges, strict=True):
        states.setdefault(target + shift, []).append((op, source + shift, row if can_drop(op) else -1))
        row += can_drop(op)
    if sorted(states) != list(range(inputs, inputs + len(states))):
        return None  # nodes without edges
    pieces: dict[int, list[Piece]] = {}
    for state in sorted(states):
        pieces[state] = []
        for module, source, at in states[state]:
            operation = parse_operation(module)
            if isinstance(module, Zero):
                continue
            if operation is None or not _is_known(operation):
                return None
            pieces[state].append(Piece(operation, source, at))
        if not pieces[state]:
            return None
    return CellProgram(cell, pieces)


def _is_known(operation: tuple[Stage, ...] | Pool | Skip) -> bool:
    if isinstance(operation, Pool):
        return operation.norm is None
    if isinstance(operation, Skip):
        return True
    return all(stage.depthwise is not None or stage.kernel in (0, 1) for stage in operation)


class Cell(torch.autograd.Function):
    """``apply(program, factors, bf16, inputs, *tensors)`` returns the output of a cell (B, C, H, W).

    ``tensors``: the ``inputs`` (a count), then the parameters of the program. factors (D, B) of drop path, or empty.
    ``bf16``: whether products multiply numbers rounded to bfloat16; sums are float32.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, program: CellProgram, factors: Tensor, bf16: bool, inputs: int, *tensors: Tensor
    ) -> Tensor:
        ctx.code, ctx.numbers, ctx.inputs, ctx.bf16 = program.code(), program.numbers(), inputs, bf16
        out, saved = ops.cell_forward(
            tensors[:inputs], factors, tensors[inputs:], program.buffers(), ctx.code, ctx.numbers, bf16
        )
        ctx.count = len(tensors)
        ctx.save_for_backward(factors, *tensors, *saved)
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:  # type: ignore[override]
        refuse_second_derivative()
        factors, *rest = ctx.saved_tensors
        tensors, saved = rest[: ctx.count], rest[ctx.count :]
        gx, gparams = ops.cell_backward(
            g, tensors[: ctx.inputs], factors, tensors[ctx.inputs :], ctx.code, ctx.numbers, saved, ctx.bf16
        )
        found = [v if n else None for v, n in zip([*gx, *gparams], ctx.needs_input_grad[4:], strict=True)]
        return None, None, None, None, *found


def has_bf16() -> bool:
    """Whether the kernels were compiled for a processor that multiplies bfloat16 numbers (AVX-512 BF16)."""
    return ops.has_bf16()


def compute(cell: DiscreteCell, inputs: list[Tensor], factors: EdgeFactors) -> Tensor | None:
    """Return the output of ``cell`` in training, None if the kernels do not know it; then no factor was taken."""
    bf16 = torch.is_autocast_enabled("cpu")
    if not cell.training or not inputs[0].is_floating_point() or (bf16 and not has_bf16()):
        return None
    if (program := program_of(cell)) is None:
        return None
    if bf16:
        inputs = [x.float() for x in inputs]
    drops = [next(factors).flatten() for _ in range(program.rows)] if factors is not None else []
    inputs = [x if i in program.reached else x.detach() for i, x in enumerate(inputs)]
    rows = torch.stack(drops).to(inputs[0].dtype) if drops else inputs[0].new_empty(0)
    return Cell.apply(program, rows, bf16, len(inputs), *inputs, *program.parameters())
