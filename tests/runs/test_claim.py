"""What may be taken for a new run, moved aside, or must be refused."""

import os
import signal
from multiprocessing import get_context

from oche.core.lock import Lock
from oche.runs.directory import RunDir
from run_directories import make, refusal

fork = get_context("fork")


def test_unfinished_and_complete_are_refused(path):
    make(path, "interrupted")
    assert f"holds an unfinished search; go on with: oche resume {path}" in refusal(make, path)
    with RunDir.open(path) as run:
        run.set_state("complete")
    assert "holds a complete search; write --overwrite" in refusal(make, path)
    with RunDir.open(path) as run:  # neither refusal kept the lock or touched it
        assert run.state == "complete"


def test_other_things_are_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("precious")
    assert "is not a run and not empty (it has thesis.tex)" in refusal(make, tmp_path / "folder", overwrite=True)
    assert "is a file, and a run needs a directory" in refusal(make, tmp_path / "folder" / "thesis.tex", overwrite=True)
    assert "cannot make" in refusal(make, tmp_path / "folder" / "thesis.tex" / "x")
    assert (tmp_path / "folder" / "thesis.tex").read_text() == "precious"


def test_takes_an_empty_folder_and_one_whose_making_was_killed(path):
    path.mkdir(parents=True)
    make(path)
    (path / "status.json").unlink()
    (path / ".tmp-status.json-00000000").write_text("{")
    make(path)
    assert not list(path.glob(".tmp-*"))


def test_overwrite_moves_aside(path):
    told = []
    for text in ("first", "second", "third"):
        with RunDir.create(path, text, "search", overwrite=True, say=told.append) as run:
            run.append_metric({"text": text})
    olds = sorted(path.parent.glob("x.old-*"), key=lambda p: p.stat().st_mtime_ns)
    assert {(p / "config.yaml").read_text() for p in olds} == {"first", "second"}
    assert (path / "config.yaml").read_text() == "third"
    assert len(told) == 2 and all(str(path) in line and ".old-" in line for line in told)
    with RunDir.open(olds[0]) as run:
        assert len(run.metrics()) == 1


def test_in_use_by_this_process(path):
    with RunDir.create(path, "", "search"):
        assert "in use by this process itself" in refusal(RunDir.open, path)
        assert "in use by this process itself" in refusal(make, path, overwrite=True)
        assert "in use by this process itself" in refusal(RunDir.open, path.parent / "." / "x")
    RunDir.open(path).close()


def test_in_use_by_another(path, holder):
    for call, more in ((RunDir.open, {}), (make, {}), (make, {"overwrite": True})):
        assert f"in use by process {holder.pid}" in refusal(call, path, **more)
    assert (path / "config.yaml").exists() and list(path.parent.iterdir()) == [path]
    holder.terminate()
    holder.join(20)
    RunDir.open(path).close()


def test_a_run_above_one_in_use_stays_where_it_is(path, holder):
    _above(path).close()
    assert "in use by process" in refusal(make, path.parent, overwrite=True)
    assert path.exists()


def _above(path):
    """A run in the directory that contains ``path``."""
    lock = Lock(path.parent)
    run = RunDir(path.parent, lock)
    run.write_text("config.yaml", "")
    run.write_json("status.json", {"kind": "search", "state": "complete"})
    return run


def test_kill_9_frees_it(path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.join(20)
    assert holder.exitcode == -signal.SIGKILL
    with RunDir.open(path) as run:
        assert run.state == "running"
