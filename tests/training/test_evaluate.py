"""Evaluation of a network on images."""

import pytest
import torch

from image_training import DOUBLE, NORMAL, REDUCE, cross_entropy, make, recipe, steps
from oche.training.evaluate import evaluate
from oracles_conv import Weights, final
from tiny_images import dataset

EXTRAS = dict(drop_path=0.4, auxiliary=0.3, label_smoothing=0.2, cutout=3)


def test_evaluation_is_the_network_with_running_statistics_and_no_extras(batches):
    task = make(recipe(**EXTRAS), dataset(side=32))
    for _ in steps(task, 4, 4):
        pass
    before = torch.get_rng_state()
    loss, accuracy = evaluate(task.net, task.data.test, task.data, DOUBLE, batch=5).means()
    assert task.net.training and torch.equal(torch.get_rng_state(), before)
    assert evaluate(task.net, task.data.test, task.data, DOUBLE, batch=12).means() == pytest.approx((loss, accuracy))
    raw, labels = task.data.test.gather(torch.arange(12))
    x = (raw.double() / 255 - 0.3) / 0.25
    main = [p for n, p in task.net.named_parameters() if not n.startswith("auxiliary.")]
    stats = [b for n, b in task.net.named_buffers() if not n.startswith("auxiliary.")]
    with torch.no_grad():
        logits, _ = final(x, Weights(main, stats), NORMAL, REDUCE, cells=3)
    assert loss == pytest.approx(cross_entropy(logits, labels, 0.0).item(), rel=1e-5)  # images are float32 there
    assert accuracy == (logits.argmax(1) == labels).double().mean().item()
