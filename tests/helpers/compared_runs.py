"""Runs to compare."""

from report_runs import make_run, make_training, write_json


def made(path, method="darts", seed=0, accuracy=None, nodes=1, epochs=2):
    make_run(path, epochs=epochs, trained=False, toy=False, nodes=nodes)
    write_json(path / "config.yaml", {"method": method, "seed": seed, "search": {"epochs": epochs}})
    if accuracy is not None:
        make_training(path / "train", accuracy, epochs=2)
    return path
