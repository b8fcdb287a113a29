"""The one exception that stands for a user's mistake."""


class OcheError(ValueError):
    """What was asked, what was found, what to write instead, on one line.

    The command line prints the message and exits with ``exit_code``; from Python it is an ordinary ``ValueError``.
    """

    exit_code = 2  # a mistake in what was asked; 1: what was asked could be tried, and failed
    said = False  # whether another process tells the user


def nearest(word: str, known: "list[str] | tuple[str, ...]") -> str:
    """'; did you mean X?' for the closest known name, or '' when nothing is close."""
    from difflib import get_close_matches

    close = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
