"""Published cells: ``oche.genotypes.DARTS_V2``, or ``oche.genotypes.get("DARTS_V2")``.

Operations, sources and the order of the pairs are those of the authors' released code. Two are left out because no code
prints them as a cell: the P-DARTS cells found on CIFAR-100, and GDAS_F1, whose reduction cell is a fixed hand-made block.
"""

from __future__ import annotations

from dataclasses import dataclass

from oche.core import nasbench201
from oche.core.architecture import Genotype
from oche.core.errors import OcheError, did_you_mean


@dataclass(frozen=True)
class PublishedGenotype:
    """A genotype and its source. ``year`` is that of the paper's first version on arXiv."""

    genotype: Genotype
    paper: str  #: title
    year: int
    source: str  #: arXiv id; repository and file; the name there
    note: str = ""


NASNet = Genotype.parse("""Genotype(
    normal=[('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 0), ('sep_conv_3x3', 0), ('avg_pool_3x3', 1),
            ('skip_connect', 0), ('avg_pool_3x3', 0), ('avg_pool_3x3', 0), ('sep_conv_3x3', 1), ('skip_connect', 1)],
    normal_concat=[2, 3, 4, 5, 6],
    reduce=[('sep_conv_5x5', 1), ('sep_conv_7x7', 0), ('max_pool_3x3', 1), ('sep_conv_7x7', 0), ('avg_pool_3x3', 1),
            ('sep_conv_5x5', 0), ('skip_connect', 3), ('avg_pool_3x3', 2), ('sep_conv_3x3', 2), ('max_pool_3x3', 1)],
    reduce_concat=[4, 5, 6])""")

AmoebaNet = Genotype.parse("""Genotype(
    normal=[('avg_pool_3x3', 0), ('max_pool_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 2), ('sep_conv_3x3', 0),
            ('avg_pool_3x3', 3), ('sep_conv_3x3', 1), ('skip_connect', 1), ('skip_connect', 0), ('avg_pool_3x3', 1)],
    normal_concat=[4, 5, 6],
    reduce=[('avg_pool_3x3', 0), ('sep_conv_3x3', 1), ('max_pool_3x3', 0), ('sep_conv_7x7', 2), ('sep_conv_7x7', 0),
            ('avg_pool_3x3', 1), ('max_pool_3x3', 0), ('max_pool_3x3', 1), ('conv_7x1_1x7', 0), ('sep_conv_3x3', 5)],
    reduce_concat=[3, 4, 6])""")

DARTS_V1 = Genotype.parse("""Genotype(
    normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0), ('sep_conv_3x3', 1),
            ('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2)],
    normal_concat=[2, 3, 4, 5],
    reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0),
            ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('avg_pool_3x3', 0)],
    reduce_concat=[2, 3, 4, 5])""")

DARTS_V2 = Genotype.parse("""Genotype(
    normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1),
            ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)],
    normal_concat=[2, 3, 4, 5],
    reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1),
            ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)],
    reduce_concat=[2, 3, 4, 5])""")

PDARTS = Genotype.parse("""Genotype(
    normal=[('skip_connect', 0), ('dil_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 1),
            ('sep_conv_3x3', 1), ('sep_conv_3x3', 3), ('sep_conv_3x3', 0), ('dil_conv_5x5', 4)],
    normal_concat=range(2, 6),
    reduce=[('avg_pool_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('dil_conv_5x5', 2),
            ('max_pool_3x3', 0), ('dil_conv_3x3', 1), ('dil_conv_3x3', 1), ('dil_conv_5x5', 3)],
    reduce_concat=range(2, 6))""")

