"""What every space can do: draw cells, describe its network, refuse impossible sizes."""

import torch

from oche.core.architecture import Genotype
from oche.core.nasbench201 import OPERATIONS
from oche.networks.nasbench201 import build
from oche.spaces import nb201

SPACE = nb201(channels=3, cells=1, classes=4, image=(8, 8))
CELL = "|nor_conv_1x1~0|+|skip_connect~0|none~1|+|avg_pool_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"


def test_genotypes_round_trip():
    for i in range(20):
        genotype = SPACE.random(torch.Generator().manual_seed(i))
        assert Genotype.parse(str(genotype)) == genotype
        assert len(genotype.cells["cell"].edges) == 6 and genotype.cells["cell"].concat == (3,)


def test_random_cells_are_uniform():
    generator, count = torch.Generator().manual_seed(0), torch.zeros(6, 5)
    for _ in range(1000):
        for e, (op, _, _) in enumerate(SPACE.random(generator).cells["cell"].edges):
            count[e, OPERATIONS.index(op)] += 1
    assert (count / 1000 - 0.2).abs().max() < 5 * (0.2 * 0.8 / 1000) ** 0.5


def test_description_has_a_row_for_each_part():
    rows = nb201(channels=4, cells=2, classes=7, image=(9, 8)).describe()
    assert [r["name"] for r in rows] == ["stem", *["cell"] * 2, *["residual", "cell", "cell"] * 2, "head"]
    assert [(r["channels"], r["size"]) for r in rows[2:5]] == [(4, [9, 8]), (8, [5, 4]), (8, [5, 4])]
    assert rows == build(CELL, channels=4, cells=2, classes=7, image=(9, 8)).describe()
