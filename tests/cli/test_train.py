"""oche train."""

import pytest

import oche
import small_runs


def test_options_of_train(told, oche_, here, searched):
    oche_(
        "train", "DARTS_V2", "--data", "cifar10", "--recipe", "small", "--train.epochs", "5", "--train.drop-path", "0.1"
    )
    config, fields = told[0]
    assert config.train == oche.training.small(epochs=5, drop_path=0.1) and config.recipe == "small"
    assert config.genotype == str(oche.genotypes.DARTS_V2) and config.data == "cifar10" and fields["out"] is None
    oche_("train", searched.path, "--data", "cifar100")
    config, fields = told[1]
    assert config.data == "cifar100" and config.limit is None and config.genotype == str(searched.genotype)
    assert fields["out"] == searched.path / "train-cifar100" and config.train == oche.training.darts()
    oche_("train", searched.path, "--seed", "4")
    assert told[2][0].limit == 60 and told[2][0].seed == 4 and told[2][1]["out"] == searched.path / "train"


@pytest.mark.slow  # a search and three trainings
def test_random_cells_are_trained_the_same_way(oche_, here, quick):
    searched = small_runs.search(here / "x", space=oche.spaces.darts(channels=2, cells=3, nodes=1))
    code, out, err = oche_("train", "x", *small_runs.TRAIN, "--random", "2")
    assert code == 0 and not err and out.count("test accuracy") == 3
    train, *others = (oche.Run.open(here / "x" / name) for name in ("train", "random-1", "random-2"))
    for other in others:
        assert other.config.train == train.config.train and other.config.data == train.config.data
        assert {op for cell in other.genotype.cells.values() for op, *_ in cell.edges} <= set(
            searched.config.space.candidates
        )
    assert len({str(r.genotype) for r in (train, *others)}) == 3
    code, _, err = oche_("train", "x/train", *small_runs.TRAIN, "--random", "2")
    assert code == 2 and "--random needs a search" in err
