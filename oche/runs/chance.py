"""What accuracies of a run stand beside: the share of the commonest class, and classes that a part of the data lacks."""

from __future__ import annotations

from collections.abc import Mapping

from oche.analysis.classification import describe_lacking, majority_share
from oche.core.console import Log
from oche.data import Dataset, Split


def majority_shares(data: Dataset, parts: Mapping[str, Split | None], log: Log) -> dict[str, float]:
    """Return the share of the commonest class of each of ``parts`` of ``data``, by name. A part that is None is left out.

    Names the classes that a part lacks, in one line for each part, even when ``log`` is quiet.
    """
    shares = {}
    for part, split in parts.items():
        if split is not None:
            images = split.labels.bincount(minlength=len(data.classes)).tolist()
            shares[part] = majority_share(images)
            if lacking := describe_lacking(part, data.name, data.classes, images):
                log.warn(lacking)
    return shares
