"""Published cells: ``oche.genotypes.DARTS_V2``, or ``oche.genotypes.get("DARTS_V2")``.

Operations, sources and the order of the pairs are those of the authors' released code. Two are left out because no code
prints them as a cell: the P-DARTS cells found on CIFAR-100, and GDAS_F1, whose reduction cell is a fixed hand-made block.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from oche.core import nasbench201
from oche.core.architecture import Cell, Genotype
from oche.core.arguments import checked
from oche.core.errors import OcheError, did_you_mean, one_line
from oche.core.genotype_json import load_tree
from oche.core.genotype_listings import bare, decode, parse_cells
from oche.core.genotype_text import abbreviated
from oche.core.published_cells import (
    DARTS_RNN_V1,
    DARTS_RNN_V2,
    DARTS_V1,
    DARTS_V2,
    ENAS_RNN,
    GDAS_V1,
    PCDARTS_CIFAR,
    PCDARTS_IMAGENET,
    PDARTS,
    RESNET,
    SDARTS_ADV,
    SDARTS_RS,
    SGAS_CRI1,
    SGAS_CRI2,
    AmoebaNet,
    NASNet,
)
from oche.core.published_chains import (
    FBNET_A,
    FBNET_B,
    FBNET_C,
    MOBILENET_V2,
    PROXYLESS_CPU,
    PROXYLESS_GPU,
    PROXYLESS_MOBILE,
    PROXYLESS_MOBILE_14,
)


@dataclass(frozen=True)
class PublishedGenotype:
    """A genotype and its source. ``year`` is that of the paper's first version on arXiv."""

    genotype: Genotype
    paper: str  #: title
    year: int
    source: str  #: arXiv id; repository and file; the name there
    note: str = ""


