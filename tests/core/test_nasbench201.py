"""Cells of NAS-Bench-201 as text, isomorphism, and the table: one made here, and the real one where it is."""

import itertools

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from oche.cli.main import main
from oche.core import nasbench201
from oche.core.architecture import Cell, Genotype
from oche.core.errors import OcheError
from oche.core.genotypes import resolve
from oche.core.nasbench201 import CELL_COUNT, EDGES, OPERATIONS, Table, canonical, parse, to_text
from paths import SHARED

REAL = SHARED / "nasbench201_accuracies.parquet"
real = pytest.mark.skipif(not REAL.exists(), reason=f"needs the table at {REAL}")
MAIN = "cifar10_test_200ep"


def text(*ops):
    """The text of the cell with ``ops`` on its edges."""
    a, b, c, d, e, f = ops
    return f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"


CELLS = [text(*ops) for ops in itertools.product(OPERATIONS, repeat=6)]
SKIPS, CONVS = text(*["skip_connect"] * 6), text(*["nor_conv_3x3"] * 6)


def made(path, archs=CELLS, **columns):
    """A table at ``path``; row i of the first column is i / 200."""
    columns = columns or {MAIN: [i / 200 for i in range(len(archs))]}
    pq.write_table(pa.table({"index": list(range(len(archs))), "arch": archs, **columns}), path)
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return Table(made(tmp_path_factory.mktemp("table") / "made.parquet"))


@pytest.fixture(scope="module")
def published():
    return Table(REAL)


# --- text


def test_every_cell_round_trips():
    assert len(set(CELLS)) == CELL_COUNT == 15_625
    for cell in CELLS[::37]:
        genotype = parse(cell)
        assert to_text(genotype) == to_text(cell) == to_text(str(genotype)) == cell
        assert resolve(cell) == parse(genotype) == genotype == Genotype.parse(str(genotype))


def test_the_genotype_of_a_text():
    cell = parse("|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|none~2|").cells["cell"]
    assert cell.edges == (
        ("nor_conv_3x3", 0, 1), ("none", 0, 2), ("nor_conv_1x1", 1, 2), ("skip_connect", 0, 3), ("avg_pool_3x3", 1, 3),
        ("none", 2, 3),
    )  # fmt: skip
    assert cell.concat == (3,) and cell.inputs == 1


def test_edges_that_a_genotype_leaves_out_are_none():
    genotype = Genotype({"cell": Cell((("nor_conv_3x3", 2, 3), ("skip_connect", 0, 2)), (3,))})
    assert to_text(genotype) == text("none", "skip_connect", "none", "none", "none", "nor_conv_3x3")


@pytest.mark.parametrize(
    "wrong",
    [
        "DARTS_V2",
        "",
        "|",
        "|none~0|",
        SKIPS[:-1],
        SKIPS + "+|none~0|none~1|none~2|none~3|",
        SKIPS.replace("~2", "~1"),
        SKIPS.replace("+", ""),
        SKIPS.replace("~1|+", "~1|+|none~0|+"),
        SKIPS.replace("~", "-"),
    ],
)
def test_what_is_no_text_of_a_cell_is_refused(wrong):
    with pytest.raises(OcheError, match=r"not a cell of NAS-Bench-201: .*write ") as caught:
        parse(wrong)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "edges, concat",
    [
        ((("skip_connect", 0, 1), ("skip_connect", 0, 1)), (1,)),
        ((("skip_connect", 0, 1), ("nor_conv_1x1", 0, 1), ("skip_connect", 1, 3)), (3,)),
        ((("skip_connect", 0, 1), ("skip_connect", 1, 2), ("skip_connect", 2, 3), ("skip_connect", 3, 4)), (4,)),
        ((("skip_connect", 0, 3), ("skip_connect", 0, 1)), (1, 3)),
    ],
)
def test_genotypes_of_other_shapes_are_refused(edges, concat):
    with pytest.raises(OcheError, match=r"one operation on each of the edges 0 to 1, .* and node 3 as its output"):
        parse(Genotype({"cell": Cell(edges, concat)}))


