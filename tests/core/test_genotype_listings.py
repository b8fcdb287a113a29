"""Genotypes in logs, in Python files and beside other text: the one that is meant, or a question which."""

import codecs
import re

import pytest

from oche.core import genotypes
from oche.core.architecture import Genotype
from oche.core.errors import OcheError
from oche.core.genotype_listings import decode, find
from oche.core.genotypes import read_file, resolve
from oche.core.nasbench201 import parse

V1, V2, P = str(genotypes.DARTS_V1), str(genotypes.DARTS_V2), str(genotypes.PDARTS)
CELL = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"
SWAPPED = V2.replace("('sep_conv_3x3', 1), ('skip_connect', 0)", "('skip_connect', 0), ('sep_conv_3x3', 1)")

LINES = {
    "assigned": f"genotype = {V2}",
    "a log of DARTS": f"2019-05-12 10:11:12,345 genotype = {V2}",
    "a log of PC-DARTS": f"07/12 02:11:33 AM genotype = {V2}",
    "a log of P-DARTS": f"2019-05-12 10:11:12,345 {V2}",
    "a level and a module": f"[2020-01-01 00:00:00] INFO (search/MainThread) best arch: {V2}",
    "JSON around it": f'{{"epoch": 49, "genotype": "{V2}"}}',
    "a member of a module": f"gt.{V2}",
    "in quotes": f'"{V2}"',
    "without a space": f"genotype={V2}.",
    "with a byte-order mark": f"\ufeff{V2}",
    "over several lines": V2.replace("), (", "),\n    ("),
    "the same twice": f"10:11 genotype = {V2}\n10:12 genotype = {V2}",
    "the same in another order": f"10:11 {V2}\n10:12 {SWAPPED}",
    "by place": re.sub(r"\b\w+=", "", V2),
    "a list of a range": V2.replace("range(2, 6)", "list(range(2, 6))"),
}  # fmt: skip


@pytest.mark.parametrize("text", LINES.values(), ids=[*LINES])
def test_text_around_a_genotype_does_not_matter(text):
    assert resolve(text) == genotypes.DARTS_V2


@pytest.mark.parametrize(
    "text",
    [
        f"  {CELL}\n",
        f"Structure(4 nodes with {CELL})",
        f"[2021-03-01 10:00] <<<--->>> The 249-th epoch : {CELL}",
        f"arch_str,acc\n'{CELL}',93.1",
        CELL.replace("|none~0|nor_conv_1x1~1|", "|nor_conv_1x1~1|none~0|"),
        CELL.replace("|none~0|nor_conv_1x1~1|", "|nor_conv_1x1~1|"),
        CELL.replace("+", " + "),
        f"{CELL} and once more {CELL}",
    ],
    ids=["spaces", "Structure", "a log", "a table", "another order", "without none", "spaced", "twice"],
)
def test_texts_of_the_benchmark_in_other_forms(text):
    assert parse(text) == resolve(text) == parse(CELL)


FILE = f"""from collections import namedtuple

Genotype = namedtuple('Genotype', 'normal normal_concat reduce reduce_concat')
PRIMITIVES = ['none', 'max_pool_3x3']
# OLD = {P}
DARTS_V1 = {V1}
DARTS_V2 = {V2}
DARTS = DARTS_V2
BEST: Genotype = DARTS_V1
TABLE = {{'mine': {P}, 'other': DARTS_V1}}
DARTS_V1 = Genotype
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "genotypes.py"
    path.write_text(FILE)
    return path


@pytest.mark.parametrize(
    "name, expected",
    [
        ("DARTS_V1", "DARTS_V1"), ("DARTS_V2", "DARTS_V2"), ("DARTS", "DARTS_V2"), ("BEST", "DARTS_V1"), ("mine", "PDARTS"),
        ("7", "DARTS_V2"),
    ],
)  # fmt: skip
def test_one_of_several_in_a_file_is_named(file, name, expected):
    assert read_file(file, name) == genotypes.get(expected)


def test_several_in_a_file_are_listed(file):
    with pytest.raises(OcheError) as caught:
        read_file(file)
    assert str(caught.value) == (
        f"{file} has 5 genotypes (DARTS_V1, DARTS_V2, DARTS, BEST, mine); name one of them, as {file}:mine"
    )
    with pytest.raises(OcheError, match=r"the text has 2 genotypes \(line 1, line 2\); give one of them alone"):
        Genotype.parse(f"a 1: {V1}\nb 2: {V2}")
    with pytest.raises(OcheError) as caught:
        read_file(file, "PDARTS")
    assert str(caught.value) == (
        f"{file} has no genotype 'PDARTS'; did you mean 'DARTS'?; it has DARTS_V1, DARTS_V2, DARTS, BEST, mine"
    )


def test_a_file_of_another_python_is_scanned(tmp_path):
    path = tmp_path / "genotypes.py"
    path.write_text(f"print 'old'\n# A = {P}\nA = {V1}\nB = {V2}\n")
    assert read_file(path, "A") == genotypes.DARTS_V1 and read_file(path, "B") == genotypes.DARTS_V2
    with pytest.raises(OcheError, match=r"has 2 genotypes \(A, B\)"):
        read_file(path)


def test_lines_of_a_log_are_told_apart_by_their_numbers(tmp_path):
    path = tmp_path / "log.txt"
    path.write_text("".join(f"10:{i:02} epoch {i}\n10:{i:02} genotype = {g}\n" for i, g in enumerate([V1, V1, V2, P])))
    assert read_file(path, "4") == genotypes.DARTS_V1 and read_file(path, "8") == genotypes.PDARTS
    with pytest.raises(OcheError) as caught:
        read_file(path)
    assert str(caught.value) == (
        f"{path} has 4 genotypes (line 2, line 4, line 6, line 8); name one of them, as {path}:8"
    )


@pytest.mark.parametrize(
    "data",
    [
        V2.encode(),
        codecs.BOM_UTF8 + V2.encode(),
        V2.encode("utf-16"),
        codecs.BOM_UTF16_BE + V2.encode("utf-16-be"),
        V2.replace(" ", "\r\n ").encode(),
    ],
    ids=["plain", "UTF-8 mark", "UTF-16", "UTF-16 big-endian", "Windows lines"],
)
def test_files_of_other_editors_are_read(tmp_path, data):
    path = tmp_path / "genotype.txt"
    path.write_bytes(data)
    assert read_file(path) == genotypes.DARTS_V2


def test_a_file_may_hold_a_published_name(tmp_path):
    path = tmp_path / "genotype.txt"
    path.write_text("darts-v2\n")
    assert read_file(path) == genotypes.DARTS_V2
    path.write_text("my cell\n")
    with pytest.raises(OcheError, match=f"^{path}: no published genotype is named 'my cell'"):
        read_file(path)


def test_python_of_doubtful_style_is_read_without_a_word(recwarn):
    assert Genotype.parse(f"X = 1or 2\nY = '\\d'\nA = {V1}\n") == genotypes.DARTS_V1
    with pytest.raises(OcheError):
        Genotype.parse("{1if 1else 2}")
    assert not recwarn.list


def test_bytes_become_text_without_a_mark():
    assert decode(codecs.BOM_UTF8 + b"a") == decode("a".encode("utf-16")) == decode(b"a") == "a"
    assert decode(b"\xff") == "\ufffd"


def test_long_files_are_refused():
    with pytest.raises(OcheError, match="has 20000001 characters"):
        find("\n" * 20_000_001)
