"""Assessments against scikit-learn, a naive loop over images, and numbers worked out by hand."""

import base64
import io
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn import metrics
from torch import nn

from oche.analysis.classification import Assessment, Bin, describe_chance, describe_lacking
from oche.core.errors import OcheError
from oche.devices.engine import Engine
from oche.training.assess import Assessor, assess, encode_png
from oche.training.evaluate import evaluate
from tiny_images import dataset

NAMES = ("a", "b", "c", "d")


def answers(n: int = 500, classes: int = 4, sharp: float = 2.0):
    """Logits (n, classes) that lean towards their labels; class 2 has no image."""
    g = torch.Generator().manual_seed(3)
    labels = torch.randint(0, classes, (n,), generator=g)
    labels[labels == 2] = 0
    logits = torch.randn(n, classes, generator=g) + sharp * F.one_hot(labels, classes)
    return sharp * logits, labels


def found(logits, labels, classes=NAMES, batch: int = 64, **fields) -> Assessment:
    assessor = Assessor(len(classes), **fields)
    for x, y in zip(logits.split(batch), labels.split(batch), strict=True):
        assessor.add(x, y, F.cross_entropy(x, y))
    return assessor.result("data", "test", classes)


def naive_ece(logits, labels, bins: int) -> float:
    """1706.04599 eq. 3, image by image: |Σ_{i in bin} (right_i − confidence_i)| / n, summed over bins."""
    sums = [0.0] * bins
    for row, label in zip(logits.double().tolist(), labels.tolist(), strict=True):
        powers = [np.exp(v - max(row)) for v in row]
        confidence, predicted = max(powers) / sum(powers), int(np.argmax(row))
        m = next(m for m in range(bins) if m / bins < confidence <= (m + 1) / bins)
        sums[m] += (predicted == label) - confidence
    return sum(map(abs, sums)) / len(labels)


def test_confusion_accuracy_and_likelihood_are_those_of_scikit_learn():
    logits, labels = answers()
    own, p = found(logits, labels), logits.double().softmax(1).numpy()
    predicted = logits.argmax(1)
    assert np.array_equal(own.confusion, metrics.confusion_matrix(labels, predicted, labels=range(4)))
    assert own.accuracy == pytest.approx(metrics.accuracy_score(labels, predicted), rel=1e-12)
    recall = metrics.recall_score(labels, predicted, labels=[0, 1, 3], average=None)
    assert [own.by_class[k] for k in (0, 1, 3)] == pytest.approx(list(recall), rel=1e-12)
    assert own.by_class[2] is None and own.images == 500
    assert own.nll == pytest.approx(metrics.log_loss(labels, p, labels=range(4)), rel=1e-6)


@pytest.mark.parametrize("bins", [1, 5, 15])
@pytest.mark.parametrize("sharp", [0.3, 2.0, 8.0])
def test_calibration_error_is_that_of_a_loop_over_images(bins, sharp):
    logits, labels = answers(sharp=sharp)
    own = found(logits, labels, bins=bins)
    assert own.ece == pytest.approx(naive_ece(logits, labels, bins), abs=1e-12)
    assert len(own.bins) == bins and sum(b.count for b in own.bins) == 500


def test_calibration_error_by_hand():
    """Two classes; confidences 0.6, 0.6 (one right) and 0.9, 0.9 (both right): (2 · |0.5 − 0.6| + 2 · |1 − 0.9|) / 4 = 0.1."""
    p = torch.tensor([[0.6, 0.4], [0.4, 0.6], [0.9, 0.1], [0.1, 0.9]], dtype=torch.float64)
    own = found(p.log(), torch.tensor([0, 0, 0, 1]), ("a", "b"), bins=10)
    assert own.ece == pytest.approx(0.1, abs=1e-12)
    assert own.confused == [(0, 1, 1)] and own.confusion == ((2, 1), (0, 1))


def test_a_confidence_at_an_edge_belongs_to_the_bin_below():
    even = found(torch.zeros(3, 2, dtype=torch.float64), torch.tensor([0, 0, 1]), ("a", "b"), bins=2)
    assert [b.count for b in even.bins] == [3, 0] and even.bins[1] == Bin(0, None, None)
    sure = found(torch.tensor([[800.0, -800.0]]), torch.tensor([0]), ("a", "b"), bins=2)
    assert [b.count for b in sure.bins] == [0, 1] and sure.ece == 0.0


def test_the_worst_mistakes_are_the_most_confident_ones():
    logits, labels = answers(sharp=0.5)
    p = logits.double().softmax(1)
    confidence, predicted = p.max(1)
    wrong = [i for i in range(500) if predicted[i] != labels[i]]
    worst = sorted(wrong, key=lambda i: -confidence[i])[:24]
    for batch in (1, 64, 500):  # however the images come in
        own = found(logits, labels, batch=batch).mistakes
        assert [m.index for m in own] == worst
        assert [m.true for m in own] == labels[worst].tolist()
        assert [m.predicted for m in own] == predicted[worst].tolist()
        assert [m.own for m in own] == pytest.approx(p[worst, labels[worst]].tolist())
    few = found(logits[:9], labels[:9]).mistakes
    assert [m.index for m in few] == sorted((i for i in wrong if i < 9), key=lambda i: -confidence[i])


