"""Text for language models: read a corpus by name or path and number its tokens.

A part of a corpus is its N tokens in the order of the text, int64 (N,). The end of a line is a token of its own, `EOS`,
as in the published code. Tokens that the training part lacks are `UNKNOWN`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from oche.core.arguments import checked
from oche.core.errors import OcheError, plural
from oche.data.text import files as text_files
from oche.data.text.files import Source

EOS, UNKNOWN = "<eos>", "<unk>"
Tokens = Literal["words", "characters"]

_TOKENS_OF_LINE: dict[str, Callable[[str], Iterable[str]]] = {
    "words": lambda line: [*line.split(), EOS],
    "characters": lambda line: [*line.rstrip("\n"), EOS],
}


@checked
@dataclass(frozen=True, eq=False)
class Corpus:
    """Training, validation and test tokens, as numbers in ``vocabulary``, which holds `EOS` and `UNKNOWN`."""

    name: str
    train: Tensor
    valid: Tensor
    test: Tensor | None
    """None only if a text has a validation part of its own and no test part"""
    vocabulary: list[str]
    """in the order of first occurrence in training"""
    tokens: Tokens = "words"
    note: str = ""
    """one line for reports, beside perplexities; may be empty"""


@checked
def load_text(
    name: str | Path,
    *,
    tokens: Tokens = "words",
    data_dir: str | Path | None = None,
    holdout: float = 0.2,
    limit: int | None = None,
    progress: bool = False,
) -> Corpus:
    """Load the corpus ``name``: one of `TEXTS`, a text file (also gzipped), or a folder with a file for each part.

    A file called train (``ptb.train.txt.gz``) brings along the files beside it called valid and test. If a text has no
    validation part, the last ``holdout`` of the training text is held out: half for validation and half for the test, or
    only half of ``holdout`` for validation if there is a test part. ``limit``: at most this many training tokens, from
    the beginning. The vocabulary is still that of the whole training part, so perplexities stay comparable. ``data_dir``:
    a folder with the files of a named text, used instead of the network.

    Tokens that are not in training become `UNKNOWN`. If the training part does not contain `UNKNOWN` itself, the model
    would never learn it, so tokens that occur only once there become it. Raises `OcheError`.
    """
    if tokens not in get_args(Tokens):
        raise OcheError(f"tokens={tokens!r} is not a way to cut a text; use words or characters")
    if limit is not None and limit < 2:
        raise OcheError(f"limit={limit} leaves no training tokens to predict; use 2 or more, or nothing for all")
    sources, notes = text_files.find_text(name, None if data_dir is None else Path(data_dir).expanduser(), progress)
    numbers: dict[str, int] = {}
    parts = {part: _number_tokens(source, _TOKENS_OF_LINE[tokens], numbers) for part, source in sources.items()}
    if "valid" not in parts:
        notes += _hold_out(parts, holdout, str(name))
    for part, found in parts.items():
        _check_length(found, f"{name}: its {part} part")
    vocabulary, table = _vocabulary(parts["train"], list(numbers), str(name))
    coded = {part: table[found] for part, found in parts.items()}
    notes += _notes_on_unknown(coded, parts, list(numbers), vocabulary)
    train = coded["train"] if limit is None else coded["train"][:limit].clone()
    return Corpus(
        str(name), train, coded["valid"], coded.get("test"), vocabulary, tokens, "; ".join(filter(None, notes))
    )  # fmt: skip


def encode_file(path: str | Path | Source, vocabulary: Sequence[str], tokens: Tokens = "words") -> Tensor:
    """Return the tokens (N,) of the text file ``path`` as numbers in ``vocabulary``. Other tokens become `UNKNOWN`.

    Raises `OcheError` for a file with fewer than two tokens, and if ``vocabulary`` has none of its tokens.
    """
    numbers: dict[str, int] = {}
    source = path if isinstance(path, Source) else Source(Path(path).expanduser())
    found = _number_tokens(source, _TOKENS_OF_LINE[tokens], numbers)
    _check_length(found, str(path))
    coded = _table(numbers, vocabulary)[found]
    if not {*numbers} & {*vocabulary} - {EOS, UNKNOWN}:
        raise OcheError(f"{path}: the vocabulary has none of its {tokens}; use a text in the language of the training")
    return coded


def reencode(corpus: Corpus, vocabulary: Sequence[str]) -> Corpus:
    """Return ``corpus`` with the numbers of another ``vocabulary``, such as that of a trained model.

    Other tokens become `UNKNOWN`.

    Raises `OcheError` if ``vocabulary`` has none of its tokens.
    """
    if not {*vocabulary} & {*corpus.vocabulary} - {EOS, UNKNOWN}:
        raise OcheError(
            f"the vocabulary of {len(vocabulary):,} tokens has none of the {len(corpus.vocabulary):,} of {corpus.name}; "
            f"use a text like that of the training, cut into {corpus.tokens} as it was"
        )
    table = _table(corpus.vocabulary, vocabulary)
    test = None if corpus.test is None else table[corpus.test]
    return replace(corpus, train=table[corpus.train], valid=table[corpus.valid], test=test, vocabulary=list(vocabulary))


def _number_tokens(source: Source, split: Callable[[str], Iterable[str]], numbers: dict[str, int]) -> Tensor:
    """Return the tokens (N,) of ``source`` as numbers. New tokens are added to ``numbers`` in the order of occurrence."""
    found = array("q")
    for line in source.lines():
        found.extend([numbers.setdefault(token, len(numbers)) for token in split(line)])
    if not found:
        raise OcheError(f"{source} is empty; give a file with text")
    return torch.frombuffer(found, dtype=torch.int64)


def _check_length(part: Tensor, what: str) -> None:
    """Raise `OcheError` if a part, described by ``what``, has fewer than two tokens."""
    if len(part) < 2:
        raise OcheError(
            f"{what} has {plural(len(part), 'token')} (the end of a line is one); a language model "
            "predicts each from those before it and needs 2 or more: give more text"
        )


def _hold_out(parts: dict[str, Tensor], holdout: float, name: str) -> list[str]:
    """Move the missing parts from the end of the training part into ``parts``. Return a note."""
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
    """Return the vocabulary of the training part, and the number in it of each of ``tokens``.

    ``tokens`` begins with the tokens of the training part.
    """
    in_training = tokens[: int(train.max()) + 1]
    kept = torch.ones(len(in_training), dtype=torch.bool)
    if UNKNOWN not in in_training:
        kept = train.bincount() > 1
        if EOS in in_training:
            kept[in_training.index(EOS)] = True
    vocabulary = [token for token, keep in zip(in_training, kept.tolist(), strict=True) if keep]
    if not set(vocabulary) - {EOS, UNKNOWN}:
        raise OcheError(f"{name}: no token occurs twice in its training part; give more text, or use characters")
    vocabulary += [special for special in (EOS, UNKNOWN) if special not in vocabulary]
    return vocabulary, _table(tokens, vocabulary)


def _table(tokens: Iterable[str], vocabulary: Sequence[str]) -> Tensor:
    """Return the number in ``vocabulary`` of each of ``tokens``, and the number of `UNKNOWN` for tokens that it lacks."""
    numbers = {token: n for n, token in enumerate(vocabulary)}
    return torch.tensor([numbers.get(token, numbers[UNKNOWN]) for token in tokens])


def _notes_on_unknown(
    coded: dict[str, Tensor], parts: dict[str, Tensor], tokens: list[str], vocabulary: list[str]
) -> list[str]:
    """Return a note for each part in which tokens became `UNKNOWN`."""
    written = tokens.index(UNKNOWN) if UNKNOWN in tokens else -1
    notes = []
    for part, found in coded.items():
        share = ((found == vocabulary.index(UNKNOWN)) & (parts[part] != written)).double().mean().item()
        if share:
            notes.append(f"{100 * share:.2f} % of the {part} tokens stand for {UNKNOWN}")
    return notes


def check_vocabulary(corpus: Corpus, known: Sequence[str]) -> None:
    """Raise `OcheError` unless the vocabulary of ``corpus`` is that of a checkpoint, ``known``."""
    if corpus.vocabulary == list(known):
        return
    new = [token for token in corpus.vocabulary if token not in {*known}]
    lacks = (
        f"it lacks {len(new):,} of {corpus.name}, such as {new[0]!r}"
        if new
        else f"{corpus.name} orders them differently"
    )
    raise OcheError(
        f"the checkpoint knows {len(known):,} {corpus.tokens}, and {lacks}: this is not the text with which the run began; "
        "put that text back and resume, or start a new run"
    )
