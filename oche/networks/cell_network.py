"""The final network of DARTS: discrete cells, stacked and trained from scratch (1806.09055 §3.1.2 and appendix A).

Shapes: B images, C channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from oche.core.architecture import Genotype
from oche.core.arguments import checked
from oche.core.errors import OcheError, plural
from oche.networks.backbone import FeatureMap
from oche.networks.drop_path import DropPathNetwork, EdgeFactors, apply_drop_path
from oche.networks.forms import DiscreteCell
from oche.networks.macro import CellPlan, Skeleton, describe
from oche.networks.operations import FactorizedReduce, find_operation, relu_conv_bn


class FinalCell(DiscreteCell):
    """A discrete cell: maps two inputs (B, c_prev_prev, ·, ·) and (B, c_prev, ·, ·) to its output nodes, concatenated."""

    def __init__(self, genotype: Genotype, plan: CellPlan) -> None:
        super().__init__()
        cell = genotype.cells[plan.kind]
        self.cell = cell
        preprocess0 = FactorizedReduce if plan.previous_reduced else relu_conv_bn
        self.preprocess0 = preprocess0(plan.c_prev_prev, plan.channels)
        self.preprocess1 = relu_conv_bn(plan.c_prev, plan.channels)
        self.ops = nn.ModuleList(
            find_operation(op).build(plan.channels, plan.stride if source < cell.inputs else 1, True)
            for op, source, _ in cell.edges
        )

    @property
    def preprocessing(self) -> tuple[nn.Module, ...]:
        return self.preprocess0, self.preprocess1

    def forward(self, s0: Tensor, s1: Tensor, factors: EdgeFactors) -> Tensor:
        """Return the output for ``s0`` and ``s1``, the outputs of the two cells before this one.

        ``factors``: those of drop path, one edge after another.
        """
        if (whole := self.form.discrete(self, [s0, s1], factors)) is not None:
            return whole
        apply = self.form.apply_final
        states = {0: apply(self.preprocess0, s0), 1: apply(self.preprocess1, s1)}
        for node in self.cell.nodes:
            total = None
            for op, (_, source, target) in zip(self.ops, self.cell.edges, strict=True):
                if target != node:
                    continue
                out = apply_drop_path(apply(op, states[source]), op, factors)
                total = out if total is None else total + out
            assert total is not None  # every node of a Cell has an incoming edge
            states[node] = total
        return torch.cat([states[node] for node in self.cell.concat], 1)


class AuxiliaryHead(nn.Module):
    """A second classifier on a map of ``size`` (H, W), for training only (1806.09055 appendix A.1; from Inception).

    It pools the map to 2 × 2 by averages. The windows reproduce the published ones: 5 × 5 of stride 3 at 8 × 8, of stride
    2 at 7 × 7.

    Deviation 1 from the published ImageNet form, which leaves out the last BatchNorm by a typo: it is there.
    """

    def __init__(self, channels: int, classes: int, size: tuple[int, int]) -> None:
        super().__init__()
        stride = _each(lambda s: max(1, 3 * s // 8), size)
        kernel = _each(lambda s: max(1, s - max(1, 3 * s // 8)), size)
        pooled = _each(lambda s: min(s, 2), size)  # a side of 1 pixel stays 1
        self._windows = tuple(zip(kernel, stride, pooled, strict=True))
        self.features = nn.Sequential(
            nn.ReLU(),
            nn.AvgPool2d(kernel, stride),
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, pooled, bias=False),
            nn.BatchNorm2d(768),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.classifier = nn.Linear(768, classes)

    def fits(self, size: Sequence[int]) -> bool:
        """Whether a map of ``size`` (H, W) is pooled to the size that the layers take."""
        return all((s - k) // stride + 1 == n for s, (k, stride, n) in zip(size, self._windows, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, classes) for a map x (B, channels, H, W)."""
        return self.classifier(self.features(x))


def _each(f: Callable[[int], int], size: tuple[int, int]) -> tuple[int, int]:
    """Return (f(H), f(W))."""
    return f(size[0]), f(size[1])


def maps(stem: nn.Module, cells: Iterable[nn.Module], x: Tensor, factors: EdgeFactors) -> Iterator[Tensor]:
    """Yield both inputs of the first cell, then the output of each cell; `Skeleton.feature_maps` describes them."""
    s0, s1 = stem(x)
    yield from (s0, s1)
    for cell in cells:
        s0, s1 = s1, cell(s0, s1, factors)
        yield s1


