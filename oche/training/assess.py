"""Assess a classifier in one pass over images: confusion matrix, calibration and the most confident mistakes.

All counts stay on the device until the pass ends. Shapes: B images of a batch, K classes, M bins, T mistakes that are
kept.
"""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import torch
from torch import Tensor, nn

from oche.analysis.classification import Assessment, Bin, Mistake
from oche.core.errors import OcheError
from oche.core.metrics import Meter
from oche.data import Dataset, Split
from oche.devices.engine import Engine
from oche.training.evaluate import evaluate

BINS = 15  # as in 1706.04599 §4
_SIDE = 96  # largest side of a kept image, in pixels


class Assessor(Meter):
    """A meter that also counts the confusion matrix and the confidence bins, and keeps the ``kept`` most confident
    mistakes.

    Images are identified by their position in the order in which they arrive. ``bins``: M equal intervals of [0, 1]
    (1706.04599 §4).
    """

    def __init__(self, classes: int, device: torch.device | str = "cpu", bins: int = BINS, kept: int = 24) -> None:
        super().__init__(device)
        self.classes, self.kept, self.seen = classes, kept, 0
        self._broken = torch.zeros((), dtype=torch.int64, device=device)  # images whose logits are not finite
        self._edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=device)[1:-1]
        self._confusion = torch.zeros(classes * classes, dtype=torch.int64, device=device)
        self._bins = torch.zeros(
            3, bins, dtype=torch.float64, device=device
        )  # per bin: images, Σ confidence, correct ones
        self._worst = torch.zeros(
            0, 5, dtype=torch.float64, device=device
        )  # confidence, probability of the label, label, prediction, index

    def add(self, logits: Tensor, labels: Tensor, loss: Tensor) -> None:
        """Add a batch: logits (B, K), labels (B,), and the mean loss of the batch."""
        super().add(logits, labels, loss)
        self._broken += (~logits.isfinite()).any(1).sum()
        p = logits.detach().double().softmax(1)
        confidence, predicted = p.max(1)
        right = predicted == labels
        self._confusion.index_add_(0, labels * self.classes + predicted, torch.ones_like(labels))
        # Bin m is ((m − 1) / M, m / M]: a confidence on a boundary belongs to the bin below it.
        m = torch.bucketize(confidence, self._edges)
        self._bins.index_add_(1, m, torch.stack([torch.ones_like(confidence), confidence, right.double()]))
        label_probability = p.gather(1, labels[:, None])[:, 0]
        index = self.seen + torch.arange(len(labels), device=labels.device)
        rows = torch.stack([confidence.where(~right, -1.0), label_probability, labels, predicted, index], 1)
        candidates = torch.cat([self._worst, rows])
        self._worst = candidates[candidates[:, 0].sort(descending=True, stable=True).indices[: self.kept]]
        self.seen += len(labels)

    def result(self, data: str, part: str, classes: tuple[str, ...]) -> Assessment:
        """Return the assessment of all images seen so far.

        Raises `OcheError` if there were none, or if the outputs of the network are not finite for some.
        """
        nll, _ = self.means()
        if broken := int(self._broken):
            raise OcheError(
                f"the outputs of the network are not finite for {broken:,} of {self.seen:,} {part} images of {data}, so its "
                "accuracy would mean nothing; train again, with a smaller learning rate or gradient clipping"
            )
        if nll is None:
            raise OcheError(f"there are no {part} images of {data} to assess; give data that has some")
        confusion = self._confusion.view(self.classes, self.classes).tolist()
        bins = [Bin(int(n), c / n if n else None, a / n if n else None) for n, c, a in self._bins.T.tolist()]
        mistakes = [
            Mistake(int(index), int(true), int(predicted), confidence, label_probability)
            for confidence, label_probability, true, predicted, index in self._worst.tolist()
            if confidence >= 0
        ]
        return Assessment(data, part, classes, tuple(map(tuple, confusion)), nll, tuple(bins), tuple(mistakes))


def assess(net: nn.Module, split: Split, data: Dataset, engine: Engine, part: str) -> Assessment:
    """Assess ``net`` on ``split``, which is the ``part`` ("test", "val") of ``data``, and attach the images of its
    worst mistakes.

    ``engine`` must be that of a single process, because it has to see all images.
    """
    assessor = Assessor(len(data.classes), engine.device)
    with engine.using_threads():
        evaluate(net, split, data, engine, meter=assessor)
    found = assessor.result(data.name, part, data.classes)
    if not found.mistakes:
        return found
    images, _ = split.gather(torch.tensor([m.index for m in found.mistakes], device=split.device))
    shown = [replace(m, png=encode_png(image)) for m, image in zip(found.mistakes, images.cpu(), strict=True)]
    return replace(found, mistakes=tuple(shown))


def encode_png(image: Tensor) -> str:
    """Encode an image, uint8 (C, H, W), as a PNG of at most 96 pixels a side, in base64. Unless C is 3, use channel 0."""
    from PIL import Image

    pixels = image.permute(1, 2, 0).numpy() if image.shape[0] == 3 else image[0].numpy()
    picture, file = Image.fromarray(pixels), io.BytesIO()
    picture.thumbnail((_SIDE, _SIDE))
    picture.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()
