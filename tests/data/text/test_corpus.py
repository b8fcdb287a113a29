"""Texts as token numbers: against a naive count, the real Penn Treebank where it is present, and everything refused."""

import pytest
import torch

from oche.core.errors import OcheError
from oche.data import load_text
from oche.data.text.corpus import EOS, UNKNOWN, encode_file, reencode
from text_files import words, write

POEM = "the cat saw the dog\nthe dog saw <unk>\n\nthe end saw\n"


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
        (
            b"a a a a a a a a a a\n",
            {"tokens": "letters"},
            "takes one of 'words', 'characters' as tokens, found text 'letters'",
        ),
        (b"a a a a a a a a a a\n", {"limit": 1}, "limit=1 leaves no training tokens"),
        (b" ".join(b"%d" % i for i in range(99)), {}, "no token occurs twice in its training part"),
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
