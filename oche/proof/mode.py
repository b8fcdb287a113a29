"""Whether proofs are made: the environment variable OCHE_PROOF."""

from __future__ import annotations

import os
from typing import Literal, cast, get_args

from oche.core.errors import OcheError

VARIABLE = "OCHE_PROOF"
Mode = Literal["auto", "always", "never"]


def proof_mode() -> Mode:
    """Return the value of OCHE_PROOF: "auto" (the default) proves before long runs, "always" before every run, "never" takes
    kept verdicts only. Raises `OcheError` for other values.
    """
    value = os.environ.get(VARIABLE) or "auto"
    if value not in get_args(Mode):
        raise OcheError(f"{VARIABLE}={value} is unknown; use {', '.join(get_args(Mode))}")
    return cast(Mode, value)
