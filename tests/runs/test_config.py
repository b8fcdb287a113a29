"""The configuration in a run directory is complete and repeats the run."""

import pytest

import oche
import small_runs
from oche.cli import main as cli


@pytest.mark.slow
def test_its_configuration_is_complete(searched):
    config = searched.config
    assert (config.data, config.limit, config.method, config.seed) == ("digits", 60, "darts-2nd", 0)
    given = dict(channels=2, cells=3, nodes=1, candidates=small_runs.FEW)
    assert config.space == oche.spaces.darts(**given, in_channels=1, image=(8, 8), classes=10)
    assert config.search == oche.methods.darts(order=2, batch=16, steps=3)


@pytest.mark.slow
def test_its_configuration_repeats_it_bit_for_bit(searched, tmp_path, quick):
    out = tmp_path / "again"
    assert cli.main(["search", "--config", str(searched.path / "config.yaml"), "--out", str(out), "--quiet"]) == 0
    assert (out / "config.yaml").read_text() == (searched.path / "config.yaml").read_text()
    assert small_runs.metrics(out) == small_runs.metrics(searched.path)
    assert small_runs.same_weights(out, searched.path)
    assert (
        cli.main(["search", "--config", str(out / "config.yaml"), "--seed", "1", "--out", f"{out}-1", "--quiet"]) == 0
    )
    assert not small_runs.same_weights(tmp_path / "again-1", searched.path)


def test_the_configuration_of_a_training_repeats_it_bit_for_bit(copied, tmp_path):
    run = oche.train(copied, recipe=small_runs.recipe(drop_path=0.2, auxiliary=0.4, cutout=2))
    words = ["train", "--config", str(run.path / "config.yaml"), "--quiet", "--out", str(tmp_path / "again")]
    assert cli.main(words) == 0
    assert (tmp_path / "again" / "config.yaml").read_text() == (run.path / "config.yaml").read_text()
    assert small_runs.metrics(tmp_path / "again") == small_runs.metrics(run.path)
    assert small_runs.same_weights(tmp_path / "again", run.path)
