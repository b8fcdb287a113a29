"""The published genotypes: complete, well formed, found by name, and cheap to import."""

import re
import subprocess
import sys

import pytest

from oche.core import genotypes
from oche.core.errors import OcheError
from oche.core.genotypes import GENOTYPES, get, resolve
from oche.core.nasbench201 import to_text

RECURRENT = [name for name, entry in GENOTYPES.items() if "recurrent" in entry.genotype.cells]
CONVOLUTIONAL = [name for name, entry in GENOTYPES.items() if {*entry.genotype.cells} == {"normal", "reduce"}]
PUBLISHED_OPERATIONS = {
    *("max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"),
    *("sep_conv_7x7", "conv_7x1_1x7"),
}


@pytest.mark.parametrize("name", GENOTYPES)
def test_every_entry_is_complete(name):
    entry = GENOTYPES[name]
    assert getattr(genotypes, name) is entry.genotype is get(name)
    assert set(entry.genotype.cells) in ({"normal", "reduce"}, {"recurrent"}, {"cell"}, {"chain"})
    assert entry.paper and entry.note and 2017 <= entry.year <= 2020
    assert re.match(r"arXiv \d{4}\.\d{5}; [\w-]+/[\w.-]+ [\w./]*\.py: \w+", entry.source)
    assert entry.source.split()[1].startswith(str(entry.year % 100))  # arXiv ids begin with the year
    assert resolve(str(entry.genotype)) == entry.genotype


def test_the_residual_cell_is_the_one_of_the_benchmark():
    assert (
        to_text(genotypes.RESNET) == "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|"
    )


@pytest.mark.parametrize("name", CONVOLUTIONAL)
@pytest.mark.parametrize("kind", ["normal", "reduce"])
def test_every_node_has_two_edges(name, kind):
    cell = get(name).cells[kind]
    assert {op for op, _, _ in cell.edges} <= PUBLISHED_OPERATIONS
    assert cell.inputs == 2
    assert [target for _, _, target in cell.edges] == [node for node in cell.nodes for _ in range(2)]
    if name not in ("NASNet", "AmoebaNet"):  # these may take one input twice, and leave nodes out of the output
        sources = [source for _, source, _ in cell.edges]
        assert all(a != b for a, b in zip(sources[::2], sources[1::2], strict=True))
        assert cell.concat == (2, 3, 4, 5)


def test_recurrent_cells_are_the_printed_ones():
    assert RECURRENT == ["ENAS_RNN", "DARTS_RNN_V1", "DARTS_RNN_V2"]
    assert str(genotypes.DARTS_RNN_V2) == (
        "Genotype(recurrent=[('sigmoid', 0), ('relu', 1), ('relu', 1), ('identity', 1), ('tanh', 2), ('sigmoid', 5), "
        "('tanh', 3), ('relu', 5)], concat=range(1, 9))"
    )
    for name in RECURRENT:
        cell = get(name).recurrent
        assert {op for op, _, _ in cell.edges} <= {"tanh", "relu", "sigmoid", "identity"}
        assert [target for _, _, target in cell.edges] == list(cell.nodes) and cell.inputs == 1
    leaves = set(genotypes.ENAS_RNN.recurrent.nodes) - {s for _, s, _ in genotypes.ENAS_RNN.recurrent.edges}
    assert set(genotypes.ENAS_RNN.recurrent.concat) == leaves  # ENAS averages the nodes that nothing else reads


def test_evolved_and_nasnet_cells_return_the_nodes_that_nothing_else_uses():
    for name in ("NASNet", "AmoebaNet"):
        for cell in get(name).cells.values():
            used = {source for _, source, _ in cell.edges}
            assert set(cell.nodes) - used <= set(cell.concat) and len(cell.nodes) == 5


def test_second_order_darts_is_the_printed_one():
    text = """DARTS_V2 = Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0),
    ('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)],
    normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2),
    ('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)],
    reduce_concat=[2, 3, 4, 5])"""
    assert resolve(text) == genotypes.DARTS_V2


def test_entries_are_distinct():
    assert len({entry.genotype for entry in GENOTYPES.values()}) == len(GENOTYPES)


@pytest.mark.parametrize(
    "name", ["darts_v2", "DARTS_V2", "Darts_V2", "darts-v2", "DARTSV2", " DARTS V2\n", "\ufeffDARTS_V2"]
)
def test_case_and_separators_do_not_matter(name):
    assert resolve(name) is resolve(genotypes.DARTS_V2) is genotypes.DARTS_V2


@pytest.mark.parametrize(
    "theirs, ours",
    [
        ("PC_DARTS_cifar", "PCDARTS_CIFAR"), ("PC_DARTS_image", "PCDARTS_IMAGENET"), ("PCDARTS", "PCDARTS_CIFAR"),
        ("pc-darts", "PCDARTS_CIFAR"), ("DARTS", "DARTS_V2"), ("P-DARTS", "PDARTS"), ("p_darts", "PDARTS"),
        ("NASNet-A", "NASNet"), ("amoebanet_a", "AmoebaNet"), ("Cri1_CIFAR_Best", "SGAS_CRI1"), ("Cri2_CIFAR_3", "SGAS_CRI2"),
        ("c10_s5_random", "SDARTS_RS"), ("c10_s5_pgd", "SDARTS_ADV"), ("gdas-v1", "GDAS_V1"), ("ResNet_CODE", "RESNET"),
    ],
)  # fmt: skip
def test_names_of_other_repositories_are_exactly_these_cells(theirs, ours):
    assert resolve(theirs) is GENOTYPES[ours].genotype


@pytest.mark.parametrize(
    "name", ["PDARTS_cifar100", "PC_DARTS_cifar100", "DARTS_V", "c10_s1_pgd", "Cri1_CIFAR_1", "ENAS", "AmoebaNet-B"]
)
def test_other_cells_of_these_repositories_are_refused(name):
    with pytest.raises(OcheError, match=f"no published genotype is named '{name}'"):
        resolve(name)


def test_no_two_cells_share_a_name():
    known = {genotypes._key(name): name for name in GENOTYPES}
    assert len(known) == len(GENOTYPES) and {*genotypes.ALIASES.values()} <= {*GENOTYPES}
    assert all(known.get(genotypes._key(alias), name) == name for alias, name in genotypes.ALIASES.items())


@pytest.mark.parametrize(
    "asked, meant",
    [
        ("DARTS_V3", "DARTS_V2"), ("pdart", "PDARTS"), ("GDAS", "GDAS_V1"), ("SGAS_CRI3", "SGAS_CRI2"),
        ("amoebanets", "AmoebaNet"), ("quux", None),
    ],
)  # fmt: skip
def test_an_unknown_name_says_what_is_known(asked, meant):
    with pytest.raises(OcheError) as caught:
        resolve(asked)
    message = str(caught.value)
    assert repr(asked) in message and "NASNet, AmoebaNet" in message and "\n" not in message
    assert (f"did you mean {meant!r}?" in message) if meant else ("did you mean" not in message)


def test_importing_them_does_not_import_torch():
    code = "import sys, oche; assert oche.genotypes.GENOTYPES and 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