PCDARTS_CIFAR = Genotype.parse("""Genotype(
    normal=[('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 0), ('dil_conv_3x3', 1),
            ('sep_conv_5x5', 0), ('sep_conv_3x3', 1), ('avg_pool_3x3', 0), ('dil_conv_3x3', 1)],
    normal_concat=range(2, 6),
    reduce=[('sep_conv_5x5', 1), ('max_pool_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_5x5', 2),
            ('sep_conv_3x3', 0), ('sep_conv_3x3', 3), ('sep_conv_3x3', 1), ('sep_conv_3x3', 2)],
    reduce_concat=range(2, 6))""")

PCDARTS_IMAGENET = Genotype.parse("""Genotype(
    normal=[('skip_connect', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 0), ('skip_connect', 1),
            ('sep_conv_3x3', 1), ('sep_conv_3x3', 3), ('sep_conv_3x3', 1), ('dil_conv_5x5', 4)],
    normal_concat=range(2, 6),
    reduce=[('sep_conv_3x3', 0), ('skip_connect', 1), ('dil_conv_5x5', 2), ('max_pool_3x3', 1),
            ('sep_conv_3x3', 2), ('sep_conv_3x3', 1), ('sep_conv_5x5', 0), ('sep_conv_3x3', 3)],
    reduce_concat=range(2, 6))""")

GDAS_V1 = Genotype.parse("""Genotype(
    normal=[('skip_connect', 0), ('skip_connect', 1), ('skip_connect', 0), ('sep_conv_5x5', 2),
            ('sep_conv_3x3', 3), ('skip_connect', 0), ('sep_conv_5x5', 4), ('sep_conv_3x3', 3)],
    normal_concat=[2, 3, 4, 5],
    reduce=[('sep_conv_5x5', 0), ('sep_conv_3x3', 1), ('sep_conv_5x5', 2), ('sep_conv_5x5', 1),
            ('dil_conv_5x5', 2), ('sep_conv_3x3', 1), ('sep_conv_5x5', 0), ('sep_conv_5x5', 1)],
    reduce_concat=[2, 3, 4, 5])""")

SGAS_CRI1 = Genotype.parse("""Genotype(
    normal=[('sep_conv_3x3', 0), ('dil_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1),
            ('sep_conv_5x5', 1), ('sep_conv_5x5', 3), ('skip_connect', 0), ('dil_conv_5x5', 2)],
    normal_concat=range(2, 6),
    reduce=[('max_pool_3x3', 0), ('dil_conv_5x5', 1), ('sep_conv_3x3', 0), ('skip_connect', 2),
            ('sep_conv_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0), ('max_pool_3x3', 1)],
    reduce_concat=range(2, 6))""")

SGAS_CRI2 = Genotype.parse("""Genotype(
    normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 2),
            ('max_pool_3x3', 0), ('sep_conv_3x3', 3), ('sep_conv_3x3', 2), ('sep_conv_3x3', 3)],
    normal_concat=range(2, 6),
    reduce=[('sep_conv_3x3', 0), ('max_pool_3x3', 1), ('dil_conv_3x3', 0), ('max_pool_3x3', 1),
            ('max_pool_3x3', 0), ('sep_conv_3x3', 2), ('max_pool_3x3', 0), ('sep_conv_5x5', 2)],
    reduce_concat=range(2, 6))""")

SDARTS_RS = Genotype.parse("""Genotype(
    normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 1), ('skip_connect', 0),
            ('sep_conv_3x3', 3), ('skip_connect', 1), ('sep_conv_3x3', 1), ('dil_conv_3x3', 2)],
    normal_concat=range(2, 6),
    reduce=[('max_pool_3x3', 0), ('sep_conv_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0),
            ('dil_conv_5x5', 3), ('max_pool_3x3', 0), ('sep_conv_3x3', 2), ('sep_conv_5x5', 3)],
    reduce_concat=range(2, 6))""")

