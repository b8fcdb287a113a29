"""Files of text: their parts, siblings, archives and downloads."""

import gzip
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import torch

from oche.core.errors import OcheError
from oche.data import TEXTS, is_text, load_text
from oche.data.readers.download import Archive
from oche.data.text import files
from oche.data.text.corpus import EOS, UNKNOWN
from paths import SHARED
from text_files import words, write

POEM = "the cat saw the dog\nthe dog saw <unk>\n\nthe end saw\n"


def test_a_single_text_is_cut_in_three(tmp_path):
    (tmp_path / "my.txt").write_text("a b c d " * 25)
    corpus = load_text(tmp_path / "my.txt", holdout=0.2)
    assert [len(part) for part in (corpus.train, corpus.valid, corpus.test)] == [81, 10, 10]
    joined = torch.cat([corpus.train, corpus.valid, corpus.test])
    assert words(corpus, joined) == ["a", "b", "c", "d"] * 25 + [EOS]
    assert EOS in corpus.vocabulary and corpus.note.startswith("validation and test are the last two pieces of 10 %")


def test_words_that_begin_in_the_cut_off_part_are_unknown(tmp_path):
    (tmp_path / "my.txt").write_text("a b " * 40 + "z " * 20)
    corpus = load_text(tmp_path / "my.txt")
    assert corpus.vocabulary == ["a", "b", EOS, UNKNOWN]
    assert set(words(corpus, corpus.test)) == {UNKNOWN, EOS}


@pytest.mark.parametrize("name", ["{}.txt", "ptb.{}.txt", "wiki.{}.tokens", "my_{}.text"])
@pytest.mark.parametrize("packed", [True, False])
def test_a_training_file_brings_its_siblings(tmp_path, name, packed):
    write(tmp_path, name=name)
    if packed:
        for path in list(tmp_path.iterdir()):
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    train = tmp_path / (name.format("train") + (".gz" if packed else ""))
    assert is_text(train) and is_text(tmp_path)
    for corpus in (load_text(train), load_text(tmp_path)):
        assert (len(corpus.train), len(corpus.valid), len(corpus.test)) == (16, 4, 6)


def test_other_names_of_the_validation_part_and_missing_parts(tmp_path):
    write(tmp_path, valid=None, test=None)
    (tmp_path / "val.txt").write_text("the dog\n")
    corpus = load_text(tmp_path)
    assert len(corpus.valid) == 3 and corpus.test is None
    (tmp_path / "val.txt").unlink()
    (tmp_path / "test.txt").write_text("the dog\n")
    (tmp_path / "train.txt").write_text(POEM * 10)
    corpus = load_text(tmp_path)
    assert (len(corpus.train), len(corpus.valid), len(corpus.test)) == (144, 16, 3)
    assert corpus.note == "validation is the last 10 % of the training text"


def test_a_validation_file_by_itself_is_a_text_of_its_own(tmp_path):
    write(tmp_path, valid="a b " * 30)
    assert len(load_text(tmp_path / "valid.txt").train) == 49


def test_what_is_text(tmp_path):
    assert all(map(is_text, TEXTS)) and is_text("no/such/file.txt") and is_text(tmp_path / "A.TXT.GZ")
    assert not any(map(is_text, ["cifar10", "hf:a/b", "x.npz", "x.parquet", str(tmp_path), "."]))
    write(tmp_path)
    assert is_text(tmp_path)
    (tmp_path / "ants").mkdir()  # class folders: images, with a list of them
    assert not is_text(tmp_path)


@pytest.fixture(scope="module")
def ptb():
    if not (SHARED / "ptb.train.txt.gz").exists():
        pytest.skip("needs the Penn Treebank in ../shared/data")
    return load_text(SHARED / "ptb.train.txt.gz")


def test_the_penn_treebank(ptb):
    assert [len(part) for part in (ptb.train, ptb.valid, ptb.test)] == [929_589, 73_760, 82_430]
    assert len(ptb.vocabulary) == 10_000 and ptb.note == ""
    for part, name in ((ptb.train, "train"), (ptb.valid, "valid"), (ptb.test, "test")):
        with gzip.open(SHARED / f"ptb.{name}.txt.gz", "rt", encoding="utf-8") as file:
            counts = Counter(file.read().replace("\n", f" {EOS} ").split())
        assert {
            w: n for w, n in zip(ptb.vocabulary, part.bincount(minlength=10_000).tolist(), strict=True) if n
        } == counts
    unknown, end = ptb.vocabulary.index(UNKNOWN), ptb.vocabulary.index(EOS)
    assert [int((part == unknown).sum()) for part in (ptb.train, ptb.valid, ptb.test)] == [45_020, 3_485, 4_794]
    assert [int((part == end).sum()) for part in (ptb.train, ptb.valid, ptb.test)] == [42_068, 3_370, 3_761]


