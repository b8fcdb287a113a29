"""Evaluators: what they answer, cost and refuse."""

import math
import random

import pytest
import torch

import oche
from made_scores import REAL, moves, real
from oche.blackbox.darts_moves import ConvMoves
from oche.blackbox.nasbench201_moves import BenchmarkMoves
from oche.blackbox.space_moves import moves_of
from oche.core.architecture import Dag
from oche.core.errors import OcheError
from oche.core.nasbench201 import OPERATIONS
from oche.devices.engine import Engine
from oche.strategies.evaluators import TableAccuracy, Training, TrainingFree, check_space_has_table, masks_of
from oche.training import small
from oche.training.loop import Interrupted

ENGINE = Engine("cpu", fused="plain")


@pytest.fixture(scope="module")
def digits():
    return oche.data.load("digits", limit=60)


def recipe(**fields):
    return small(**{**dict(channels=2, cells=1, epochs=2, batch=16, split=0.5, auxiliary=0.0), **fields})


def tiny(data):
    return oche.spaces.nb201(channels=4, cells=1).fit(data)


@real
def test_a_table_answers_validation_accuracies():
    evaluator = TableAccuracy(REAL)
    cell = BenchmarkMoves(OPERATIONS).random(random.Random(0))
    report = evaluator(cell, 1.0, 0)
    assert report.score == evaluator.table.accuracy(cell, "cifar10_valid_12ep") / 100 and report.cost == 1
    assert evaluator.true_column() == "cifar10_test_200ep" and evaluator.unit == "queries"
    with pytest.raises(OcheError, match="one fidelity"):
        evaluator(cell, 0.5, 0)


@real
def test_a_table_refuses_test_accuracies_and_unknown_columns():
    with pytest.raises(OcheError, match="use cifar100_valid_12ep, or --oracle"):
        TableAccuracy(REAL, "cifar100_test_200ep")
    assert TableAccuracy(REAL, "cifar100_test_200ep", oracle=True).describe()["oracle"]
    with pytest.raises(OcheError, match="no column 'valid'; use one of cifar10_valid_12ep"):
        TableAccuracy(REAL, "valid")


def test_a_table_knows_one_space():
    check_space_has_table(oche.spaces.nb201())
    with pytest.raises(OcheError, match="--evaluate train"):
        check_space_has_table(oche.spaces.darts())
    with pytest.raises(OcheError, match="NAS-Bench-201 only"):
        check_space_has_table(oche.spaces.nb201(candidates=("sep_conv_3x3", "none")))


def test_a_training_is_scored_on_images_that_do_not_train(digits):
    evaluator = Training(digits, recipe(), ENGINE)
    cell = moves().build((2,) * 6)
    report = evaluator(cell, 1.0, 0)
    assert report.numbers["epochs"] == 2 and report.score == report.numbers["val_acc"] and 0 <= report.score <= 1
    assert report.cost > 0 and report.numbers["weights"] > 100
    assert evaluator(cell, 1.0, 0).score == report.score != evaluator(cell, 1.0, 5).numbers["sum_train_loss"]
    losses = Training(digits, recipe(), ENGINE, by="losses")(cell, 1.0, 0)
    assert losses.score == -report.numbers["sum_train_loss"]


def test_fidelity_is_the_share_of_the_epochs(digits):
    report = Training(digits, recipe(epochs=4), ENGINE)(moves().build((2,) * 6), 0.25, 0)
    assert report.numbers["epochs"] == 1 and report.fidelity == 0.25


def test_trainings_without_validation_or_of_other_lengths_are_refused(digits):
    with pytest.raises(OcheError, match=r"--train.split 0.5"):
        Training(digits, recipe(split=1.0), ENGINE)
    with pytest.raises(OcheError, match="equal length"):
        Training(digits, recipe(budget="1m"), ENGINE)


def test_a_training_stops_when_asked(digits):
    with pytest.raises(Interrupted):
        Training(digits, recipe(), ENGINE, stopping=lambda: True)(moves().build((2,) * 6), 1.0, 0)


def test_a_training_free_score_stands_beside_weights_and_flops(digits):
    evaluator = TrainingFree("weights", digits, tiny(digits), ENGINE, batch=8)
    cell = moves().build((2,) * 6)
    report = evaluator(cell, 1.0, 0)
    assert report.score == report.numbers["weights"] and report.numbers["flops"] > 0
    other = TrainingFree("snip", digits, tiny(digits), ENGINE, batch=8)
    assert other(cell, 1.0, 0).score == other(cell, 1.0, 0).score != other(cell, 1.0, 1).score
    assert evaluator.describe()["evaluator"] == "score:weights"


def test_scores_of_the_darts_space(digits):
    space = oche.spaces.darts(channels=2, cells=3).fit(digits)
    report = TrainingFree("naswot", digits, space, ENGINE, batch=8)(moves_of(space).random(random.Random(0)), 1.0, 0)
    assert math.isfinite(report.score)


def test_what_cannot_be_scored_is_refused(digits):
    with pytest.raises(OcheError, match="unknown score"):
        TrainingFree("nothing", digits, tiny(digits), ENGINE)
    with pytest.raises(OcheError, match="batch=100"):
        TrainingFree("snip", digits, tiny(digits), ENGINE, batch=100)
    with pytest.raises(OcheError, match="one fidelity"):
        TrainingFree("snip", digits, tiny(digits), ENGINE)(moves().build((2,) * 6), 0.5, 0)


def test_masks_of_a_genotype():
    groups, candidates = {"normal": Dag(nodes=2)}, ("none", "skip_connect", "sep_conv_3x3")
    made = ConvMoves(groups, candidates)
    for seed in range(5):
        cell = made.random(random.Random(seed))
        mask = masks_of(cell, groups, candidates)["normal"]
        assert mask.shape == (5, 3) and mask.sum() == 4 and not mask[:, 0].any()
        found = {(candidates[o], *groups["normal"].edges[e]) for e, o in mask.nonzero().tolist()}
        assert found == set(cell.normal.edges) and mask.dtype == torch.bool