@checked
class FinalNetwork(DropPathNetwork):
    """Maps images (B, in_channels, H, W) to logits (B, classes).

    In training with an auxiliary head it returns (logits, auxiliary logits). ``drop_path`` is the current probability of
    dropping the output of an edge; the training raises it step by step.

    Raises `OcheError` for a probability outside [0, 1) and for a genotype without a cell type that the network needs.
    """

    maps = staticmethod(maps)

    def __init__(self, genotype: Genotype, skeleton: Skeleton, auxiliary: bool = False, drop_path: float = 0.0) -> None:
        super().__init__()
        if not 0 <= drop_path < 1:
            raise OcheError(f"drop_path={drop_path} is not a probability below 1; use 0 <= drop_path < 1")
        plans = skeleton.plan(lambda kind: len(_cell(genotype, kind).concat))
        self.genotype, self.skeleton = genotype, skeleton
        self.drop_path = drop_path
        self.stem = skeleton.make_stem()
        self.cells = nn.ModuleList(FinalCell(genotype, plan) for plan in plans)
        width, self.auxiliary_after = len(_cell(genotype, plans[-1].kind).concat), 2 * skeleton.cells // 3
        self.head = skeleton.make_head(width * plans[-1].channels, plans[-1].size)
        self.auxiliary: AuxiliaryHead | None = None
        if auxiliary:
            plan = plans[self.auxiliary_after]
            channels = len(_cell(genotype, plan.kind).concat) * plan.channels
            self.auxiliary = AuxiliaryHead(channels, skeleton.classes, plan.size)

    def forward(self, x: Tensor, drops: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """``drops`` (D, B): the factors of drop path, drawn anew by default; see `DropPathNetwork.drops`.

        Raises `OcheError` for images of a size that an auxiliary or MLP head was not built for.
        """
        last, auxiliary_logits = x, None
        if self.skeleton.head and tuple(x.shape[2:]) != self.skeleton.image:
            raise self._wrong_size(x, "MLP")
        for i, last in enumerate(self.maps(self.stem, self.cells, x, self.edge_factors(x, drops)), -2):  # cells from 0
            if i == self.auxiliary_after and self.auxiliary is not None and self.training:
                if not self.auxiliary.fits(last.shape[2:]):
                    raise self._wrong_size(x, "auxiliary")
                auxiliary_logits = self.auxiliary(last)
        logits = self.head(last)
        return logits if auxiliary_logits is None else (logits, auxiliary_logits)

    def _wrong_size(self, x: Tensor, head: str) -> OcheError:
        found, built = (f"{size[0]}x{size[1]}" for size in (x.shape[2:], self.skeleton.image))
        return OcheError(
            f"images are {found}, and the {head} head was built for {built}; write image=({x.shape[2]}, {x.shape[3]}) in "
            "oche.build, or scale the images"
        )

    @property
    def in_channels(self) -> int:
        """Channels of the images."""
        return self.skeleton.in_channels

    @property
    def feature_maps(self) -> list[FeatureMap]:
        """The feature maps that the network computes, in order."""
        return self.skeleton.feature_maps(lambda kind: len(_cell(self.genotype, kind).concat))

    def describe(self) -> list[dict]:
        """Return one row for each part of the network, for reports: {"name", "channels", "size"}."""
        outputs = lambda kind: len(_cell(self.genotype, kind).concat)  # noqa: E731
        rows = describe(self.skeleton, self.skeleton.plan(outputs), outputs)
        if self.auxiliary is not None:  # behind the row of the cell whose output it takes
            at = self.auxiliary_after + 1 + (self.skeleton.stem != "none")
            rows.insert(at, {"name": "auxiliary", "channels": self.skeleton.classes, "size": [1, 1]})
        return rows


def _cell(genotype: Genotype, kind: str):
    """Return the cell of a ``kind``. Raises `OcheError` if the genotype has none, or one that does not take two inputs."""
    if kind not in genotype.cells:
        raise OcheError(
            f"the network has {kind!r} cells but the genotype has only {', '.join(map(repr, genotype.cells))}; "
            "give one that has both, or set reductions"
        )
    if (inputs := genotype.cells[kind].inputs) != 2:
        raise OcheError(
            f"the {kind!r} cell has {plural(inputs, 'input')}, and the network gives two, the outputs of the two cells "
            "before; number its first node 2"
        )
    return genotype.cells[kind]