def test_the_penn_treebank_by_its_name_from_a_folder(ptb):
    corpus = load_text("ptb", data_dir=SHARED)
    assert torch.equal(corpus.train, ptb.train) and corpus.vocabulary == ptb.vocabulary


def test_wikitext2_packed_and_unpacked(tmp_path):
    parts = {"train": " = A = \n \n a <unk> b a\n", "valid": " a b\n", "test": " b a\n"}
    with zipfile.ZipFile(tmp_path / "wikitext-2-v1.zip", "w") as archive:
        for part, text in parts.items():
            archive.writestr(f"wikitext-2/wiki.{part}.tokens", text)
    corpus = load_text("wikitext2", data_dir=tmp_path)
    assert words(corpus, corpus.train) == ["=", "A", "=", EOS, EOS, "a", UNKNOWN, "b", "a", EOS]
    assert "differs from the published file" in corpus.note
    with zipfile.ZipFile(tmp_path / "wikitext-2-v1.zip") as archive:
        archive.extractall(tmp_path)
    (tmp_path / "wikitext-2-v1.zip").unlink()
    assert load_text("wikitext2", data_dir=tmp_path).vocabulary == corpus.vocabulary


def test_downloads_are_kept(tmp_path, monkeypatch):
    import hashlib

    import pooch

    site = write(tmp_path / "site", name="ptb.{}.txt") if (tmp_path / "site").mkdir() is None else None
    asked = []

    class Site:
        def __init__(self, *args, **fields): ...

        def __call__(self, url, output, _):
            asked.append(url)
            Path(output.name if hasattr(output, "name") else output).write_bytes((site / Path(url).name).read_bytes())

    md5 = {part: hashlib.md5((site / f"ptb.{part}.txt").read_bytes()).hexdigest() for part in files.PTB}
    monkeypatch.setattr(files, "PTB", {
        part: Archive(f"ptb.{part}.txt", md5[part], (f"https://example.org/ptb.{part}.txt",), "-") for part in md5
    })  # fmt: skip
    monkeypatch.setattr(pooch, "HTTPDownloader", Site)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache")
    first, again = load_text("ptb"), load_text("ptb")
    assert len(asked) == 3 and torch.equal(first.train, again.train) and first.vocabulary[0] == "the"
    assert (tmp_path / "cache/ptb/ptb.train.txt").exists()


def test_missing_and_damaged_files_are_refused(tmp_path):
    with pytest.raises(
        OcheError, match=r"there is no file .*none.txt; give a text file, a folder .* or one of ptb, wikitext2"
    ):
        load_text(tmp_path / "none.txt")
    with pytest.raises(OcheError, match="has no text file called train"):
        load_text(tmp_path)
    packed = gzip.compress(POEM.encode() * 99)
    for data in (packed[:-20], packed[:40] + b"????????" + packed[48:], b"no gzip"):
        (tmp_path / "bad.txt.gz").write_bytes(data)
        with pytest.raises(OcheError, match=r"bad.txt.gz cannot be read .*; download it again"):
            load_text(tmp_path / "bad.txt.gz")
    (tmp_path / "wikitext-2-v1.zip").write_bytes(b"no zip")
    with pytest.raises(OcheError, match=r"wikitext-2-v1.zip: wikitext-2/wiki.train.tokens cannot be read"):
        load_text("wikitext2", data_dir=tmp_path)
    with pytest.raises(OcheError, match=r"has no ptb.train.txt"):
        load_text("ptb", data_dir=tmp_path)


def test_two_texts_in_a_folder_are_refused(tmp_path):
    write(write(tmp_path), name="b.{}.txt")
    with pytest.raises(OcheError, match=r"has several training texts, b.train.txt and train.txt; give the path of one"):
        load_text(tmp_path)
