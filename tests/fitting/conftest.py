from __future__ import annotations

import pytest

import oche
import small_fits
import small_runs
from oche.core.console import Log
from oche.fitting import run as fits
from oche.runs.config import FitConfig
from oche.runs.run_data import load_data
from oche.training.loop import Interrupted

LOG = Log(quiet=True)


@pytest.fixture(scope="session")
def fitted(tmp_path_factory):
    """A fit that was stopped before its second control, and its output then; it is finished by `oche.resume`."""
    folder = tmp_path_factory.mktemp("fit")
    config = FitConfig(data=str(small_runs.npz(folder / "x.npz")), budget="1m", export=False)
    data, path, start = load_data(config, LOG), folder / "mine", fits.start_run

    def stop_at_the_random_cell(at, plan, **options):
        if at.name == "control-random":
            raise Interrupted
        start(at, plan, **options)

    with pytest.MonkeyPatch.context() as patch:
        small_runs.no_report(patch)
        patch.setattr(fits, "start_run", stop_at_the_random_cell)
        with pytest.raises(Interrupted):
            fits.start_fit(path, config, small_fits.tiny_plan(data), data, overwrite=False, log=LOG)
        before = oche.Run.open(path)
        told = (
            before.state,
            (path / "train" / "weights.safetensors").stat().st_mtime_ns,
            (path / "report.html").read_text(),
        )
        patch.setattr(fits, "start_run", start)
        return oche.resume(path), told
