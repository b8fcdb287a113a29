"""Prove the forms of a step in a child process. Whatever happens to the child, the caller gets a verdict."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from oche.core.errors import one_line
from oche.proof.child import REFERENCE
from oche.proof.values import Proof, Step, StepForm, Verdict, proof_from

DEADLINE = 480.0  # seconds for all forms
PATIENCE = 150.0  # seconds for one form, and for the reference
POLL = 0.02  # seconds
ROOT = Path(__file__).parents[2]


class Stopped(Exception):
    """The caller asked to stop."""


def prove(
    step: Step,
    forms: Sequence[StepForm],
    *,
    deadline: float = DEADLINE,
    patience: float = PATIENCE,
    stopped: Callable[[], bool] = lambda: False,
    environment: dict[str, str] | None = None,
) -> Verdict:
    """Return the verdict on ``forms`` of ``step``, which stand in the order of preference.

    A fresh interpreter builds and runs them. A form that raises, differs, exceeds ``patience`` seconds, or ends the process is
    not accepted; the others go on in another process. ``deadline``: seconds for all of it. ``stopped`` is asked often; if it
    answers True the child is ended and `Stopped` raised. ``environment``: variables for the child besides those of this process.
    """
    began = time.monotonic()
    proofs: dict[str, Proof] = {}
    obstacle = ""
    with tempfile.TemporaryDirectory(prefix="oche-proof-") as place:
        folder = Path(place)
        while not obstacle and (left := [form for form in forms if form.name not in proofs]):
            child = _Child(folder, step, left, environment or {})
            at, ended, passing = child.watch(began + deadline, patience, stopped)
            proofs |= {proof.form.name: proof for proof in child.proofs}
            ended = ended or ("" if child.proofs else "the process ended without a result")
            if ended and at == REFERENCE and not proofs:
                obstacle = ended
            elif ended and at == REFERENCE:  # no time is left, or the device is dead
                proofs |= {form.name: Proof(form, False, why=f"not tried: {ended}", passing=True) for form in left}
            elif ended:
                form = next(form for form in left if form.name == at)
                proofs[at] = Proof(form, False, why=ended, passing=passing)
    return Verdict(
        step.title,
        tuple(proofs[form.name] for form in forms if form.name in proofs),
        obstacle,
        took=round(time.monotonic() - began, 3),
        time=round(time.time(), 1),
    )


class _Child:
    """The parent's view of a child process."""

    def __init__(self, folder: Path, step: Step, forms: Sequence[StepForm], environment: dict[str, str]) -> None:
        task = {
            **{name: value for name, value in asdict(step).items() if name != "title"},
            "forms": [asdict(form) for form in forms],
            "sys_path": [str(Path(path or ".").absolute()) for path in sys.path],
        }
        (folder / "step.json").write_text(json.dumps(task))
        self.lines, self.log = folder / "found.jsonl", folder / "log"
        self.lines.write_bytes(b"")
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        try:
            with self.log.open("wb") as log:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "oche.proof.child", str(folder)],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=folder,
                    env={**os.environ, "PYTHONPATH": paths, **environment},
                )  # fmt: skip
        except OSError as error:
            self.process = None
            self.log.write_text(f"no child process can be started: {error.strerror or error}")
        self.proofs: list[Proof] = []
        self.at, self.seen = REFERENCE, 0

    def watch(self, deadline: float, patience: float, stopped: Callable[[], bool]) -> tuple[str, str, bool]:
        """Wait for the child. Return (the last form that began, why it did not end well, whether that may pass).

        The second is "" if all forms were tried.
        """
        if self.process is None:
            return REFERENCE, self.log.read_text(), True
        limit = time.monotonic() + patience
        try:
            while True:
                code = self.process.poll()
                if self._read():
                    limit = time.monotonic() + patience
                if code is not None:
                    return self.at, "" if code == 0 else self._ending(code), False
                if time.monotonic() > min(limit, deadline):
                    waited = "its part of the time" if limit > deadline else f"{patience:.0f} s"
                    return self.at, f"did not end within {waited}", True
                if stopped():
                    raise Stopped
                time.sleep(POLL)
        finally:
            self._kill()

    def _read(self) -> bool:
        """Read the lines that are new. Return whether there are some."""
        lines = self.lines.read_bytes().split(b"\n")[:-1]
        new, self.seen = lines[self.seen :], len(lines)
        for line in new:
            found: dict[str, Any] = json.loads(line)
            self.at = found.get("begin", self.at)
            if "proof" in found:
                self.proofs.append(proof_from(found["proof"]))
        return bool(new)

    def _ending(self, code: int) -> str:
        """Return how the child ended, in one line."""
        text = self.log.read_bytes()[-4000:].decode(errors="replace").strip().splitlines()
        said = one_line(text[-1])[:200] if text else ""
        if code < 0:
            with suppress(ValueError):
                return f"the process was ended by {signal.Signals(-code).name}"
        return f"the process ended with code {code}" + (f" ({said})" if said else "")

    def _kill(self) -> None:
        """End the child and what it has started."""
        assert self.process is not None
        if self.process.poll() is None:
            with suppress(OSError):
                os.killpg(self.process.pid, signal.SIGKILL) if os.name == "posix" else self.process.kill()
        self.process.wait()
