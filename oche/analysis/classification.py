"""What a trained classifier gets right and wrong: by class, by how sure it was, and its worst mistakes. Plain values.

K classes. `oche.training.assess` makes these from a network and images; the report shows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Bin:
    """Images whose confidence lies in one interval. Means are None where there are none."""

    count: int
    confidence: float | None
    """mean probability given to the predicted class"""
    accuracy: float | None
    """share that was right"""


@dataclass(frozen=True)
class Mistake:
    """A wrong answer: what image it was, what it is and what was said, as numbers of classes."""

    index: int
    """its place in the part of the data"""
    true: int
    predicted: int
    confidence: float
    """probability given to what was said"""
    own: float
    """probability given to what it is"""
    png: str = ""
    """the image, perhaps made smaller, as a PNG file in base64"""


@dataclass(frozen=True)
class Assessment:
    """How a network does on a part of a data set.

    ``confusion`` (K, K): images of class i (row) that were taken for class j (column). ``nll``: mean negative log-likelihood in
    nats. ``bins``: of equal width over confidences from 0 to 1. ``mistakes``: the most confident wrong answers, worst first.
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
        return sum(map(sum, self.confusion))

    @property
    def accuracy(self) -> float:
        return sum(row[k] for k, row in enumerate(self.confusion)) / self.images

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
        """(K,) share of each class's images that was right; None where it has none."""
        return tuple(row[k] / sum(row) if sum(row) else None for k, row in enumerate(self.confusion))

    @property
    def confused(self) -> list[tuple[int, int, int]]:
        """(true, predicted, images) of every confusion that happened, most frequent first."""
        pairs = [(i, j, n) for i, row in enumerate(self.confusion) for j, n in enumerate(row) if n and i != j]
        return sorted(pairs, key=lambda pair: -pair[2])

    @property
    def numbers(self) -> dict[str, float | int]:
        """What a table of results has of it."""
        return {"accuracy": self.accuracy, "nll": self.nll, "ece": self.ece, "images": self.images}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for assessment.json; `from_dict` reads them."""
        return self.numbers | asdict(self)

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Assessment:
        """Raises `ValueError` where ``found`` is not what `to_dict` makes."""
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
