"""Keep the times of steps between fits, each for the machine, the versions and the step that was timed."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from oche.core.atomic_files import Unwritten, read_json, to_json, write_bytes
from oche.core.cache_folders import cache_folder
from oche.core.errors import OcheError
from oche.data import Dataset
from oche.devices.engine import Engine
from oche.proof.cache import describe_machine, digest

LIFE = 30 * 86400.0  # seconds after which a step is timed again


class KeptTimes:
    """Times of steps on ``engine`` for images like those of ``data``, in a file each below the cache folder.

    ``used``: whether a kept time was read. With ``read=False`` none is, and new ones replace them.
    """

    def __init__(self, data: Dataset, engine: Engine, read: bool = True) -> None:
        self.read, self.used = read, False
        self._facts = [
            describe_machine(engine.device), engine.name, engine.threads, engine.fused, len(data.classes), data.channels,
            data.image, repr(data.augment),
        ]  # fmt: skip

    def recall(self, *step: Any) -> Any:
        """Return what is kept of ``step``, a few values that name it; None if nothing is."""
        if not self.read:
            return None
        with suppress(OcheError, OSError, ValueError):
            found = read_json(self._place(step))
            if found.get("step") == repr(step) and time.time() - found["time"] < LIFE:
                self.used = True
                return found["value"]
        return None

    def keep(self, value: Any, *step: Any) -> None:
        """Keep ``value`` of ``step``, if the disk allows it."""
        with suppress(Unwritten, OSError):
            write_bytes(self._place(step), to_json({"step": repr(step), "time": time.time(), "value": value}).encode())

    def _place(self, step: tuple[Any, ...]) -> Path:
        known = json.dumps([self._facts, repr(step)], sort_keys=True, default=str)
        return cache_folder() / "step-times" / f"{digest(known)}.json"
