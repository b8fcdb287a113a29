"""Cells in JSON, as NNI and AutoDL-Projects write them: each form gives the genotype that it stands for."""

import json

import pytest

from oche.core import genotypes
from oche.core.architecture import Cell, Genotype
from oche.core.errors import OcheError
from oche.core.genotype_json import NNI_OPERATIONS
from oche.core.genotypes import resolve
from oche.core.nasbench201 import parse

SHORT = {name: short for short, name in NNI_OPERATIONS.items()}


def nni_choices(genotype, op=SHORT.__getitem__, switch="names"):
    """The export of NNI before 2.0: an operation for each edge, and a switch for each node."""
    tree = {}
    for cell, found in genotype.cells.items():
        for node in found.nodes:
            taken = {source: name for name, source, target in found.edges if target == node}
            key = f"{cell}_n{node}"
            tree |= {f"{key}_p{i}": op(taken[i]) if i in taken else [] for i in range(node)}
            tree[f"{key}_switch"] = {
                "names": [f"{key}_p{i}" for i in taken],
                "numbers": [*taken],
                "marks": [i in taken for i in range(node)],
            }[switch]
    return tree


def nni_hub(genotype, wrap=lambda source: [source]):
    """The architecture of NNI from 2.0 on: operation and source of each input of a node."""
    tree = {}
    for cell, found in genotype.cells.items():
        for node in found.nodes:
            for k, (op, source, _) in enumerate(edge for edge in found.edges if edge[2] == node):
                tree |= {f"{cell}/op_{node}_{k}": op, f"{cell}/input_{node}_{k}": wrap(source)}
    return tree


PRINTED = {  # DARTS_V2 in NNI's collection of searched models
    "normal/op_2_0": "sep_conv_3x3", "normal/op_2_1": "sep_conv_3x3", "normal/input_2_0": [0], "normal/input_2_1": [1],
    "normal/op_3_0": "sep_conv_3x3", "normal/op_3_1": "sep_conv_3x3", "normal/input_3_0": [0], "normal/input_3_1": [1],
    "normal/op_4_0": "sep_conv_3x3", "normal/op_4_1": "skip_connect", "normal/input_4_0": [1], "normal/input_4_1": [0],
    "normal/op_5_0": "skip_connect", "normal/op_5_1": "dil_conv_3x3", "normal/input_5_0": [0], "normal/input_5_1": [2],
    "reduce/op_2_0": "max_pool_3x3", "reduce/op_2_1": "max_pool_3x3", "reduce/input_2_0": [0], "reduce/input_2_1": [1],
    "reduce/op_3_0": "skip_connect", "reduce/op_3_1": "max_pool_3x3", "reduce/input_3_0": [2], "reduce/input_3_1": [1],
    "reduce/op_4_0": "max_pool_3x3", "reduce/op_4_1": "skip_connect", "reduce/input_4_0": [0], "reduce/input_4_1": [2],
    "reduce/op_5_0": "skip_connect", "reduce/op_5_1": "max_pool_3x3", "reduce/input_5_0": [2], "reduce/input_5_1": [1],
}  # fmt: skip


def test_the_cells_of_nnis_collection_are_the_published_ones():
    assert Genotype.parse(json.dumps(PRINTED)) == genotypes.DARTS_V2


@pytest.mark.parametrize("name", ["DARTS_V1", "PDARTS", "PCDARTS_IMAGENET", "GDAS_V1"])
@pytest.mark.parametrize(
    "write",
    [
        nni_hub,
        lambda g: nni_hub(g, int) | {"width": 36, "depth": 20},
        nni_choices,
        lambda g: nni_choices(g, lambda name: [SHORT[name]]),
        lambda g: nni_choices(g, [*NNI_OPERATIONS.values()].index, "numbers"),
        lambda g: nni_choices(g, lambda name: [name == op for op in NNI_OPERATIONS.values()], "marks"),
        lambda g: {k: v for k, v in nni_choices(g).items() if not k.endswith("switch")},
    ],
    ids=["hub", "hub with a size", "names", "lists of names", "numbers", "marks", "no switch"],
)
def test_nni_exports_are_read(name, write):
    genotype = genotypes.get(name)
    assert Genotype.parse(json.dumps(write(genotype), indent=2)) == genotype


def test_only_the_edges_that_the_switch_takes_count():
    tree = nni_choices(genotypes.DARTS_V2) | {"normal_n5_p4": "dilconv5x5", "reduce_n4_p1": "avgpool"}
    assert Genotype.parse(json.dumps(tree)) == genotypes.DARTS_V2


AUTODL = {
    "normal": [
        [["skip_connect", 0], ["skip_connect", 1]],
        [["skip_connect", 0], ["sep_conv_5x5", 2]],
        [["sep_conv_3x3", 3], ["skip_connect", 0]],
        [["sep_conv_5x5", 4], ["sep_conv_3x3", 3]],
    ],
    "normal_concat": [2, 3, 4, 5],
    "reduce": [
        [["sep_conv_5x5", 0], ["sep_conv_3x3", 1]],
        [["sep_conv_5x5", 2], ["sep_conv_5x5", 1]],
        [["dil_conv_5x5", 2], ["sep_conv_3x3", 1]],
        [["sep_conv_5x5", 0], ["sep_conv_5x5", 1]],
    ],
    "reduce_concat": [2, 3, 4, 5],
}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(AUTODL),
        json.dumps(AUTODL | {"connectN": None, "connects": None}),
        json.dumps(AUTODL | {"normal": [[[*edge, 0.25] for edge in node] for node in AUTODL["normal"]]}),
        str({k: tuple(tuple(map(tuple, v))) if "concat" not in k else v for k, v in AUTODL.items()}),
        str(AUTODL).replace("[2, 3, 4, 5]", "range(2, 6)"),
        json.dumps({"arch": ["str", "dxys"], "genotype": ["str", "GDAS_V1"], "ichannel": ["int", 36]}),
        json.dumps({"genotype": str(genotypes.GDAS_V1), "val_acc": 0.5}),
        json.dumps({"genotype": AUTODL}),
    ],
    ids=[
        "JSON",
        "with connections",
        "with weights",
        "a Python dict",
        "with ranges",
        "a configuration",
        "a summary",
        "nested",
    ],
)
def test_cells_of_autodl_projects_are_read(text):
    assert resolve(text) == resolve("\ufeff" + text) == genotypes.GDAS_V1


