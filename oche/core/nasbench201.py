"""NAS-Bench-201 (Dong & Yang, ICLR 2020, 2001.00326): the text form of its cells, and its table of accuracies.

The text of a cell lists, node by node, "operation~source" of every incoming edge:
``|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|``.
Node 0 is the cell's input, node 3 its output; the genotype of such a cell has all six edges, "none" among them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from oche.core.architecture import NONE, Cell, Genotype
from oche.core.errors import OcheError, did_you_mean

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")

CELL = "cell"  # the group's name in genotypes
EDGES = tuple((i, j) for j in range(1, 4) for i in range(j))
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")  # in the published order
CELL_COUNT = len(OPERATIONS) ** len(EDGES)  # 15,625 cells
EXAMPLE = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"


def parse(arch: str | Genotype) -> Genotype:
    """The genotype of a cell, all six edges by target and source; those that a `Genotype` leaves out are "none".

    ``arch``: the benchmark's text, the text of a genotype, or a genotype. Raises `OcheError` for anything else.
    """
    if isinstance(arch, str) and not arch.lstrip().startswith("|"):
        if "(" not in arch:
            raise OcheError(f"not a cell of NAS-Bench-201: {arch[:80]!r}; write {EXAMPLE}")
        arch = Genotype.parse(arch)
    ops = _of_text(arch) if isinstance(arch, str) else _of_genotype(arch)
    return Genotype({CELL: Cell(tuple((op, *edge) for op, edge in zip(ops, EDGES, strict=True)), (3,))})


def to_text(arch: str | Genotype) -> str:
    """The benchmark's text of a cell. Raises `OcheError` for what is none of its cells."""
    cell = parse(arch).cells[CELL]
    nodes = [[f"{op}~{i}" for op, i, j in cell.edges if j == node] for node in cell.nodes]
    return "+".join(f"|{'|'.join(edges)}|" for edges in nodes)


def _of_text(text: str) -> list[str]:
    """The operations of the six edges, in order."""
    words = re.findall(r"[^|+~\s]+~\d+", text)
    ops = [word.rpartition("~")[0] for word in words]
    if len(ops) == len(EDGES):
        of = dict(zip(EDGES, ops, strict=True))
        if "".join(text.split()) == "+".join("|" + "".join(f"{of[i, j]}~{i}|" for i in range(j)) for j in range(1, 4)):
            return ops
    raise OcheError(
        f"not a cell of NAS-Bench-201: {text[:120]!r}; write all six edges (none~0 where nothing flows) as {EXAMPLE}"
    )


def _of_genotype(genotype: Genotype) -> list[str]:
    if [*genotype.cells] != [CELL]:
        raise OcheError(
            f"this genotype has cells {', '.join(map(repr, genotype.cells))}; one of NAS-Bench-201 has only {CELL!r}"
        )
    cell = genotype.cells[CELL]
    of = {(i, j): op for op, i, j in cell.edges}
    if len(of) != len(cell.edges) or not set(of) <= set(EDGES) or cell.concat != (3,):
        raise OcheError(
            "a cell of NAS-Bench-201 has one operation on each of the edges "
            f"{', '.join(f'{i} to {j}' for i, j in EDGES)} and node 3 as its output; found {genotype}"
        )
    return [of.get(edge, NONE) for edge in EDGES]


def canonical(arch: str | Genotype) -> str:
    """A text that is the same for cells that the benchmark calls isomorphic; there are 6,466 of them (2001.00326 §2.1).

    The rule is that of the released code (``to_unique_str`` of D-X-Y/AutoDL-Projects): each node is the sorted sum of
    what enters it, where a skip connection is its source's sum, and "none" or anything of a zero node is zero. It compares
    texts, in which zeros stay and sums within sums are not sorted into one: cells that it tells apart can still have the
    same function. (Up to that, 4,930 would be left.) The form of the text is therefore part of the rule.
    """
    zero = "#"
    nodes = {0: "0"}
    cell = parse(arch).cells[CELL]
    for node in cell.nodes:
        terms = []
        for op, source, target in cell.edges:
            if target != node:
                continue
            if op == NONE or nodes[source] == zero:
                terms.append(zero)
            else:
                terms.append(nodes[source] if op == "skip_connect" else f"({nodes[source]})@{op}")
        nodes[node] = "+".join(sorted(terms))
    return nodes[3]