SDARTS_ADV = Genotype.parse("""Genotype(
    normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0),
            ('sep_conv_5x5', 0), ('dil_conv_3x3', 3), ('dil_conv_3x3', 4), ('skip_connect', 0)],
    normal_concat=range(2, 6),
    reduce=[('max_pool_3x3', 0), ('sep_conv_5x5', 1), ('skip_connect', 2), ('max_pool_3x3', 0),
            ('skip_connect', 3), ('skip_connect', 2), ('skip_connect', 2), ('sep_conv_5x5', 4)],
    reduce_concat=range(2, 6))""")

ENAS_RNN = Genotype.parse("""Genotype(
    recurrent=[('tanh', 0), ('tanh', 1), ('relu', 1), ('tanh', 3), ('tanh', 3), ('relu', 3),
               ('relu', 4), ('relu', 7), ('relu', 8), ('relu', 8), ('relu', 8)],
    concat=[2, 5, 6, 9, 10, 11])""")

DARTS_RNN_V1 = Genotype.parse("""Genotype(
    recurrent=[('relu', 0), ('relu', 1), ('tanh', 2), ('relu', 3), ('relu', 4), ('identity', 1), ('relu', 5), ('relu', 1)],
    concat=range(1, 9))""")

DARTS_RNN_V2 = Genotype.parse("""Genotype(
    recurrent=[('sigmoid', 0), ('relu', 1), ('relu', 1), ('identity', 1), ('tanh', 2), ('sigmoid', 5), ('tanh', 3),
               ('relu', 5)],
    concat=range(1, 9))""")


_DARTS = "DARTS: Differentiable Architecture Search", 2018
_PC_DARTS = "PC-DARTS: Partial Channel Connections for Memory-Efficient Architecture Search", 2019
_SGAS = "SGAS: Sequential Greedy Architecture Search", 2019
_SDARTS = "Stabilizing Differentiable Architecture Search via Perturbation-based Regularization", 2020

RESNET = nasbench201.parse("|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|")

