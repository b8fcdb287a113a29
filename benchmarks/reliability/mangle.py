"""Damage text and bytes. All choices come from the given generator, so a seed determines a case."""

from __future__ import annotations

import re
from random import Random

# Difficult values: ends of types, other scripts' digits, brackets, quotes, ends of lines, paths, surrogates
# (which stand for bytes of a command line that are no UTF-8), formats, expansions.
WORDS = (
    "", " ", "-", "--", "-1", "0", "1", "1.5", "1e400", "-1e400", "nan", "inf", "-inf", "1_0", "0x10", "9" * 30,
    "9" * 5000,
    "None", "null", "true", "yes", "[]", "{}", "[1, 2]", "(", ")", "((((((((", "'", '"', "\\", "\n", "\r", "\t",
    "\x1b[31m", "\x00",
    "é", "١٢", "９", "½", "\u202e", "\u2028", "😀", "\udcff", "%s", "{0}", "${HOME}", "~", "..", "../..", "/",
    "/dev/null", "/dev/full",
    "/nonexistent/x", "x" * 5000, "a/" * 3000, "__class__", "*", "#", ":", ",", "=", "|", "+", "~0",
)  # fmt: skip
_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")


def mangled(rng: Random, text: str) -> str:
    """``text`` with one to four changes of tokens or characters."""
    for _ in range(rng.randint(1, 4)):
        parts = _TOKEN.findall(text) if rng.random() < 0.6 else list(text)
        text = "".join(_changed(rng, parts or [""]))
    return text


def _changed(rng: Random, parts: list[str]) -> list[str]:
    i, j = sorted((rng.randrange(len(parts)), rng.randrange(len(parts))))
    how = rng.randrange(7)
    if how == 0:
        return parts[:i] + parts[i + 1 :]
    if how == 1:
        return [*parts[:i], rng.choice(WORDS), *parts[i:]]
    if how == 2:
        return [*parts[:i], rng.choice(WORDS), *parts[i + 1 :]]
    if how == 3:
        return parts[:i] + parts[j:] + parts[i:j]
    if how == 4:
        return parts[:j] + parts[i:]
    if how == 5:
        return parts[:i]
    return [*parts[:i], rng.choice(parts), *parts[i + 1 :]]


def damaged(rng: Random, data: bytes) -> bytes:
    """``data`` cut short, with flipped bits, with a part removed, overwritten, doubled or invented, or other content instead."""
    at, end = sorted((rng.randint(0, len(data)), rng.randint(0, len(data))))
    how = rng.randrange(8)
    if how <= 1:
        return data[:at]
    if how == 2:
        return flipped(rng, data)
    if how == 3:
        return data[:at] + data[end:]
    if how == 4:
        return data[:at] + rng.choice((b"\x00", b"\xff")) * (end - at) + data[end:]
    if how == 5:
        return data[:at] + rng.randbytes(rng.randint(1, 40)) + data[at:]
    if how == 6:
        return data[:end] + data[at:]
    return rng.choice(_OTHER)


def flipped(rng: Random, data: bytes, most: int = 8) -> bytes:
    """``data`` with one to ``most`` bits flipped."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, most) if data else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


# Whole contents of another kind: JSON of other types, a pickle that would run a command, an archive, NaN, deep brackets.
_OTHER = (
    b"", b"\n", b"null", b"[]", b"{}", b"3", b'"text"', b"NaN", b"[" * 20_000, b'{"a":' * 5_000, b"\xef\xbb\xbf{}",
    b"\x00" * 4096,
    b'{"state": 3, "kind": []}', b'{"state": "complete", "kind": "train"}', b"cposix\nsystem\n(S'echo run'\ntR.",
    b"\x80\x04\x95\x0e\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix", b"PK\x03\x04", b"\x1f\x8b\x08\x00", b"%PDF-1.4",
    b"\xff" * 16,
)  # fmt: skip
