"""What stands before and between cells, and the size of whole networks."""

import pytest
import torch

import oracles_conv as oracle
from cell_networks import count, normal, shaken, weights
from oche.networks.operations import FactorizedReduce, relu_conv_bn
from oche.spaces import build, seed

CLOSE = dict(rtol=1e-9, atol=1e-11)
CIFAR = dict(classes=10)
IMAGENET = dict(classes=1000, channels=48, cells=14, stem="imagenet", image=224)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, cifar, imagenet",  # millions, as the papers or their code print them
    [
        ("DARTS_V2", "3.3", "4.7"),
        ("PDARTS", "3.4", "4.9"),
        ("PCDARTS_CIFAR", "3.6", "5.3"),
        ("PCDARTS_IMAGENET", None, "5.3"),
        ("GDAS_V1", "3.4", None),
        ("SGAS_CRI1", "3.80", "5.29"),
        ("SGAS_CRI2", "4.09", "5.70"),
        ("SDARTS_ADV", "3.3", None),
    ],
)
def test_published_genotypes_have_the_published_size(name, cifar, imagenet):
    for fields, want in ((CIFAR, cifar), (IMAGENET, imagenet)):
        if want:
            digits = len(want.split(".")[1])
            assert f"{count(lambda fields=fields: build(name, **fields)) / 1e6:.{digits}f}" == want


def test_seed_networks_have_the_size_of_the_seeds_code():
    assert count(seed(channels=16, cells=8, classes=10).supernet) == 28_516_154
    text = """Genotype(
        normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('max_pool_3x3', 1),
                ('skip_connect', 1), ('dil_conv_3x3', 2)], normal_concat=range(2, 5),
        reduce=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('max_pool_3x3', 1),
                ('skip_connect', 1), ('dil_conv_3x3', 2)], reduce_concat=range(2, 5))"""
    shape = dict(channels=16, cells=14, stem="none", widen="after", head=(4096, 1024, 256))
    assert count(lambda: build(text, classes=10, **shape)) == 55_108_586


@pytest.mark.parametrize("size", [(8, 8), (9, 11)], ids=str)
@pytest.mark.parametrize("affine", [True, False])
def test_input_adapters(size, affine):
    x = normal(2, 3, *size)
    for module, halve in ((relu_conv_bn(3, 5, affine), False), (FactorizedReduce(3, 5, affine), True)):
        module = shaken(module)
        torch.testing.assert_close(module(x), oracle.adapt(x, weights(module), halve, affine), **CLOSE)
