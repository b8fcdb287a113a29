"""Warnings of libraries are silent within, and as before afterwards; errors are heard."""

import logging
import os
import subprocess
import sys
import warnings

import pytest

from oche.cli import main as cli
from oche.core.quiet import quiet_libraries


def speak():
    warnings.warn("a user warning", stacklevel=1)
    warnings.warn("a deprecation", FutureWarning, stacklevel=1)
    logging.getLogger("some.library").warning("a logged warning")
    logging.getLogger("some.library").error("a logged error")


@pytest.fixture
def logged():
    """The messages that reach the handlers of the root logger."""
    found = []

    class Handler(logging.Handler):
        def emit(self, record):
            found.append(record.getMessage())

    handler = Handler()
    logging.root.addHandler(handler)
    yield found
    logging.root.removeHandler(handler)


def test_warnings_are_silent_within_and_errors_are_not(logged):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with quiet_libraries():
            speak()
        assert warned == [] and logged == ["a logged error"]
        with quiet_libraries(False):
            speak()
        assert len(warned) == 2 and logged[1:] == ["a logged warning", "a logged error"]


def test_it_is_as_before_after_an_exception(logged):
    before = logging.root.manager.disable
    with pytest.raises(KeyError), quiet_libraries():
        raise KeyError
    assert logging.root.manager.disable == before
    with pytest.warns(UserWarning, match="a user warning"):
        warnings.warn("a user warning", stacklevel=1)


@pytest.mark.parametrize("quiet", [True, False])
def test_quiet_on_the_command_line_silences_libraries(quiet, monkeypatch, logged):
    import oche.cli.lookup

    def command(args):
        speak()
        return 0

    monkeypatch.setattr(oche.cli.lookup, "show", command)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert cli.main(["show", "DARTS_V2", *(["--quiet"] if quiet else [])]) == 0
    assert [str(w.message) for w in warned] == ([] if quiet else ["a user warning", "a deprecation"])
    assert logged == ["a logged error"] if quiet else ["a logged warning", "a logged error"]


@pytest.mark.slow
def test_torch_starts_quietly_in_a_quiet_command(tmp_path):
    """Torch reads the variable when it is imported, which a command does late."""
    code = (
        "import sys; from oche.cli import main as cli; code = cli.main(['evaluate', 'nowhere', '--quiet']); "
        "import os; print(code, os.environ['TORCH_CPP_LOG_LEVEL'], 'torch' in sys.modules)"
    )
    environment = {key: value for key, value in os.environ.items() if key != "TORCH_CPP_LOG_LEVEL"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.stdout == "2 ERROR True\n" and done.stderr.count("\n") == 1 and done.stderr.startswith("oche: ")