# --- isomorphism


def test_there_are_6466_distinct_cells():
    assert len({canonical(cell) for cell in CELLS}) == 6_466


def function(ops):
    """The sum that a cell computes: its terms, sorted; () is zero."""
    nodes = {0: ("x",)}
    for op, (source, target) in zip(ops, EDGES, strict=True):
        of = nodes[source]
        terms = () if op == "none" or not of else of if op == "skip_connect" else ((op, of),)
        nodes[target] = tuple(sorted((*nodes.get(target, ()), *terms), key=str))
    return nodes[3]


def test_isomorphic_cells_have_equal_functions():
    """And not the other way round: the benchmark's rule tells some equal ones apart."""
    functions = {}
    for ops in itertools.product(OPERATIONS, repeat=6):
        functions.setdefault(canonical(text(*ops)), set()).add(function(ops))
    assert all(len(found) == 1 for found in functions.values())
    assert len(set().union(*functions.values())) == 4_930


def test_a_copied_node_may_stand_for_its_source():
    """Node 1 copies node 0, so what leaves either may as well leave the other."""
    a = text("skip_connect", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3", "none", "nor_conv_3x3")
    b = text("skip_connect", "nor_conv_1x1", "nor_conv_3x3", "none", "avg_pool_3x3", "nor_conv_3x3")
    assert canonical(a) == canonical(b) != canonical(a.replace("avg_pool_3x3", "nor_conv_1x1"))


def test_the_published_rule_tells_apart_what_a_zero_makes_equal():
    """Nodes 1 and 2 exchanged; the zero on the edge between them enters node 2 only."""
    a = ["nor_conv_1x1", "nor_conv_3x3", "none", "none", "skip_connect", "avg_pool_3x3"]
    b = ["nor_conv_3x3", "nor_conv_1x1", "none", "none", "avg_pool_3x3", "skip_connect"]
    assert function(a) == function(b) and canonical(text(*a)) != canonical(text(*b))


# --- the table


@pytest.mark.slow
def test_queries_of_a_table_made_here(table):
    entry = table.query(CELLS[15_000])
    better = range(15_001, CELL_COUNT)
    assert entry.arch == CELLS[15_000] and entry.accuracy == {MAIN: 75.0}
    assert entry.rank == {MAIN: 1 + len(better)} and entry.regret[MAIN] == pytest.approx((CELL_COUNT - 1) / 200 - 75)
    assert table.best() == (CELLS[-1], (CELL_COUNT - 1) / 200)
    assert table.columns == (MAIN,) and len(table) == CELL_COUNT  # the index is no accuracy
    own = canonical(CELLS[15_000])
    assert set(entry.isomorphic) == {c for c in CELLS if canonical(c) == own} - {CELLS[15_000]}


def test_rank_among_distinct_cells(table):
    classes = {}
    for i, cell in enumerate(CELLS):
        classes.setdefault(canonical(cell), []).append(i / 200)
    means = {form: sum(values) / len(values) for form, values in classes.items()}
    for i in (0, 777, 9_000, CELL_COUNT - 1):
        own = means[canonical(CELLS[i])]
        assert table.query(CELLS[i]).rank_distinct[MAIN] == 1 + sum(mean > own + 1e-9 for mean in means.values())


def test_equal_cells_share_a_rank(tmp_path):
    table = Table(made(tmp_path / "t.parquet", **{MAIN: [90.0] * 3 + [50] * (CELL_COUNT - 3)}))
    assert [table.rank(CELLS[i]) for i in (0, 2, 3, CELL_COUNT - 1)] == [1, 1, 4, 4]


def test_a_table_takes_texts_and_genotypes(table):
    cell = CELLS[4_321]
    assert table.accuracy(cell) == table.accuracy(parse(cell)) == table.accuracy(f" {cell}\n") == 4_321 / 200


def test_what_a_table_does_not_have_is_refused(table):
    with pytest.raises(OcheError, match="no operation 'skip_conect'; did you mean 'skip_connect'"):
        table.query(SKIPS.replace("skip_connect~2", "skip_conect~2"))
    with pytest.raises(OcheError, match="no column 'cifar10_test_200'; did you mean 'cifar10_test_200ep'"):
        table.rank(SKIPS, "cifar10_test_200")


@pytest.mark.slow
@pytest.mark.parametrize(
    "make, words",
    [
        (lambda p: None, "there is no table at"),
        (lambda p: p.write_text("no table"), "is not a Parquet file"),
        (
            lambda p: made(p, acc=[1.0] * CELL_COUNT),
            r"has columns index, arch, acc; .* needs arch and cifar10_test_200ep",
        ),
        (lambda p: made(p, CELLS[:-1]), "has 15624 rows of 15624 different cells"),
        (lambda p: made(p, [*CELLS[:-1], CELLS[0]]), "has 15625 rows of 15624 different cells"),
        (lambda p: made(p, [*CELLS[:-1], "resnet"]), r"t\.parquet: not a cell of NAS-Bench-201: 'resnet'"),
        (lambda p: made(p, [*CELLS[:-1], None]), "column arch must hold the text of a cell in every row"),
        (lambda p: made(p, **{MAIN: [*[1.0] * (CELL_COUNT - 1), None]}), "column cifar10_test_200ep has empty cells"),
    ],
    ids=["absent", "text", "columns", "short", "twice", "other", "empty name", "empty accuracy"],
)
def test_files_that_are_no_table_are_refused(tmp_path, make, words):
    make(tmp_path / "t.parquet")
    with pytest.raises(OcheError, match=words) as caught:
        Table(tmp_path / "t.parquet")
    assert len(str(caught.value).splitlines()) == 1


# --- the published one


@pytest.mark.slow
@real
def test_the_published_optima_and_the_collapsed_cell(published):
    columns = [f"{data}_test_200ep" for data in ("cifar10", "cifar100", "imagenet16")]
    assert [round(published.best(c)[1], 2) for c in columns] == [94.37, 73.51, 47.31]
    assert [round(published.accuracy(SKIPS, c), 2) for c in columns] == [54.30, 15.61, 16.32]
    assert set(published.archs) == set(CELLS) and len(published.classes) == 6_466
    assert len(published.columns) == 9 and all(f"{c[:-5]}12ep" in published.columns for c in columns)
    entry = published.query(CONVS)
    assert all(0 <= r < 100 for r in entry.regret.values())
    assert entry.rank_distinct[MAIN] <= entry.rank[MAIN] < 200 and entry.isomorphic == ()


@pytest.mark.slow
@real
def test_query_command(capsys):
    assert main(["query", SKIPS, "--table", str(REAL)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == SKIPS and len(out) == 1 + 9 + 1
    numbers = ["54.30", "%", "15,231", "of", "15,625", "6,429", "of", "6,466", "distinct", "40.08"]
    assert out[1].split() == [MAIN, *numbers, "below", "the", "best"]
    assert out[-1] == "isomorphic: no other cell"


def test_query_command_refuses_in_one_line(capsys, tmp_path):
    assert main(["query", SKIPS, "--table", str(tmp_path / "t.parquet")]) == 2
    assert capsys.readouterr().err.startswith(f"oche: there is no table at {tmp_path}")


def test_the_module_stays_light():
    """Genotypes are read without torch, pyarrow or numpy; `oche.genotypes` imports this module."""
    import subprocess
    import sys

    code = f"import sys, oche; oche.genotypes.resolve({SKIPS!r}); print({{'torch', 'numpy', 'pyarrow'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert nasbench201.EXAMPLE in CELLS
