"""The named sets, from the files in which their makers published them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ..errors import OcheError
from .core import Resident
from .parts import Parts


def read(name: str, data_dir: Path | None, memory: int, show: bool) -> Parts:
    """The set called ``name``, one of `DATASETS`."""
    if name == "digits":
        return digits()
    raise OcheError(f"{name} cannot be read yet")


def digits() -> Parts:
    """1,797 digits (1, 8, 8) from scikit-learn, whose 17 grey levels become 0..255. They have no test part of their own."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = np.rint(found.images * (255 / 16)).astype(np.uint8)
    labels = torch.from_numpy(found.target.astype(np.int64))
    return Parts("digits", Resident(torch.from_numpy(images).unsqueeze(1), labels), None, tuple("0123456789"))
