"""One thread a worker, and none that spins: two busy processes on two cores otherwise slow each other down many times."""

import os
import signal

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRITON_INTERPRET", "1")  # read where Triton is first imported, by torch perhaps

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("oche", deadline=None, derandomize=True)  # a busy machine is slow, not wrong
settings.load_profile("oche")
if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # started in the background of a shell; the tests of Ctrl-C send it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def searched(tmp_path_factory):
    """One finished search; tests may read it, and copy it, and leave it as it is."""
    import runs

    with pytest.MonkeyPatch.context() as patch:
        runs.no_report(patch)
        return runs.search(tmp_path_factory.mktemp("searched") / "x")


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium, one for all tests: playwright allows no second at a time."""
    from browser import chromium

    with chromium() as found:
        yield found


@pytest.fixture
def quick(monkeypatch):
    """Reports of runs are not drawn, which takes longer than these runs do."""
    import runs

    runs.no_report(monkeypatch)
