"""NAS-Bench-201 (Dong & Yang, ICLR 2020, 2001.00326): the text form of its cells, and the table of their accuracies.

The text of a cell lists, node by node, "operation~source" of every incoming edge:
``|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|``.
Node 0 is the input of the cell and node 3 its output. The genotype of such a cell has all six edges, also those with "none".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from oche.core.architecture import NONE, Cell, Genotype
from oche.core.errors import OcheError, did_you_mean
from oche.core.extras import need

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")

CELL = "cell"  # the name of the cell in genotypes
EDGES = tuple((i, j) for j in range(1, 4) for i in range(j))  # (source, target)
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")  # in the published order
CELL_COUNT = len(OPERATIONS) ** len(EDGES)  # 15,625 cells
_TEXT = re.compile(r"\+".join(r"\|" + "".join(rf"([^|+~\s]+)~{i}\|" for i in range(j)) for j in range(1, 4)))
EXAMPLE = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"


def parse(arch: str | Genotype) -> Genotype:
    """Return the genotype of a cell with all six edges, ordered by target and source. Edges that ``arch`` leaves out are "none".

    ``arch``: the text of the benchmark, alone or in a line of a log; another form that `Genotype.parse` reads; or a genotype.
    Raises `OcheError` for anything else.
    """
    if isinstance(arch, str):
        if published := _TEXT.fullmatch(arch):
            return _genotype(published.groups())
        if not {"(", "|", "{", "["} & set(arch):
            raise OcheError(f"not a cell of NAS-Bench-201: {arch[:80]!r}; write {EXAMPLE}")
        if "|" in arch and "Genotype" not in arch:
            return _parsed_text(arch)
        arch = Genotype.parse(arch)
    return _with_all_edges(arch)


def _parsed_text(text: str) -> Genotype:
    """Return the genotype of the cell in ``text``. Raises `OcheError` for a text that is not of the benchmark's cells."""
    try:
        return _with_all_edges(Genotype.parse(text))
    except OcheError as error:
        if " genotypes (" in str(error):  # it holds several cells
            raise
        raise OcheError(
            f"not a cell of NAS-Bench-201: {text[:120]!r}; write all six edges (none~0 where nothing flows) as {EXAMPLE}"
        ) from None


def _with_all_edges(genotype: Genotype) -> Genotype:
    return _genotype(_operations_in_genotype(genotype))


def _genotype(ops: Sequence[str]) -> Genotype:
    """Return the genotype with ``ops`` on the edges, in the order of `EDGES`."""
    return Genotype({CELL: Cell(tuple((op, *edge) for op, edge in zip(ops, EDGES, strict=True)), (3,))})


def to_text(arch: str | Genotype) -> str:
    """Return the benchmark's text of a cell. Raises `OcheError` if ``arch`` is not a cell of the benchmark."""
    cell = parse(arch).cells[CELL]
    nodes = [[f"{op}~{i}" for op, i, j in cell.edges if j == node] for node in cell.nodes]
    return "+".join(f"|{'|'.join(edges)}|" for edges in nodes)


def _operations_in_genotype(genotype: Genotype) -> list[str]:
    """Return the operations of the six edges, in the order of `EDGES`; "none" for edges that ``genotype`` leaves out."""
    if [*genotype.cells] != [CELL]:
        raise OcheError(
            f"this genotype has cells {', '.join(map(repr, genotype.cells))}; one of NAS-Bench-201 has only {CELL!r}"
        )
    cell = genotype.cells[CELL]
    op_of = {(i, j): op for op, i, j in cell.edges}
    if len(op_of) != len(cell.edges) or not set(op_of) <= set(EDGES) or cell.concat != (3,):
        raise OcheError(
            "a cell of NAS-Bench-201 has one operation on each of the edges "
            f"{', '.join(f'{i} to {j}' for i, j in EDGES)} and node 3 as its output; found {genotype}"
        )
    return [op_of.get(edge, NONE) for edge in EDGES]


def canonical(arch: str | Genotype) -> str:
    """Return a text that is equal for cells that the benchmark calls isomorphic. There are 6,466 such texts (2001.00326 §2.1).

    The rule is that of the released code (``to_unique_str`` of D-X-Y/AutoDL-Projects). A node is the sorted sum of its
    incoming edges. A skip connection stands for the sum of its source; "none", and any operation on a zero node, is zero.
    The rule compares texts: zeros stay, and sums within sums are not merged into one. So two cells can compute the same
    function and still have different texts. (Otherwise 4,930 texts would be left.) The exact form of the text is
    therefore part of the rule.
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
    """The table's knowledge of one cell, by column: accuracies in percent, regrets in percentage points below the best cell."""

    arch: str
    accuracy: dict[str, float]
    rank: dict[str, int]  # 1 is best of all 15,625
    rank_distinct: dict[str, int]  # 1 is best of the 6,466 classes of isomorphic cells, by the mean of each
    regret: dict[str, float]
    isomorphic: tuple[str, ...]  # other cells of its class


