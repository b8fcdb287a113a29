"""The results of a classifier: accuracy by class, calibration, and the most confident mistakes, as plain values.

Shapes: K classes. `oche.training.assess` computes them from a network and images; reports show them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Bin:
    """The images whose confidence lies in one interval. Means are None where there are no images."""

    count: int
    confidence: float | None
    """mean probability given to the predicted class"""
    accuracy: float | None
    """share of right predictions"""


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction, with classes as numbers."""

    index: int
    """position of the image in the part of the data"""
    true: int
    predicted: int
    confidence: float
    """probability given to the predicted class"""
    own: float
    """probability given to the true class"""
    png: str = ""
    """the image as a PNG file in base64, possibly scaled down"""


@dataclass(frozen=True)
class Assessment:
    """The results of a network on one part of a data set.

    ``confusion`` (K, K): number of images of class i (row) that were predicted as class j (column). ``nll``: mean negative
    log-likelihood in nats. ``bins``: of equal width over confidences from 0 to 1. ``mistakes``: the wrong predictions with the
    highest confidence, in falling order.
    """

    data: str
    part: str
    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    nll: float
    bins: tuple[Bin, ...]
    mistakes: tuple[Mistake, ...]

    @property
    def images(self) -> int:
        """Number of images."""
        return sum(map(sum, self.confusion))

    @property
    def accuracy(self) -> float:
        """Share of right predictions."""
        return sum(row[k] for k, row in enumerate(self.confusion)) / self.images

    @property
    def majority(self) -> float:
        """Share of the commonest class: the accuracy of a network that always answers with it."""
        return majority_share([sum(row) for row in self.confusion])

    @property
    def balanced_accuracy(self) -> float:
        """Mean of the accuracies of the classes that have images (`by_class`)."""
        known = [accuracy for accuracy in self.by_class if accuracy is not None]
        return sum(known) / len(known)

    @property
    def ece(self) -> float:
        """Expected calibration error (1706.04599 eq. 3): ``Σ_m |B_m| / n · |acc(B_m) − conf(B_m)|``."""
        gaps = (
            b.count * abs(b.accuracy - b.confidence)
            for b in self.bins
            if b.accuracy is not None and b.confidence is not None
        )
        return sum(gaps) / self.images

    @property
    def by_class(self) -> tuple[float | None, ...]:
        """(K,) share of right predictions among the images of each class; None where a class has no images."""
        return tuple(row[k] / sum(row) if sum(row) else None for k, row in enumerate(self.confusion))

    @property
    def confused(self) -> list[tuple[int, int, int]]:
        """(true class, predicted class, images) of every confusion that occurred, most frequent first."""
        pairs = [(i, j, n) for i, row in enumerate(self.confusion) for j, n in enumerate(row) if n and i != j]
        return sorted(pairs, key=lambda pair: -pair[2])

    @property
    def numbers(self) -> dict[str, float | int]:
        """The numbers for a table of results."""
        return {
            "accuracy": self.accuracy, "balanced_accuracy": self.balanced_accuracy, "majority": self.majority,
            "nll": self.nll, "ece": self.ece, "images": self.images,
        }  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for assessment.json; `from_dict` reads them."""
        return self.numbers | asdict(self)

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Assessment:
        """Read the values of `to_dict`. Raises `ValueError` where ``found`` does not have its form."""
        try:
            read = cls(
                data=str(found["data"]),
                part=str(found["part"]),
                classes=tuple(str(name) for name in found["classes"]),
                confusion=tuple(tuple(int(n) for n in row) for row in found["confusion"]),
                nll=float(found["nll"]),
                bins=tuple(Bin(**b) for b in found["bins"]),
                mistakes=tuple(Mistake(**m) for m in found["mistakes"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"no assessment: {error!r}") from None
        k = len(read.classes)
        if [len(row) for row in read.confusion] != [k] * k or not read.images:
            raise ValueError(f"no assessment: its confusion matrix is not of {k} × {k} images")
        return read


# --- chance -------------------------------------------------------------------------------------------------------------


def majority_share(images: Sequence[int]) -> float:
    """Return the share of the commonest class; ``images`` (K,): number of images of each class, not all 0."""
    return max(images) / sum(images)


def describe_chance(balanced: float | None, majority: float | None) -> str:
    """Return " (balanced 97.90 %, commonest class 12.50 %)", to stand behind an accuracy; "" if the numbers are not known."""
    words = {"balanced": balanced, "commonest class": majority}
    known = [f"{word} {100 * share:.2f} %" for word, share in words.items() if share is not None]
    return f" ({', '.join(known)})" if known else ""


def describe_lacking(part: str, data: str, classes: Sequence[str], images: Sequence[int], shown: int = 5) -> str:
    """Name the classes of which a part of a data set has no image, in one line; "" if there are none.

    ``images`` (K,): number of images of each class in ``part`` of ``data``.
    """
    lacking = [name for name, n in zip(classes, images, strict=True) if not n]
    if not lacking:
        return ""
    named = ", ".join(lacking[:shown]) + (", …" if len(lacking) > shown else "")
    return (
        f"the {part} images of {data} lack {len(lacking)} of {len(classes)} classes ({named}): accuracy says nothing about "
        f"{'it' if len(lacking) == 1 else 'them'}, and balanced accuracy is over the others"
    )
