"""Text for language models: from a word or a path to a `Corpus` of token numbers.

A part of a corpus is N tokens in the order of the text, as int64 (N,). The end of a line is a token of its own, `EOS`, as in
the published code; what the training part does not know is `UNKNOWN`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from oche.core.errors import OcheError
from oche.data.text import files as text_files
from oche.data.text.files import Source

EOS, UNKNOWN = "<eos>", "<unk>"
Tokens = Literal["words", "characters"]

_SPLIT: dict[str, Callable[[str], Iterable[str]]] = {
    "words": lambda line: [*line.split(), EOS],
    "characters": lambda line: [*line.rstrip("\n"), EOS],
}


@dataclass(frozen=True, eq=False)
class Corpus:
    """Training, validation and test tokens, numbered by ``vocabulary``, which holds `EOS` and `UNKNOWN`."""

    name: str
    train: Tensor
    valid: Tensor
    test: Tensor | None
    """None only where a text brings a validation part of its own and no test part"""
    vocabulary: list[str]
    """in the order in which the tokens first occur in training"""
    tokens: Tokens = "words"
    note: str = ""
    """one line that a report should carry beside perplexities; empty: nothing to say"""


def load_text(
    name: str | Path,
    *,
    tokens: Tokens = "words",
    data_dir: str | Path | None = None,
    holdout: float = 0.2,
    limit: int | None = None,
    progress: bool = False,
) -> Corpus:
    """The corpus that ``name`` stands for: one of `TEXTS`, a text file (gzip too), or a folder with one for each part.

    A file called train (``ptb.train.txt.gz``) brings those beside it called valid and test. Of a text without a validation
    part the last ``holdout`` is kept from training, half of it for validation and half for the test; of one with a test part
    alone, half of ``holdout`` for validation. ``limit``: at most this many training tokens, from the beginning; the
    vocabulary is that of the whole training part all the same, so perplexities stay comparable. ``data_dir``: a folder with
    the files of a named text, used instead of the network.

    Tokens that training does not have become `UNKNOWN`. A training part that does not write `UNKNOWN` itself would never
    teach it, so what occurs there only once becomes it. Raises `OcheError`.
    """
    if tokens not in get_args(Tokens):
        raise OcheError(f"tokens={tokens!r} is no way to cut a text; use words or characters")
    if limit is not None and limit < 2:
        raise OcheError(f"limit={limit} leaves no training tokens to predict; use 2 or more, or nothing for all")
    sources, notes = text_files.find_text(name, None if data_dir is None else Path(data_dir).expanduser(), progress)
    numbers: dict[str, int] = {}
    parts = {part: _numbered(source, _SPLIT[tokens], numbers) for part, source in sources.items()}
    if "valid" not in parts:
        notes += _hold_out(parts, holdout, str(name))
    for part, found in parts.items():
        _check_length(found, f"{name}: its {part} part")
    vocabulary, table = _vocabulary(parts["train"], list(numbers), str(name))
    coded = {part: table[found] for part, found in parts.items()}
    notes += _unknown(coded, parts, list(numbers), vocabulary)
    train = coded["train"] if limit is None else coded["train"][:limit].clone()
    return Corpus(
        str(name), train, coded["valid"], coded.get("test"), vocabulary, tokens, "; ".join(filter(None, notes))
    )  # fmt: skip


def encode_file(path: str | Path, vocabulary: Sequence[str], tokens: Tokens = "words") -> Tensor:
    """The tokens (N,) of the one text file at ``path`` by a given ``vocabulary``; others become `UNKNOWN`.

    Raises `OcheError` for a file without two tokens, and for one of which ``vocabulary`` knows nothing.
    """
    numbers: dict[str, int] = {}
    found = _numbered(Source(Path(path).expanduser()), _SPLIT[tokens], numbers)
    _check_length(found, str(path))
    coded = _table(numbers, vocabulary)[found]
    if not {*numbers} & {*vocabulary} - {EOS, UNKNOWN}:
        raise OcheError(f"{path}: the vocabulary has none of its {tokens}; use a text in the language of the training")
    return coded


def reencode(corpus: Corpus, vocabulary: Sequence[str]) -> Corpus:
    """``corpus`` numbered by another ``vocabulary``, such as that of a trained model; others become `UNKNOWN`.

    Raises `OcheError` where ``vocabulary`` knows nothing of it.
    """
    if not {*vocabulary} & {*corpus.vocabulary} - {EOS, UNKNOWN}:
        raise OcheError(
            f"the vocabulary of {len(vocabulary):,} tokens has none of the {len(corpus.vocabulary):,} of {corpus.name}; "
            f"use a text like that of the training, cut into {corpus.tokens} as it was"
        )
    table = _table(corpus.vocabulary, vocabulary)
    test = None if corpus.test is None else table[corpus.test]
    return replace(corpus, train=table[corpus.train], valid=table[corpus.valid], test=test, vocabulary=list(vocabulary))


def _numbered(source: Source, split: Callable[[str], Iterable[str]], numbers: dict[str, int]) -> Tensor:
    """The tokens of ``source`` (N,); new ones are added to ``numbers`` in the order in which they occur."""
    found = array("q")
    for line in source.lines():
        found.extend([numbers.setdefault(token, len(numbers)) for token in split(line)])
    if not found:
        raise OcheError(f"{source} is empty; give a file with text")
    return torch.frombuffer(found, dtype=torch.int64)


def _check_length(part: Tensor, what: str) -> None:
    if len(part) < 2:
        raise OcheError(
            f"{what} has {len(part)} token{'' if len(part) == 1 else 's'} (the end of a line is one); a language model "
            "predicts each from those before it and needs 2 or more: give more text"
        )


def _hold_out(parts: dict[str, Tensor], holdout: float, name: str) -> list[str]:
    """Cuts what is missing of ``parts`` from the end of the training part; returns a note."""
    if not 0 < holdout < 1:
        raise OcheError(f"holdout={holdout} leaves {name} no validation part; use 0 < holdout < 1, such as 0.2")
    train = parts["train"]
    half = round(len(train) * holdout / 2)
    cut = len(train) - half * (1 if "test" in parts else 2)
    share = f"{100 * holdout / 2:g} %"
    parts["train"], parts["valid"] = train[:cut], train[cut : cut + half]
    if "test" in parts:
        return [f"validation is the last {share} of the training text"]
    parts["test"] = train[cut + half :]
    return [f"validation and test are the last two pieces of {share} of the text"]


def _vocabulary(train: Tensor, tokens: list[str], name: str) -> tuple[list[str], Tensor]:
    """(the vocabulary of the training part, number in it of each of ``tokens``). Training's own come first in ``tokens``."""
    own = int(train.max()) + 1
    kept = torch.ones(own, dtype=torch.bool)
    if UNKNOWN not in tokens[:own]:
        kept = train.bincount() > 1
        if EOS in tokens[:own]:
            kept[tokens.index(EOS)] = True
    vocabulary = [token for token, keep in zip(tokens[:own], kept.tolist(), strict=True) if keep]
    if not set(vocabulary) - {EOS, UNKNOWN}:
        raise OcheError(f"{name}: nothing occurs twice in its training part; give more text, or use characters")
    vocabulary += [special for special in (EOS, UNKNOWN) if special not in vocabulary]
    return vocabulary, _table(tokens, vocabulary)