class Table:
    """The accuracies of all 15,625 cells, in memory.

    ``path``: a Parquet file with one row for each cell and these columns:

    - ``arch``: the text of the cell; each cell once, in any order;
    - any number of numeric columns of accuracies in percent. The names are ``{data}_{part}_{epochs}ep``, with data one of
      cifar10, cifar100, imagenet16 (ImageNet16-120), part one of valid, test, and epochs 12 or 200, the two training lengths of
      the benchmark. ``cifar10_test_200ep``, the default of all methods here, must be there;
    - ``index`` is ignored.

    A file can be made from the benchmark's own (NAS-Bench-201-v1_1-096897.pth, or NATS-Bench's tss) with its API. The
    file behind the figures of this project names no source in its metadata (pandas wrote it). Its 200-epoch columns have
    the values that the papers print for that version, means over seeds, such as 94.37 / 73.51 / 47.31 for the best cell.

    Raises `OcheError` if the file is not such a table.
    """

    main = "cifar10_test_200ep"

    def __init__(self, path: str | Path) -> None:
        import numpy as np

        self.path = Path(path)
        columns = _read(self.path)
        self.archs: tuple[str, ...] = tuple(map(self._with_path_in_errors(to_text), columns.pop("arch")))
        self._row = {arch: i for i, arch in enumerate(self.archs)}
        if len(self._row) != CELL_COUNT or len(self.archs) != CELL_COUNT:
            raise OcheError(
                f"{path} has {len(self.archs)} rows of {len(self._row)} different cells; "
                f"the table needs each of the {CELL_COUNT} once"
            )
        self._values: dict[str, np.ndarray] = {name: np.asarray(v, dtype=np.float64) for name, v in columns.items()}
        for name, values in self._values.items():
            if not np.isfinite(values).all():
                raise OcheError(
                    f"{path}: column {name} has empty cells; give an accuracy for each of the {CELL_COUNT} cells"
                )

    def _with_path_in_errors(self, read: Callable[[str], T]) -> Callable[[str], T]:
        """Return ``read`` with the path of the table in its errors."""

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
        """The names of the accuracy columns."""
        return tuple(self._values)

    @cached_property
    def classes(self) -> dict[str, list[int]]:
        """The rows of each class of isomorphic cells, by `canonical` text."""
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
        """Return the accuracy of a cell in percent. Raises `OcheError` for an unknown cell or column."""
        return float(self._column(column)[self._row_of_cell(arch)])

    def accuracies(self, column: str = main) -> np.ndarray:
        """Return the accuracies of all ``archs``, in their order, in percent. Raises `OcheError` for an unknown column."""
        return self._column(column).copy()

    def best(self, column: str = main) -> tuple[str, float]:
        """Return the best cell and its accuracy in percent."""
        values = self._column(column)
        i = int(values.argmax())
        return self.archs[i], float(values[i])

    def regret(self, arch: str | Genotype, column: str = main) -> float:
        """Return how far a cell is below the best, in percentage points."""
        return self.best(column)[1] - self.accuracy(arch, column)

    def rank(self, arch: str | Genotype, column: str = main) -> int:
        """Return 1 + the number of better cells."""
        values = self._column(column)
        return 1 + int((values > values[self._row_of_cell(arch)]).sum())

    def rank_distinct(self, arch: str | Genotype, column: str = main) -> int:
        """Return 1 + the number of better classes of isomorphic cells. The accuracy of a class is the mean of its members."""
        self._column(column)
        rows = self.classes[canonical(self.archs[self._row_of_cell(arch)])]
        means = self._class_means[column]
        return 1 + int((means > self._values[column][rows].mean()).sum())

    def isomorphic(self, arch: str | Genotype) -> tuple[str, ...]:
        """Return the other cells of its class: the same network up to the numbering of nodes, trained anew."""
        own = self._row_of_cell(arch)
        return tuple(self.archs[i] for i in self.classes[canonical(self.archs[own])] if i != own)

    def query(self, arch: str | Genotype) -> Entry:
        """Return everything that the table knows of a cell."""
        text = self.archs[self._row_of_cell(arch)]
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
        """Return the answer of `query` as lines of text for people."""
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

    def _row_of_cell(self, arch: str | Genotype) -> int:
        """Return the row of a cell. Raises `OcheError` for a cell with other operations."""
        if isinstance(arch, str) and arch in self._row:
            return self._row[arch]
        cell = parse(arch).cells[CELL]
        if unknown := [op for op, _, _ in cell.edges if op not in OPERATIONS]:
            hint = did_you_mean(unknown[0], OPERATIONS)
            raise OcheError(f"NAS-Bench-201 has no operation {unknown[0]!r}{hint}; it has {', '.join(OPERATIONS)}")
        return self._row[to_text(arch)]


def _read(path: Path) -> dict[str, list]:
    """Return the columns of a table file: "arch" and the numeric ones, without "index"."""
    if not path.is_file():
        raise OcheError(
            f"there is no table at {path}; give a Parquet file of NAS-Bench-201 accuracies, "
            "as oche.core.nasbench201.Table describes"
        )
    pa, pq = (need(f"reading the table {path}", name) for name in ("pyarrow", "pyarrow.parquet"))
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise OcheError(f"{path} is not a Parquet file: {str(error).splitlines()[0]}") from None
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
