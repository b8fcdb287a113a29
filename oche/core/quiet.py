"""Silence for the warnings of other libraries."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_libraries(quiet: bool = True) -> Iterator[None]:
    """Within, if ``quiet``, no warning of a library is shown, whether it warns, logs or (torch's C++) prints; errors are."""
    if not quiet:
        yield
        return
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # read when torch is imported
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)