GENOTYPES: dict[str, PublishedGenotype] = {
    "NASNet": PublishedGenotype(
        NASNet,
        "Learning Transferable Architectures for Scalable Image Recognition",
        2017,
        "arXiv 1707.07012; quark0/darts cnn/genotypes.py: NASNet",
        "NASNet-A as the DARTS code writes it, one pair a branch",
    ),
    "AmoebaNet": PublishedGenotype(
        AmoebaNet,
        "Regularized Evolution for Image Classifier Architecture Search",
        2018,
        "arXiv 1802.01548; quark0/darts cnn/genotypes.py: AmoebaNet",
        "AmoebaNet-A as the DARTS code writes it, one pair a branch",
    ),
    "DARTS_V1": PublishedGenotype(
        DARTS_V1, *_DARTS, "arXiv 1806.09055; quark0/darts cnn/genotypes.py: DARTS_V1", "first order, on CIFAR-10"
    ),
    "DARTS_V2": PublishedGenotype(
        DARTS_V2, *_DARTS, "arXiv 1806.09055; quark0/darts cnn/genotypes.py: DARTS_V2", "second order, on CIFAR-10"
    ),
    "PDARTS": PublishedGenotype(
        PDARTS,
        "Progressive Differentiable Architecture Search: Bridging the Depth Gap between Search and Evaluation",
        2019,
        "arXiv 1904.12760; chenxin061/pdarts genotypes.py: PDARTS",
        "on CIFAR-10, the authors' released run, another one than the paper's figures",
    ),
    "PCDARTS_CIFAR": PublishedGenotype(
        PCDARTS_CIFAR,
        *_PC_DARTS,
        "arXiv 1907.05737; yuhuixu1993/PC-DARTS genotypes.py: PC_DARTS_cifar",
        "on CIFAR-10",
    ),
    "PCDARTS_IMAGENET": PublishedGenotype(
        PCDARTS_IMAGENET,
        *_PC_DARTS,
        "arXiv 1907.05737; yuhuixu1993/PC-DARTS genotypes.py: PC_DARTS_image",
        "on ImageNet",
    ),
    "GDAS_V1": PublishedGenotype(
        GDAS_V1,
        "Searching for A Robust Neural Architecture in Four GPU Hours",
        2019,
        "arXiv 1910.04465; D-X-Y/AutoDL-Projects xautodl/nas_infer_model/DXYs/genotypes.py: GDAS_V1",
        "on CIFAR-10, normal and reduction cell both searched",
    ),
    "SGAS_CRI1": PublishedGenotype(
        SGAS_CRI1,
        *_SGAS,
        "arXiv 1912.00195; lightaime/sgas cnn/genotypes.py: Cri1_CIFAR_Best (Cri1_CIFAR_3)",
        "criterion 1, best of 10 searches on CIFAR-10",
    ),
    "SGAS_CRI2": PublishedGenotype(
        SGAS_CRI2,
        *_SGAS,
        "arXiv 1912.00195; lightaime/sgas cnn/genotypes.py: Cri2_CIFAR_Best (Cri2_CIFAR_3)",
        "criterion 2, best of 10 searches on CIFAR-10",
    ),
    "SDARTS_RS": PublishedGenotype(
        SDARTS_RS,
        *_SDARTS,
        "arXiv 2002.05283; xiangning-chen/SmoothDARTS sota/cnn/genotypes.py: c10_s5_random",
        "random smoothing, on CIFAR-10 in the space of DARTS (S5 there; S1 to S4 are reduced spaces)",
    ),
    "SDARTS_ADV": PublishedGenotype(
        SDARTS_ADV,
        *_SDARTS,
        "arXiv 2002.05283; xiangning-chen/SmoothDARTS sota/cnn/genotypes.py: c10_s5_pgd",
        "adversarial perturbation, on CIFAR-10 in the space of DARTS (S5 there; S1 to S4 are reduced spaces)",
    ),
    "RESNET": PublishedGenotype(
        RESNET,
        "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search",
        2020,
        "arXiv 2001.00326; D-X-Y/AutoDL-Projects xautodl/models/cell_searchs/genotypes.py: ResNet_CODE",
        "the residual block (1603.05027) as a cell of NAS-Bench-201: a plain network to compare with",
    ),
    "ENAS_RNN": PublishedGenotype(
        ENAS_RNN,
        "Efficient Neural Architecture Search via Parameter Sharing",
        2018,
        "arXiv 1802.03268; quark0/darts rnn/genotypes.py: ENAS",
        "recurrent cell of 11 nodes, on Penn Treebank, as the DARTS code writes it",
    ),
    "DARTS_RNN_V1": PublishedGenotype(
        DARTS_RNN_V1,
        *_DARTS,
        "arXiv 1806.09055; quark0/darts rnn/genotypes.py: DARTS_V1",
        "recurrent cell, first order, on Penn Treebank",
    ),
    "DARTS_RNN_V2": PublishedGenotype(
        DARTS_RNN_V2,
        *_DARTS,
        "arXiv 1806.09055; quark0/darts rnn/genotypes.py: DARTS_V2",
        "recurrent cell, second order, on Penn Treebank",
    ),
}


def get(name: str) -> Genotype:
    """Return the published genotype ``name``; case does not matter. Raises `OcheError` with the nearest name."""
    for known, published in GENOTYPES.items():
        if known.casefold() == name.casefold():
            return published.genotype
    names = list(GENOTYPES)
    hint = did_you_mean(name, names) or did_you_mean(name.upper(), names)
    raise OcheError(f"no published genotype is named {name!r}{hint}; known: {', '.join(names)}")


def resolve(genotype: Genotype | str) -> Genotype:
    """Return a genotype from itself, its text (also the text of NAS-Bench-201), or a published name.

    Raises `OcheError` for anything else.
    """
    if isinstance(genotype, Genotype):
        return genotype
    if genotype.lstrip().startswith("|"):
        return nasbench201.parse(genotype)
    return Genotype.parse(genotype) if "(" in genotype else get(genotype)