def test_it_comes_back_from_its_file():
    logits, labels = answers(60)
    own = found(logits, labels)
    text = json.dumps(own.to_dict())
    assert Assessment.from_dict(json.loads(text)) == own
    assert json.loads(text)["ece"] == own.ece and json.loads(text)["accuracy"] == own.accuracy


@pytest.mark.parametrize("change", [
    {"confusion": [[1, 2]]}, {"confusion": [[0] * 4] * 4}, {"bins": [{"count": 1}]}, {"mistakes": [3]}, {"nll": "?"},
    {"classes": ["a"]}, {"nll": None},
])  # fmt: skip
def test_damaged_files_are_told(change):
    logits, labels = answers(20)
    with pytest.raises(ValueError, match="no assessment"):
        Assessment.from_dict(found(logits, labels).to_dict() | change)


def test_nothing_to_assess_is_told():
    with pytest.raises(OcheError, match="no test images of digits"):
        Assessor(3).result("digits", "test", ("a", "b", "c"))


class Brightest(nn.Module):
    """Finds the stripe of `tiny.dataset` from two rows of every three: wrong, and sure, about class 2."""

    def forward(self, x):
        rows = x.mean((1, 3))
        return 5 * torch.stack([rows[:, 0] + rows[:, 1], rows[:, 2] + rows[:, 3], rows[:, 0] * 0 - 9], 1)


def test_a_network_is_assessed_in_the_pass_that_evaluates_it():
    data, engine = dataset(test=12), Engine("cpu")
    own = assess(Brightest(), data.test, data, engine, "test")
    loss, accuracy = evaluate(Brightest(), data.test, data, engine).means()
    assert (own.nll, own.accuracy) == (loss, accuracy) and own.classes == data.classes
    assert own.by_class == (1.0, 1.0, 0.0) and len(own.mistakes) == 4
    for mistake in own.mistakes:
        assert mistake.true == 2
        image = np.array(Image.open(io.BytesIO(base64.b64decode(mistake.png))))
        assert np.array_equal(image, data.test.gather(torch.tensor([mistake.index]))[0][0, 0])


def test_kept_images_are_small():
    def opened(image):
        return Image.open(io.BytesIO(base64.b64decode(encode_png(image))))

    assert opened(torch.zeros(3, 300, 150, dtype=torch.uint8)).size == (48, 96)
    assert opened(torch.zeros(2, 5, 7, dtype=torch.uint8)).mode == "L"


# --- chance and outputs that are no numbers ---------------------------------------------------------------------------


def test_balanced_accuracy_and_majority_are_those_of_scikit_learn():
    logits, labels = answers()
    own = found(logits, labels)
    present = labels.unique()
    assert own.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(labels, logits.argmax(1)), rel=1e-12)
    assert own.majority == max((labels == k).sum().item() for k in present) / 500
    assert own.numbers["balanced_accuracy"] == own.balanced_accuracy and own.numbers["majority"] == own.majority
    assert json.loads(json.dumps(own.to_dict()))["majority"] == own.majority


def test_a_network_that_always_answers_with_the_commonest_class_has_its_share():
    """Nine images of a, one of b, none of c: accuracy and majority are 0.9, balanced accuracy is (1 + 0) / 2."""
    labels = torch.tensor([0] * 9 + [1])
    own = found(torch.tensor([[5.0, 0.0, 0.0]]).expand(10, 3), labels, ("a", "b", "c"))
    assert (own.accuracy, own.majority, own.balanced_accuracy) == (0.9, 0.9, 0.5)


def test_chance_beside_an_accuracy():
    assert describe_chance(0.5, 0.9) == " (balanced 50.00 %, commonest class 90.00 %)"
    assert describe_chance(None, 1 / 3) == " (commonest class 33.33 %)" and describe_chance(None, None) == ""


def test_lacking_classes_are_named():
    assert describe_lacking("test", "birds", ("a", "b"), (3, 1)) == ""
    assert describe_lacking("test", "birds", ("a", "b", "c"), (3, 0, 1)) == (
        "the test images of birds lack 1 of 3 classes (b): accuracy says nothing about it, and balanced accuracy is over "
        "the others"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_outputs_that_are_not_finite_are_no_answers(value):
    logits, labels = answers(20)
    logits[3, 1] = logits[7] = value
    with pytest.raises(
        OcheError, match="outputs of the network are not finite for 2 of 20 test images of data, so its accuracy"
    ):
        found(logits, labels, batch=5)
