"""The one exception that stands for a user's mistake."""


class OcheError(ValueError):
    """What was asked, what was found, what to write instead, on one line.

    The command line prints the message and exits with ``exit_code``; from Python it is an ordinary ``ValueError``.
    """

    exit_code = 2  # a mistake in what was asked; 1: what was asked could be tried, and failed
    said = False  # whether another process tells the user


def did_you_mean(word: str, known: "list[str] | tuple[str, ...]") -> str:
    """'; did you mean X?' for the closest known name, or '' when nothing is close."""
    from difflib import get_close_matches

    close = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


_LONGEST = 1000  # characters of a message: a whole file's contents in one would bury what is said about it


def one_line(text: object) -> str:
    """``text`` as a terminal may show it: on one line, what cannot be printed escaped, the middle of a very long one left out."""
    words = " ".join(str(text).split())
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in words)
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST * 3 // 4]} ... {shown[-_LONGEST // 4 :]}"
