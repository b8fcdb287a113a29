"""``python -m oche.cli.supervised WORDS``: an oche command that saves and stops when its parent process ends.

The parent holds the other end of standard input. The system closes it however the parent ends, even by kill -9.
"""

from __future__ import annotations

import os
import signal
import sys
import threading


def _stop_with_parent() -> None:
    while os.read(0, 4096):  # nobody writes, so this returns when the other end is closed
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # see `oche.core.signals`


if __name__ == "__main__":
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    from oche.cli.main import main

    sys.exit(main())
