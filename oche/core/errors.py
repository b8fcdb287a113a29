"""The exception for mistakes of a user, and helpers for its message."""


class OcheError(ValueError):
    """A user's mistake, on one line: what was asked, what was found, what to write instead.

    The command line prints the message and exits with ``exit_code``. In Python it is an ordinary ``ValueError``.
    """

    exit_code = 2  # 2: the request was wrong; 1: the request was tried and failed
    said = False  # whether another process reports this error to the user


def did_you_mean(word: str, known: "list[str] | tuple[str, ...]") -> str:
    """Return "; did you mean 'X'?" with the known name closest to ``word``, or "" if none is close."""
    from difflib import get_close_matches

    close = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


_LONGEST = 1000  # characters of a message; the contents of a whole file would bury the message


def one_line(text: object) -> str:
    """Return ``text`` for a terminal: on one line, unprintable characters escaped, a very long one without its middle."""
    words = " ".join(str(text).split())
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in words)
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST * 3 // 4]} ... {shown[-_LONGEST // 4 :]}"
