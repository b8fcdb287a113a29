"""The names and forms of data that oche knows, and the default augmentation of each. Needs no torch and reads no data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from oche.core.arguments import checked
from oche.core.errors import OcheError

if TYPE_CHECKING:
    from oche.data.augment.policies import Policy

SMALLEST = 8  # pixels a side; the two reductions of the networks need them

DATASETS: dict[str, str] = {
    "digits": "1,797 handwritten digits, 8x8 grey, that ship with scikit-learn: no download",
    "mnist": "70,000 handwritten digits, 28x28 grey (12 MB download)",
    "fashion-mnist": "70,000 pictures of clothes, 28x28 grey, 10 classes (31 MB download)",
    "cifar10": "60,000 photographs, 32x32 colour, 10 classes (170 MB download)",
    "cifar100": "60,000 photographs, 32x32 colour, 100 classes (169 MB download)",
    "svhn": "99,289 house numbers, 32x32 colour, 10 digits (246 MB download)",
}

TEXTS: dict[str, str] = {
    "ptb": "Penn Treebank, 929,589 words for training, 10,000 different ones (5 MB download)",
    "wikitext2": "WikiText-2, 2,088,628 words for training, 33,278 different ones (4 MB download)",
}

FORMS: dict[str, str] = {
    "a folder": "class folders of images, train/ and test/ (or val/) that hold them, or images and labels.csv",
    "a .parquet file": "columns image (encoded bytes), label, and split where there is one",
    "an .npz file": "arrays x, y, or x_train, y_train, x_test, y_test",
    "hf:owner/name[:config]": "an image set on the Hugging Face hub (pip install 'oche[hub]')",
}

TEXT_FORMS: dict[str, str] = {
    "a .txt file": "text in UTF-8, packed by gzip or not (.txt.gz), for language models",
    "a folder of texts": "train.txt, valid.txt and test.txt, whatever stands before these words and packed or not",
}


@checked
@dataclass(frozen=True)
class Augment:
    """Random changes of each training image, made in batches on the device; see `oche.data.prepare`.

    Raises `OcheError` for negative lengths and for impossible shares.
    """

    pad: int = 4
    """random crop after zero padding by this many pixels a side (black, before normalisation); 0: off"""
    flip: bool = True
    """mirror left to right with probability 1/2"""
    cutout: int = 0
    """side in pixels of a square set to zero (after normalisation), its centre uniform over the image; 0: off"""
    crop: tuple[float, float] | None = None
    """instead of padding: smallest and largest area of a random crop, as a share; the crop is scaled to the image's size"""
    policy: Policy | None = None
    """changes of colours and geometry, after crop and flip (see `oche.data.augment.policies`); None: off"""

    def __post_init__(self) -> None:
        if self.pad < 0 or self.cutout < 0:
            raise OcheError(f"pad={self.pad}, cutout={self.cutout} are not lengths; use 0 (off) or more pixels")
        if self.crop is not None and not 0 < self.crop[0] <= self.crop[1] <= 1:
            raise OcheError(f"crop={self.crop} are not shares of an image; use 0 < smallest <= largest <= 1, or None")


# Digits and house numbers are not mirrored: a mirrored 2 is not a digit. `default_augment` scales the padding to the image.
_AUGMENT = {
    "digits": Augment(pad=1, flip=False),
    "mnist": Augment(pad=2, flip=False),
    "fashion-mnist": Augment(pad=2),
    "cifar10": Augment(),
    "cifar100": Augment(),
    "svhn": Augment(flip=False),
}
_SIDE = {"digits": 8, "mnist": 28, "fashion-mnist": 28}


def default_augment(name: str, image: tuple[int, int]) -> Augment:
    """Return the default crop and flip of a data set at ``image`` (H, W).

    A named set has its own. Other sets get a padding of one eighth of the side, and flips.
    """
    if name not in _AUGMENT:
        return Augment(pad=min(image) // 8)
    known = _AUGMENT[name]
    return Augment(pad=max(1, known.pad * min(image) // _SIDE.get(name, 32)), flip=known.flip)
