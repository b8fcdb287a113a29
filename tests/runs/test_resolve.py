"""What names a genotype, and names of runs."""

import pytest

import oche
import small_runs
from oche.core.errors import OcheError
from oche.runs.resolve import default_training, read_genotype


def test_all_that_names_a_genotype_is_accepted(searched, tmp_path):
    genotype = oche.genotypes.DARTS_V2
    file = tmp_path / "cell.txt"
    file.write_text(f"DARTS_V2 = {genotype}\n")
    for what in (genotype, str(genotype), "DARTS_V2", "darts_v2", file, str(file)):
        config, out = default_training(what, None, {})
        assert config.genotype == str(genotype) and out is None and config.data == "digits"
    for what in (searched, searched.path, str(searched.path)):
        config, out = default_training(what, None, {})
        assert config.genotype == str(searched.genotype) and out == searched.path / "train"


def test_one_of_several_genotypes_in_a_file_is_named(tmp_path):
    file = tmp_path / "genotypes.py"
    file.write_text(f"PDARTS = {oche.genotypes.PDARTS}\nOURS = {oche.genotypes.DARTS_V1}\nPCDARTS = OURS\n")
    for name, genotype in {"PCDARTS": "DARTS_V1", "PDARTS": "PDARTS", "2": "DARTS_V1"}.items():
        assert read_genotype(f"{file}:{name}") == oche.genotypes.get(genotype)
        assert default_training(f"{file}:{name}", None, {})[0].genotype == str(oche.genotypes.get(genotype))
    with pytest.raises(
        OcheError, match=r"has 3 genotypes \(PDARTS, OURS, PCDARTS\); name one of them, as .*py:PCDARTS$"
    ):
        read_genotype(file)
    with pytest.raises(
        OcheError, match=r"has no genotype 'PDART'; did you mean 'PDARTS'\?; it has PDARTS, OURS, PCDARTS"
    ):
        read_genotype(f"{file}:PDART")
    with pytest.raises(OcheError, match=r"there is nothing at .*other.py:PDARTS"):
        read_genotype(tmp_path / "other.py:PDARTS")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("DARTS_V3", "did you mean 'DARTS_V"),
        ("Genotype(normal=1)", "no normal_concat="),
        ("no/such/run", "there is nothing at no/such/run; give a run directory"),
        (".", "is not a run directory"),
    ],
)
def test_what_names_none_is_refused(what, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OcheError, match=words):
        oche.train(what)


@pytest.mark.slow
def test_runs_get_names_of_their_own(tmp_path, quick, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = oche.methods.one_level(batch=30, steps=1)
    paths = [small_runs.search(None, method=one).path.as_posix() for _ in range(2)]
    assert paths == ["runs/digits-one-level", "runs/digits-one-level-2"]
    assert oche.train("DARTS_V2", recipe=small_runs.recipe(steps=1), limit=60).path.as_posix() == "runs/digits-train"