CELL = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"


@pytest.mark.parametrize(
    "tree",
    [
        {"0_1": "conv_3x3", "0_2": "none", "1_2": "conv_1x1", "0_3": "skip_connect", "1_3": "avg_pool_3x3", "2_3": "conv_3x3"},
        {"cell/2_3": "nor_conv_3x3", "cell/0_1": "nor_conv_3x3", "cell/0_2": "none", "cell/1_2": "nor_conv_1x1",
         "cell/0_3": "skip_connect", "cell/1_3": "avg_pool_3x3"},
        {"1<-0": "nor_conv_3x3", "2<-0": "none", "2<-1": "nor_conv_1x1", "3<-0": "skip_connect", "3<-1": "avg_pool_3x3",
         "3<-2": "nor_conv_3x3"},
        [[["nor_conv_3x3", 0]], [["none", 0], ["nor_conv_1x1", 1]],
         [["avg_pool_3x3", 1], ["skip_connect", 0], ["nor_conv_3x3", 2]]],
    ],
    ids=["NNI", "NNI's hub", "edges of AutoDL-Projects", "Structure"],
)  # fmt: skip
def test_cells_of_the_benchmark_in_json(tree):
    assert parse(json.dumps(tree)) == resolve(json.dumps(tree)) == parse(CELL)


def test_a_recurrent_cell_in_json():
    tree = {"recurrent": [["tanh", 0], ["relu", 1]], "concat": [1, 2]}
    assert Genotype.parse(json.dumps(tree)).recurrent == Cell((("tanh", 0, 1), ("relu", 1, 2)), (1, 2))


FOUR, FIVE = nni_hub(genotypes.DARTS_V2), nni_hub(genotypes.NASNet)
REFUSED = {
    "{}": "no cell among the keys ''",
    '{"layers": 20}': "no cell among the keys 'layers'",
    json.dumps(FOUR | {"lr": 0.1}): "key 'lr' is not understood beside 'normal/op_2_0'",
    json.dumps({k: v for k, v in FOUR.items() if k != "reduce/input_4_1"}): "reduce/input_4_1 is missing",
    json.dumps(FOUR | {"normal/input_3_0": [0, 1]}): "normal/input_3_0 is '[0, 1]' and its operation 'sep_conv_3x3'",
    json.dumps(FIVE): "the cell 'reduce' has 5 nodes, and the file does not say which are its output",
    json.dumps(nni_choices(genotypes.DARTS_V1) | {"normal_n2_switch": ["normal_n2_p3"]}): "normal_n2_switch takes '3'",
    json.dumps(nni_choices(genotypes.DARTS_V1) | {"normal_n3_p0": ["maxpool", "avgpool"]}): "normal_n3_p0 has 2 operations",
    json.dumps(nni_choices(genotypes.DARTS_V1) | {"normal_n3_p0": 9}): "normal_n3_p0 is '9'; write the name of an operation",
    json.dumps({"normal_n2_p0": "maxpool", "normal_n2_p1": "avgpool", "normal_n4_p0": 0, "normal_n4_p1": 0}): (
        "the cell 'normal' has nodes [2, 4]"
    ),
    json.dumps({"normal_n2_p0": "maxpool"}): "normal_n2 has 1 operations and no normal_n2_switch",
    '{"0_1": "none"}': "it has the edges 0_1; a cell of NAS-Bench-201 has 0_1, 0_2, 1_2, 0_3, 1_3, 2_3",
    "[4, 0, 3, 1, 4, 3]": "six operations alone do not say which edges they are on",
    '["none", "none", "none", "none", "none", "none"]': "six operations alone do not say which edges they are on",
    "[1, 2]": "a list of 2 entries is no cell",
    '{"normal": [["a", 0], ["b", 1]]}': "genotype has normal= but no normal_concat=",
    '{"normal": [[["a", 0], ["b", 1]], [["a", 0, 2], ["b", 1]]], "normal_concat": [2, 3]}': "list 1 belongs to node 3",
    '{"genotype": ["str", "GDAS_V9"]}': "no published genotype is named 'GDAS_V9'; did you mean 'GDAS_V1'?",
    '{"genotype": 7}': "\"genotype\" is '7'",
    '{"genotype": "none"}': "no published genotype is named 'none'",
    json.dumps(AUTODL | {"connectN": 3}): "connectN='3' is not understood",
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:40])
def test_what_is_no_cell_is_refused_in_one_line(text):
    with pytest.raises(OcheError) as caught:
        resolve(text)
    assert REFUSED[text] in str(caught.value) and "\n" not in str(caught.value)
