"""The final network: discrete cells stacked, trained from scratch (1806.09055 §3.1.2 and appendix A).

Shapes: B images, C channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from oche.core.architecture import Genotype
from oche.core.errors import OcheError
from oche.networks.backbone import FeatureMap
from oche.networks.drop_path import DropPathNetwork, EdgeFactors, apply_drop_path
from oche.networks.forms import FormModule
from oche.networks.macro import CellPlan, Skeleton, describe
from oche.networks.operations import FactorizedReduce, find_operation, relu_conv_bn


class FinalCell(FormModule):
    """A discrete cell."""

    def __init__(self, genotype: Genotype, plan: CellPlan) -> None:
        super().__init__()
        cell = genotype.cells[plan.kind]
        self.cell = cell
        first = FactorizedReduce if plan.previous_reduced else relu_conv_bn
        self.preprocess0 = first(plan.c_prev_prev, plan.channels)
        self.preprocess1 = relu_conv_bn(plan.c_prev, plan.channels)
        self.ops = nn.ModuleList(
            find_operation(op).build(plan.channels, plan.stride if source < cell.inputs else 1, True)
            for op, source, _ in cell.edges
        )

    def forward(self, s0: Tensor, s1: Tensor, drops: EdgeFactors) -> Tensor:
        apply = self.form.apply
        states = {0: apply(self.preprocess0, s0), 1: apply(self.preprocess1, s1)}
        for node in self.cell.nodes:
            total = None
            for op, (_, source, target) in zip(self.ops, self.cell.edges, strict=True):
                if target != node:
                    continue
                out = apply_drop_path(apply(op, states[source]), op, drops)
                total = out if total is None else total + out
            assert total is not None  # every node of a Cell has an incoming edge
            states[node] = total
        return torch.cat([states[node] for node in self.cell.concat], 1)


class AuxiliaryHead(nn.Module):
    """A second classifier on a map of ``size``, for training only (1806.09055 appendix A.1; Inception's).

    Average pooling to 2 × 2 with windows that reproduce the published 5 × 5 of stride 3 at 8 × 8 and of stride 2 at 7 × 7.
    Deviation 1 from the published ImageNet form: the last BatchNorm, which it left out by a typo, is there.
    """

    def __init__(self, channels: int, classes: int, size: tuple[int, int]) -> None:
        super().__init__()
        stride = _each(lambda s: max(1, 3 * s // 8), size)
        kernel = _each(lambda s: max(1, s - max(1, 3 * s // 8)), size)
        corner = _each(lambda s: min(s, 2), size)  # a 1-pixel side has nothing to pool to 2
        self.features = nn.Sequential(
            nn.ReLU(),
            nn.AvgPool2d(kernel, stride),
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, corner, bias=False),
            nn.BatchNorm2d(768),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.classifier = nn.Linear(768, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


def _each(f: Callable[[int], int], size: tuple[int, int]) -> tuple[int, int]:
    return f(size[0]), f(size[1])


def maps(stem: nn.Module, cells: Iterable[nn.Module], x: Tensor, drops: EdgeFactors) -> Iterator[Tensor]:
    """Both inputs of the first cell, then what each cell gives; see `Skeleton.points`."""
    s0, s1 = stem(x)
    yield from (s0, s1)
    for cell in cells:
        s0, s1 = s1, cell(s0, s1, drops)
        yield s1


class FinalNetwork(DropPathNetwork):
    """Maps (B, in_channels, H, W) to logits (B, classes); in training with an auxiliary head to (logits, auxiliary logits).

    ``drop_path`` is the probability in force; training raises it as it goes.
    """

    maps = staticmethod(maps)

    def __init__(self, genotype: Genotype, skeleton: Skeleton, auxiliary: bool = False, drop_path: float = 0.0) -> None:
        super().__init__()
        if not 0 <= drop_path < 1:
            raise OcheError(f"drop_path={drop_path} is no probability below 1; use 0 <= drop_path < 1")
        plans = skeleton.plan(lambda kind: len(_cell(genotype, kind).concat))
        self.genotype, self.skeleton = genotype, skeleton
        self.drop_path = drop_path
        self.stem = skeleton.make_stem()
        self.cells = nn.ModuleList(FinalCell(genotype, plan) for plan in plans)
        width, self.auxiliary_after = len(_cell(genotype, plans[-1].kind).concat), 2 * skeleton.cells // 3
        self.head = skeleton.make_head(width * plans[-1].channels, plans[-1].size)
        self.auxiliary: AuxiliaryHead | None = None
        if auxiliary:
            at = plans[self.auxiliary_after]
            self.auxiliary = AuxiliaryHead(
                len(_cell(genotype, at.kind).concat) * at.channels, skeleton.classes, at.size
            )

    def forward(self, x: Tensor, drops: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """``drops`` (D, B): those of drop path, by default drawn anew; see `DropPathNetwork.drops`."""
        last, extra = x, None
        for i, last in enumerate(self.maps(self.stem, self.cells, x, self.rows(x, drops)), -2):
            if i == self.auxiliary_after and self.auxiliary is not None and self.training:
                extra = self.auxiliary(last)
        logits = self.head(last)
        return logits if extra is None else (logits, extra)

    @property
    def points(self) -> list[FeatureMap]:
        """The maps that it computes, in order."""
        return self.skeleton.points(lambda kind: len(_cell(self.genotype, kind).concat))

    def describe(self) -> list[dict]:
        """One row a part, for reports: {"name", "channels", "size"}."""
        outputs = lambda kind: len(_cell(self.genotype, kind).concat)  # noqa: E731
        rows = describe(self.skeleton, self.skeleton.plan(outputs), outputs)
        if self.auxiliary is not None:  # after the cell that it reads
            at = self.auxiliary_after + 1 + (self.skeleton.stem != "none")
            rows.insert(at, {"name": "auxiliary", "channels": self.skeleton.classes, "size": [1, 1]})
        return rows


def _cell(genotype: Genotype, kind: str):
    if kind not in genotype.cells:
        raise OcheError(
            f"the network has {kind!r} cells but the genotype has only {', '.join(map(repr, genotype.cells))}; "
            "give one that has both, or set reductions"
        )
    return genotype.cells[kind]
