"""Texts as token numbers: against a naive count, the real Penn Treebank where it is present, and everything refused."""

import gzip
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import torch

from oche.core.errors import OcheError
from oche.data import TEXTS, Corpus, is_text, load_text
from oche.data.readers.download import Archive
from oche.data.text import files
from oche.data.text.corpus import EOS, UNKNOWN, encode_file, reencode
from paths import SHARED

POEM = "the cat saw the dog\nthe dog saw <unk>\n\nthe end saw\n"


def words(corpus: Corpus, part: torch.Tensor) -> list[str]:
    return [corpus.vocabulary[i] for i in part.tolist()]


def write(folder, train=POEM, valid="the dog ran\n", test="a cat saw the end\n", name="{}.txt"):
    for part, text in (("train", train), ("valid", valid), ("test", test)):
        if text is not None:
            (folder / name.format(part)).write_text(text)
    return folder


# --- tokens


def test_words_lines_and_unknowns_by_a_folder(tmp_path):
    corpus = load_text(write(tmp_path))
    assert corpus.vocabulary == ["the", "cat", "saw", "dog", EOS, UNKNOWN, "end"]
    assert corpus.train.dtype == torch.int64 and corpus.train.dim() == 1
    assert " ".join(words(corpus, corpus.train)) == (
        "the cat saw the dog <eos> the dog saw <unk> <eos> <eos> the end saw <eos>"
    )
    assert words(corpus, corpus.valid) == ["the", "dog", UNKNOWN, EOS]
    assert words(corpus, corpus.test) == [UNKNOWN, "cat", "saw", "the", "end", EOS]
    assert corpus.note == "25.00 % of the valid tokens stand for <unk>; 16.67 % of the test tokens stand for <unk>"


def test_characters_keep_spaces(tmp_path):
    corpus = load_text(write(tmp_path, train="ab ab\na b\n", valid="b a\n", test="abc\n"), tokens="characters")
    assert corpus.tokens == "characters" and corpus.vocabulary == ["a", "b", " ", EOS, UNKNOWN]
    assert words(corpus, corpus.train) == ["a", "b", " ", "a", "b", EOS, "a", " ", "b", EOS]
    assert words(corpus, corpus.test) == ["a", "b", UNKNOWN, EOS]


def test_what_training_shows_once_teaches_the_unknown_word(tmp_path):
    corpus = load_text(write(tmp_path, train="a b a c\nb d\n", valid="d a e\n", test="a b\n"))
    assert corpus.vocabulary == ["a", "b", EOS, UNKNOWN]
    assert words(corpus, corpus.train) == ["a", "b", "a", UNKNOWN, EOS, "b", UNKNOWN, EOS]
    assert words(corpus, corpus.valid) == [UNKNOWN, "a", UNKNOWN, EOS]
    assert "25.00 % of the train tokens" in corpus.note and "50.00 % of the valid tokens" in corpus.note


def test_a_text_that_writes_unknown_keeps_its_single_words(tmp_path):
    assert "end" in load_text(write(tmp_path)).vocabulary


def test_the_vocabulary_is_that_of_training_alone(tmp_path):
    corpus = load_text(write(tmp_path, valid="zebra zebra zebra\n", test="zebra the\n"))
    assert "zebra" not in corpus.vocabulary and (corpus.valid[:3] == corpus.vocabulary.index(UNKNOWN)).all()


def test_limit_shortens_training_and_leaves_the_vocabulary(tmp_path):
    whole, short = load_text(write(tmp_path)), load_text(tmp_path, limit=5)
    assert short.vocabulary == whole.vocabulary and torch.equal(short.train, whole.train[:5])
    assert torch.equal(short.valid, whole.valid)
    assert len(load_text(tmp_path, limit=10**6).train) == len(whole.train)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_line_ends_and_byte_order_marks(tmp_path, ends):
    folder = write(tmp_path)
    (folder / "train.txt").write_bytes(b"\xef\xbb\xbf" + POEM.replace("\n", ends).encode())
    assert load_text(folder).vocabulary[0] == "the"
    assert words(load_text(folder), load_text(folder).train).count(EOS) == 4


# --- files


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


# --- the published texts


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


# --- other vocabularies


def test_a_text_by_the_vocabulary_of_another(tmp_path):
    corpus = load_text(write(tmp_path))
    (tmp_path / "other.txt").write_text("the bird saw\n")
    assert encode_file(tmp_path / "other.txt", corpus.vocabulary).tolist() == [
        corpus.vocabulary.index(word) for word in ("the", UNKNOWN, "saw", EOS)
    ]
    foreign = reencode(corpus, ["saw", EOS, UNKNOWN, "the"])
    assert [foreign.vocabulary[i] for i in foreign.valid] == ["the", UNKNOWN, UNKNOWN, EOS]
    assert [foreign.vocabulary[i] for i in foreign.train[:4]] == ["the", UNKNOWN, "saw", "the"]


def test_a_vocabulary_that_knows_nothing_of_a_text_is_refused(tmp_path):
    corpus = load_text(write(tmp_path))
    with pytest.raises(OcheError, match=r"the vocabulary of 3 tokens has none of the 7 of .* cut into words"):
        reencode(corpus, ["x", EOS, UNKNOWN])
    (tmp_path / "other.txt").write_text("le chat\n")
    with pytest.raises(OcheError, match=r"other.txt: the vocabulary has none of its words"):
        encode_file(tmp_path / "other.txt", corpus.vocabulary)


# --- refusals


@pytest.mark.parametrize(
    ("text", "fields", "words"),
    [
        (b"", {}, "my.txt is empty; give a file with text"),
        (b"\n", {}, r"its train part has 1 token \(the end of a line is one\)"),
        (b"word", {}, r"its valid part has 0 tokens"),
        (b"a a a a a a a a a a\n", {"holdout": 0.0}, "holdout=0.0 leaves .*my.txt no validation part"),
        (b"a a a a a a a a a a\n", {"tokens": "letters"}, "tokens='letters' is no way to cut a text"),
        (b"a a a a a a a a a a\n", {"limit": 1}, "limit=1 leaves no training tokens"),
        (b" ".join(b"%d" % i for i in range(99)), {}, "nothing occurs twice in its training part"),
        (b"\xff\xfe\x00", {}, "my.txt is not UTF-8 text"),
    ],
)
def test_bad_texts_are_refused(tmp_path, text, fields, words):
    (tmp_path / "my.txt").write_bytes(text)
    with pytest.raises(OcheError, match=words) as caught:
        load_text(tmp_path / "my.txt", **fields)
    assert "\n" not in str(caught.value)


def test_an_empty_part_is_named(tmp_path):
    with pytest.raises(OcheError, match=r"valid.txt is empty"):
        load_text(write(tmp_path, valid=""))


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
        with pytest.raises(OcheError, match=r"bad.txt.gz cannot be read .*; get it anew"):
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
