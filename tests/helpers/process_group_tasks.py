"""What two processes compute together, for one to compute alone."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import oche
from oche.api import run_train
from oche.core.optimizers import Sgd
from oche.devices.launch import join_process_group, make_log
from oche.runs.claim import is_run
from oche.runs.config import TrainConfig
from oche.training.image_recipes import Recipe
from oche.training.image_trainer import Training

W = Sgd(lr=0.1, lr_min=0.01, momentum=0.9, decay=0.01, clip=0.5)
# No edge reads the first input of the normal cell, so that what brings it to the cell's width gets no gradient.
CELL = oche.Genotype.parse(
    "Genotype(normal=[('sep_conv_3x3', 1), ('skip_connect', 1), ('max_pool_3x3', 2), ('dil_conv_3x3', 1)], "
    "normal_concat=[2, 3], reduce=[('max_pool_3x3', 0), ('skip_connect', 1), ('sep_conv_3x3', 1), ('skip_connect', 2)], "
    "reduce_concat=[2, 3])"
)
RECIPES = {
    "training": Recipe(
        channels=2, cells=3, batch=8, epochs=1, w=W, drop_path=0.0, auxiliary=0.4, pad=0, flip=False, cutout=0
    ),
}


SHARED = TrainConfig(
    data="digits", limit=48, device="cpu", threads=1, checkpoint=0.0, sync_bn=True, genotype=str(CELL), recipe="small",
    train=replace(RECIPES["training"], epochs=3, batch=16),
)  # fmt: skip


def go(out: str, stop_after: int | None = None, kill_after: int | None = None) -> str:
    """Starts the run at ``out`` or goes on with it. After so many steps rank 1 is asked to stop, or killed."""
    import oche.report.run_page

    oche.report.run_page.write_report = lambda path: path
    step, count = Training.step, 0

    def stepped(self, *args):
        nonlocal count
        step(self, *args)
        count += 1
        if join_process_group().rank == 1 and count == stop_after:
            signal.raise_signal(signal.SIGTERM)
        if join_process_group().rank == 1 and count == kill_after:
            Path(out + ".killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)  # the signal may reach another thread first

    Training.step = stepped
    if is_run(Path(out)):
        run = oche.resume(out)
    else:
        run = run_train(SHARED, out=out, overwrite=False, log=make_log(quiet=True))
    return str(run.path)
