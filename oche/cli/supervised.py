"""``python -m oche.cli.supervised WORDS``: an oche command that saves and stops when the process that leads it is gone.

The leader holds the other end of standard input, and the system closes that however the leader ends, a kill -9 included.
"""

from __future__ import annotations

import os
import signal
import sys
import threading


def _follow() -> None:
    while os.read(0, 4096):  # nobody writes: this returns when the other end is closed
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # see `oche.core.signals`


if __name__ == "__main__":
    threading.Thread(target=_follow, daemon=True).start()
    from oche.cli.main import main

    sys.exit(main())