@dataclass(frozen=True)
class Entry:
    """What the table knows of one cell; accuracies in percent, regrets in percentage points below the best, by column."""

    arch: str
    accuracy: dict[str, float]
    rank: dict[str, int]  # 1 is best of all 15,625
    rank_distinct: dict[str, int]  # 1 is best of the 6,466 classes of isomorphic cells, by the mean of each
    regret: dict[str, float]
    isomorphic: tuple[str, ...]  # other cells of its class


class Table:
    """The accuracies of all 15,625 cells, in memory.

    ``path``: a Parquet file with one row for each cell and the columns

    - ``arch``: the cell's text, as above, each cell once, in any order;
    - any number of numeric columns of accuracies in percent. Named as ``{data}_{part}_{epochs}ep``, with data one of
      cifar10, cifar100, imagenet16 (ImageNet16-120), part one of valid, test, epochs 12 or 200: the benchmark's two
      training lengths. ``cifar10_test_200ep``, the first choice of all methods here, must be there;
    - ``index``, if there is one, is left alone.

    A file can be made from the benchmark's own (NAS-Bench-201-v1_1-096897.pth, or NATS-Bench's tss) by its API. The file
    that the project's figures come from names no source in its metadata (written by pandas); its 200-epoch columns have
    the values that the papers print for that version, means over seeds, such as 94.37 / 73.51 / 47.31 for the best.

    Raises `OcheError` for a file that is not such a table.
    """

    main = "cifar10_test_200ep"

    def __init__(self, path: str | Path) -> None:
        import numpy as np

        self.path = Path(path)
        columns = _read(self.path)
        self.archs: tuple[str, ...] = tuple(map(self._asked(to_text), columns.pop("arch")))
        self._row = {arch: i for i, arch in enumerate(self.archs)}
        if len(self._row) != CELL_COUNT or len(self.archs) != CELL_COUNT:
            raise OcheError(
                f"{path} has {len(self.archs)} rows of {len(self._row)} different cells; the table needs each of the {CELL_COUNT} once"
            )
        self._values: dict[str, np.ndarray] = {name: np.asarray(v, dtype=np.float64) for name, v in columns.items()}
        for name, values in self._values.items():
            if not np.isfinite(values).all():
                raise OcheError(
                    f"{path}: column {name} has empty cells; give an accuracy for each of the {CELL_COUNT} cells"
                )

    def _asked(self, read: Callable[[str], T]) -> Callable[[str], T]:
        """``read`` with errors that name the file."""

        def named(text: str) -> T:
            try:
                return read(text)
            except OcheError as error:
                raise OcheError(f"{self.path}: {error}") from None

        return named

    def __len__(self) -> int:
        return len(self.archs)

    @property
    def columns(self) -> tuple[str, ...]:
        """The accuracies that the table has, by name."""
        return tuple(self._values)

    @cached_property
    def classes(self) -> dict[str, list[int]]:
        """Rows of isomorphic cells, by `canonical` form."""
        found: dict[str, list[int]] = {}
        for i, arch in enumerate(self.archs):
            found.setdefault(canonical(arch), []).append(i)
        return found

    @cached_property
    def _class_means(self) -> dict[str, np.ndarray]:
        import numpy as np

        return {
            name: np.array([values[rows].mean() for rows in self.classes.values()])
            for name, values in self._values.items()
        }

    def accuracy(self, arch: str | Genotype, column: str = main) -> float:
        """Accuracy of a cell, in percent. Raises `OcheError` for an unknown cell or column."""
        return float(self._column(column)[self._find(arch)])

    def best(self, column: str = main) -> tuple[str, float]:
        """The best cell and its accuracy in percent."""
        values = self._column(column)
        i = int(values.argmax())
        return self.archs[i], float(values[i])

    def regret(self, arch: str | Genotype, column: str = main) -> float:
        """How far a cell is below the best, in percentage points."""
        return self.best(column)[1] - self.accuracy(arch, column)

    def rank(self, arch: str | Genotype, column: str = main) -> int:
        """1 plus the number of better cells."""
        values = self._column(column)
        return 1 + int((values > values[self._find(arch)]).sum())

    def rank_distinct(self, arch: str | Genotype, column: str = main) -> int:
        """1 plus the number of better classes of isomorphic cells, each as good as the mean of its members."""
        self._column(column)
        rows = self.classes[canonical(self.archs[self._find(arch)])]
        means = self._class_means[column]
        return 1 + int((means > self._values[column][rows].mean()).sum())

    def isomorphic(self, arch: str | Genotype) -> tuple[str, ...]:
        """The other cells of its class: the same network up to the naming of nodes, trained anew."""
        own = self._find(arch)
        return tuple(self.archs[i] for i in self.classes[canonical(self.archs[own])] if i != own)

    def query(self, arch: str | Genotype) -> Entry:
        """All that the table knows of a cell."""
        text = self.archs[self._find(arch)]
        each = self.columns
        return Entry(
            text,
            {c: self.accuracy(text, c) for c in each},
            {c: self.rank(text, c) for c in each},
            {c: self.rank_distinct(text, c) for c in each},
            {c: self.regret(text, c) for c in each},
            self.isomorphic(text),
        )

    def describe(self, arch: str | Genotype) -> str:
        """What `query` says, as lines for people."""
        entry, count = self.query(arch), len(self.classes)
        width = max(map(len, self.columns))
        rows = [
            f"{c:<{width}}  {entry.accuracy[c]:8.2f} %  {entry.rank[c]:>6,} of {len(self):,}  "
            f"{entry.rank_distinct[c]:>5,} of {count:,} distinct  {entry.regret[c]:6.2f} below the best"
            for c in self.columns
        ]
        same = [f"isomorphic: {other}" for other in entry.isomorphic] or ["isomorphic: no other cell"]
        return "\n".join([entry.arch, *rows, *same])

    def _column(self, name: str) -> np.ndarray:
        if name not in self._values:
            raise OcheError(
                f"{self.path} has no column {name!r}{did_you_mean(name, list(self.columns))}; it has {', '.join(self.columns)}"
            )
        return self._values[name]

    def _find(self, arch: str | Genotype) -> int:
        if isinstance(arch, str) and arch in self._row:
            return self._row[arch]
        cell = parse(arch).cells[CELL]
        if strange := [op for op, _, _ in cell.edges if op not in OPERATIONS]:
            raise OcheError(
                f"NAS-Bench-201 has no operation {strange[0]!r}{did_you_mean(strange[0], OPERATIONS)}; it has {', '.join(OPERATIONS)}"
            )
        return self._row[to_text(arch)]


def _read(path: Path) -> dict[str, list]:
    """The columns of a table: "arch", and those with numbers other than "index"."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise OcheError(
            f"there is no table at {path}; give a Parquet file of NAS-Bench-201 accuracies, as oche.core.nasbench201.Table describes"
        )
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise OcheError(f"{path} is no Parquet file: {str(error).splitlines()[0]}") from None
    numbers = [
        f.name
        for f in table.schema
        if f.name != "index" and (pa.types.is_floating(f.type) or pa.types.is_integer(f.type))
    ]
    if "arch" not in table.column_names or Table.main not in numbers:
        raise OcheError(
            f"{path} has columns {', '.join(table.column_names)}; a table of NAS-Bench-201 needs arch and {Table.main}"
        )
    if not pa.types.is_string(table.schema.field("arch").type) or table["arch"].null_count:
        raise OcheError(f"{path}: column arch must hold the text of a cell in every row, such as {EXAMPLE}")
    return {name: table[name].to_pylist() for name in ["arch", *numbers]}
