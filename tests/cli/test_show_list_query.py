"""oche show, in the terminal and to files."""

import pytest

import oche


@pytest.mark.parametrize("form", ["name", "text", "file", "run"])
def test_show_draws_in_the_terminal_and_to_files(form, searched, oche_, here):
    genotype = searched.genotype
    (here / "cell.txt").write_text(str(genotype))
    name = {"name": "GDAS_V1", "text": "genotype", "file": "cell", "run": searched.path.name}[form]
    what = {"name": "GDAS_V1", "text": str(genotype), "file": "cell.txt", "run": searched.path}[form]
    code, out, err = oche_("show", what, "--out", "pictures")
    assert code == 0 and not err
    assert str(oche.genotypes.GDAS_V1 if form == "name" else genotype) in out and "─▶ c_k" in out
    for kind in ("normal", "reduce"):
        assert (here / "pictures" / f"{name}-{kind}.svg").read_text().lstrip().startswith("<")
        assert (here / "pictures" / f"{name}-{kind}.png").read_bytes().startswith(b"\x89PNG")
