"""What can be named: oche list."""

import pytest

import oche
from oche.cli.lookup import TABLES


@pytest.mark.parametrize("topic", TABLES)
def test_lists(topic, oche_):
    code, out, err = oche_("list", topic)
    assert code == 0 and not err
    title, header, *rows = out.splitlines()
    columns, want = TABLES[topic]()
    want = list(want)
    assert title.strip() == topic and header.startswith(columns[0])
    assert len(rows) == len(want) >= 2
    for line, row in zip(rows, want, strict=True):
        assert all(cell in line for cell in row)  # whole, for grep
        assert all(cell for cell in row)


def test_all_lists_at_once(oche_):
    code, out, _ = oche_("list")
    assert code == 0 and all(f"\n{topic} " in f"\n{out}" for topic in TABLES)


@pytest.mark.slow
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
