"""One thread a worker, and none that spins: two busy processes on two cores otherwise slow each other down many times."""

import os

# Set before the imports below, because torch and Triton read them when they are imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRITON_INTERPRET", "1")
os.environ.setdefault(
    "OCHE_PROOF", "never"
)  # tests of proofs ask for them; for all others kernels are tested here anyway

import shutil
import signal

import pytest
import torch
from hypothesis import settings
from hypothesis.internal.conjecture import providers

import oche
import small_runs
from paths import ROOT

LIGHT = str(ROOT / "tests/helpers/light_processes")  # for Python that tests start
if LIGHT not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
    os.environ["PYTHONPATH"] = os.pathsep.join([LIGHT, *filter(None, [os.environ.get("PYTHONPATH")])])
torch.set_num_threads(1)
settings.register_profile("oche", deadline=None, derandomize=True)  # a busy machine is slow, not wrong
settings.load_profile("oche")
# Else it looks for constants to try in all sources of oche: six seconds in each worker, and examples that change with them.
providers.is_local_module_file = lambda path: False


if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # started in the background of a shell; the tests of Ctrl-C send it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Tests that wait for processes come first: others fill the time, and none of them is left alone at the end."""
    first = (
        "tests/study/",
        "tests/runs/test_execute.py",
        "tests/runs/test_trouble.py",
        "tests/benchmarks/",
        "tests/devices/",
    )
    items.sort(key=lambda item: not (item.get_closest_marker("slow") and item.nodeid.startswith(first)))


@pytest.fixture(autouse=True)
def _seeded():
    # `torch.manual_seed` keeps a list of what to seed once there is a GPU, with the stack of each call: a millisecond a test
    torch.manual_seed(0) if torch.cuda.is_available() else torch.default_generator.manual_seed(0)


@pytest.fixture(scope="session")
def searched(tmp_path_factory):
    """One finished search; tests may read it, and copy it, and leave it as it is."""

    with pytest.MonkeyPatch.context() as patch:
        small_runs.no_report(patch)
        return small_runs.search(tmp_path_factory.mktemp("searched") / "x")


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium, one for all tests: playwright allows no second at a time."""
    from browser import chromium

    with chromium() as found:
        yield found


@pytest.fixture
def quick(monkeypatch):
    """Reports of runs are not drawn, which takes longer than these runs do."""

    small_runs.no_report(monkeypatch)


# --- training


@pytest.fixture
def copied(searched, tmp_path, quick):
    """A copy of the search, to train in."""
    shutil.copytree(searched.path, tmp_path / "runs" / "x")
    return oche.Run.open(tmp_path / "runs" / "x")


@pytest.fixture
def text(tmp_path):
    g = torch.Generator().manual_seed(0)
    lines = [" ".join(f"w{int(n)}" for n in torch.randint(12, (7,), generator=g)) for _ in range(80)]
    (tmp_path / "my.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "my.txt"


@pytest.fixture
def without_reports(monkeypatch):
    """Processes that are started draw no reports of runs, see ``tests/helpers/light_processes``."""
    monkeypatch.setenv("OCHE_TEST_REPORTS", "none")
