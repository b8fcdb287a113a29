"""Texts in files."""

import torch

from oche.data import Corpus

POEM = "the cat saw the dog\nthe dog saw <unk>\n\nthe end saw\n"


def words(corpus: Corpus, part: torch.Tensor) -> list[str]:
    return [corpus.vocabulary[i] for i in part.tolist()]


def write(folder, train=POEM, valid="the dog ran\n", test="a cat saw the end\n", name="{}.txt"):
    for part, text in (("train", train), ("valid", valid), ("test", test)):
        if text is not None:
            (folder / name.format(part)).write_text(text)
    return folder