def _table(tokens: Iterable[str], vocabulary: Sequence[str]) -> Tensor:
    """The number in ``vocabulary`` of each of ``tokens``, that of `UNKNOWN` for those that it lacks."""
    numbers = {token: n for n, token in enumerate(vocabulary)}
    return torch.tensor([numbers.get(token, numbers[UNKNOWN]) for token in tokens])


def _unknown(coded: dict[str, Tensor], parts: dict[str, Tensor], tokens: list[str], vocabulary: list[str]) -> list[str]:
    """Notes on what became `UNKNOWN` that was not written so."""
    written = tokens.index(UNKNOWN) if UNKNOWN in tokens else -1
    notes = []
    for part, found in coded.items():
        share = ((found == vocabulary.index(UNKNOWN)) & (parts[part] != written)).double().mean().item()
        if share:
            notes.append(f"{100 * share:.2f} % of the {part} tokens stand for {UNKNOWN}")
    return notes


def check_vocabulary(corpus: Corpus, known: Sequence[str]) -> None:
    """Raises `OcheError` where ``corpus`` is numbered otherwise than by the vocabulary ``known`` to a checkpoint."""
    if corpus.vocabulary == list(known):
        return
    new = [token for token in corpus.vocabulary if token not in {*known}]
    lacks = (
        f"it lacks {len(new):,} of {corpus.name}, such as {new[0]!r}" if new else f"{corpus.name} orders them otherwise"
    )
    raise OcheError(
        f"the checkpoint knows {len(known):,} {corpus.tokens}, and {lacks}: the text is not the one that the run began with; "
        "put that one back and resume, or start a new run"
    )