_FBNET = "FBNet: Hardware-Aware Efficient ConvNet Design via Differentiable Neural Architecture Search", 2018
_PROXYLESS = "ProxylessNAS: Direct Neural Architecture Search on Target Task and Hardware", 2018
_DARTS = "DARTS: Differentiable Architecture Search", 2018
_PC_DARTS = "PC-DARTS: Partial Channel Connections for Memory-Efficient Architecture Search", 2019
_SGAS = "SGAS: Sequential Greedy Architecture Search", 2019
_SDARTS = "Stabilizing Differentiable Architecture Search via Perturbation-based Regularization", 2020

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
    "MOBILENET_V2": PublishedGenotype(
        MOBILENET_V2,
        "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
        2018,
        "arXiv 1801.04381; tensorflow/models research/slim/nets/mobilenet/mobilenet_v2.py: V2_DEF",
        "chain for ImageNet, designed by hand: 3.50 M weights, 301 M multiply-adds",
    ),
    "PROXYLESS_CPU": PublishedGenotype(
        PROXYLESS_CPU,
        *_PROXYLESS,
        "arXiv 1812.00332; mit-han-lab/proxylessnas hubconf.py: proxyless_cpu",
        "chain for ImageNet, for a CPU: 4.36 M weights, 439 M multiply-adds",
    ),
    "PROXYLESS_GPU": PublishedGenotype(
        PROXYLESS_GPU,
        *_PROXYLESS,
        "arXiv 1812.00332; mit-han-lab/proxylessnas hubconf.py: proxyless_gpu",
        "chain for ImageNet, for a GPU: 7.12 M weights, 465 M multiply-adds",
    ),
    "PROXYLESS_MOBILE": PublishedGenotype(
        PROXYLESS_MOBILE,
        *_PROXYLESS,
        "arXiv 1812.00332; mit-han-lab/proxylessnas hubconf.py: proxyless_mobile",
        "chain for ImageNet, for a phone: 4.08 M weights, 320 M multiply-adds",
    ),
    "PROXYLESS_MOBILE_14": PublishedGenotype(
        PROXYLESS_MOBILE_14,
        *_PROXYLESS,
        "arXiv 1812.00332; mit-han-lab/proxylessnas hubconf.py: proxyless_mobile_14",
        "the same, 1.4 times as wide: 6.86 M weights, 581 M multiply-adds",
    ),
    "FBNET_A": PublishedGenotype(
        FBNET_A,
        *_FBNET,
        "arXiv 1812.03443; facebookresearch/mobile-vision mobile_cv/arch/fbnet_v2/fbnet_modeldef_cls_fbnet.py: fbnet_a",
        "chain for ImageNet: 4.30 M weights, 244 M multiply-adds",
    ),
    "FBNET_B": PublishedGenotype(
        FBNET_B,
        *_FBNET,
        "arXiv 1812.03443; facebookresearch/mobile-vision mobile_cv/arch/fbnet_v2/fbnet_modeldef_cls_fbnet.py: fbnet_b",
        "chain for ImageNet: 4.80 M weights, 291 M multiply-adds",
    ),
    "FBNET_C": PublishedGenotype(
        FBNET_C,
        *_FBNET,
        "arXiv 1812.03443; facebookresearch/mobile-vision mobile_cv/arch/fbnet_v2/fbnet_modeldef_cls_fbnet.py: fbnet_c",
        "chain for ImageNet: 5.57 M weights, 378 M multiply-adds; timm's fbnetc_100 is another, with expansions of 1 kept",
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


ALIASES = {
    "NASNet-A": "NASNet",
    "AmoebaNet-A": "AmoebaNet",
    "DARTS": "DARTS_V2",
    "PC_DARTS_cifar": "PCDARTS_CIFAR",
    "PC_DARTS_image": "PCDARTS_IMAGENET",
    "PCDARTS": "PCDARTS_CIFAR",
    "Cri1_CIFAR_3": "SGAS_CRI1",
    "Cri1_CIFAR_Best": "SGAS_CRI1",
    "Cri2_CIFAR_3": "SGAS_CRI2",
    "Cri2_CIFAR_Best": "SGAS_CRI2",
    "c10_s5_random": "SDARTS_RS",
    "c10_s5_pgd": "SDARTS_ADV",
    "ResNet_CODE": "RESNET",
}
"""Names of the same cells in the sources that `GENOTYPES` names: exactly these cells, no others."""


def _key(name: str) -> str:
    """Return ``name`` without what repositories write differently: case, "_", "-" and spaces."""
    return name.casefold().translate(str.maketrans("", "", "_- "))


_BY_KEY = {_key(name): name for name in GENOTYPES} | {_key(alias): name for alias, name in ALIASES.items()}


@checked
def get(name: str) -> Genotype:
    """Return the published genotype ``name``, as `GENOTYPES` or its source calls it.

    Case, "_", "-" and spaces do not matter: "darts-v2" is DARTS_V2. Raises `OcheError` with the nearest name for any other.
    """
    if (known := _BY_KEY.get(_key(name))) is not None:
        return GENOTYPES[known].genotype
    names = list(GENOTYPES)
    hint = did_you_mean(name, [*names, *ALIASES]) or did_you_mean(name.upper(), names)
    raise OcheError(f"no published genotype is named {one_line(name)[:80]!r}{hint}; known: {', '.join(names)}")


@checked
def resolve(genotype: Genotype | str) -> Genotype:
    """Return a genotype from itself, a text that `Genotype.parse` reads (also the text of NAS-Bench-201), or a published name.

    JSON with the key "genotype" (AutoDL-Projects' files of networks, summaries of runs) is what that key says. Raises
    `OcheError` for anything else.
    """
    return genotype if isinstance(genotype, Genotype) else _from_text(genotype)


def read_file(path: str | Path, which: str | None = None) -> Genotype:
    """Return the genotype in a file: a text as `resolve` takes it, a Python file, or a log.

    ``which``: the name of one of several genotypes in it, or its line. Raises `OcheError` with the names that there are.
    """
    try:
        text = decode(Path(path).read_bytes())
    except OSError as error:
        raise OcheError(f"cannot read {path}: {error.strerror}; give a file with a genotype") from None
    try:
        return _from_text(text) if which is None else _one_of(text, which, str(path))
    except OcheError as error:
        if " genotypes (" in str(error):  # say how to name one of them
            return _one_of(text, which, str(path))
        raise error if str(error).startswith(str(path)) else OcheError(f"{path}: {error}") from None


def _one_of(text: str, which: str | None, path: str) -> Genotype:
    cells = parse_cells(text, which, path)
    return Genotype({name: Cell(edges, concat) for name, edges, concat in cells})


def _from_text(text: str) -> Genotype:
    text = bare(text)
    tree = load_tree(text)
    if isinstance(tree, dict) and "genotype" in tree:
        value = tree["genotype"]
        value = value[-1] if isinstance(value, list | tuple) and value else value  # AutoDL-Projects: ["str", "GDAS_V1"]
        if not isinstance(value, str | dict):
            raise OcheError(
                f'genotype in JSON: "genotype" is {abbreviated(str(value))}; write a text or a published name'
            )
        return _from_text(value if isinstance(value, str) else str(value))
    if text.startswith("|") or ("|" in text and "~" in text and "Genotype" not in text):
        return nasbench201.parse(text)
    return Genotype.parse(text) if {"(", "{", "["} & set(text) else get(text)
