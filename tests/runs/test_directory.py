"""Run directories: claiming, refusing, moving aside, states, metrics, and who may write."""

import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import get_context

import pytest

from oche.core.errors import OcheError
from oche.core.lock import LOCK_FILE, InUse, Lock, is_locked, wait_for_lock
from oche.runs.directory import RunDir, last_metric, read_metrics

fork = get_context("fork")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs" / "x"


def make(path, state=None, **more):
    with RunDir.create(path, "seed: 0\n", "search", **more) as run:
        if state:
            run.set_state(state)


def refusal(call, *args, **more) -> str:
    with pytest.raises(OcheError) as caught:
        call(*args, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- making and opening -----------------------------------------------------------------------------------------------


def test_created_run(path):
    with RunDir.create(path, "seed: 0\n", "search") as run:
        assert (run.kind, run.state, run.summary, run.metrics()) == ("search", "running", {}, [])
        assert (path / "config.yaml").read_text() == "seed: 0\n"
    assert sorted(p.name for p in path.iterdir()) == [LOCK_FILE, "config.yaml", "status.json"]
    with RunDir.open(path) as run:
        run.set_state("complete", note="done")
        assert run.state == "complete" and run.read_json("status.json")["note"] == "done"
        run.set_state("running")
        assert "note" not in run.read_json("status.json") and run.kind == "search"
        with pytest.raises(ValueError, match="state 'finished' does not exist"):
            run.set_state("finished")


def test_no_run(tmp_path):
    for place in (tmp_path, tmp_path / "absent"):
        assert "is no run directory: it has no status.json" in refusal(RunDir.open, place)
    assert list(tmp_path.iterdir()) == []  # not even a lock


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


# --- in use -----------------------------------------------------------------------------------------------------------


def test_in_use_by_this_process(path):
    with RunDir.create(path, "", "search"):
        assert "in use by this process itself" in refusal(RunDir.open, path)
        assert "in use by this process itself" in refusal(make, path, overwrite=True)
        assert "in use by this process itself" in refusal(RunDir.open, path.parent / "." / "x")
    RunDir.open(path).close()


def hold(path, tell):
    with RunDir.open(path):
        tell.send("open")
        time.sleep(60)


@pytest.fixture
def holder(path):
    """Another process that has the run open."""
    make(path)
    hear, tell = fork.Pipe(duplex=False)
    process = fork.Process(target=hold, args=(path, tell), daemon=True)
    process.start()
    assert hear.poll(20) and hear.recv() == "open"
    yield process
    process.kill()
    process.join(20)


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


def test_workers_of_a_killed_holder_do_not_keep_it(path):
    make(path)
    hear, tell = os.pipe()
    if (holder := os.fork()) == 0:  # as a run with data workers: it forks, and the worker outlives it
        with RunDir.open(path):
            if (worker := os.fork()) == 0:
                time.sleep(60)
                os._exit(0)
            os.write(tell, b"%d\n" % worker)
            os.kill(os.getpid(), signal.SIGKILL)
    os.close(tell)
    worker = int(os.read(hear, 20))
    try:
        assert os.WTERMSIG(os.waitpid(holder, 0)[1]) == signal.SIGKILL
        os.kill(worker, 0)  # it lives
        RunDir.open(path).close()
    finally:
        os.kill(worker, signal.SIGKILL)
        os.close(hear)


def test_lock_is_seen_by_a_process_that_was_started_anew(path):
    make(path)
    code = "import sys; from oche.runs.directory import RunDir; RunDir.open(sys.argv[1])"
    with RunDir.open(path):
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
        assert f"in use by process {os.getpid()}" in done.stderr
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == 0


def test_release_twice_is_harmless(tmp_path):
    lock = Lock(tmp_path)
    lock.release()
    again = Lock(tmp_path)
    lock.release()
    with pytest.raises(OcheError):
        Lock(tmp_path)
    again.release()


# --- metrics ----------------------------------------------------------------------------------------------------------


def test_metrics(path):
    records = [{"epoch": 1, "loss": 0.1 + 0.2, "arch": [[1, 2]]}, {"epoch": 2, "loss": float("nan")}]
    with RunDir.create(path, "", "train") as run:
        sizes = [run.metrics_size()]
        for record in records:
            run.append_metric(record)
            sizes.append(run.metrics_size())
        assert run.metrics() == [records[0], {"epoch": 2, "loss": None}]
        run.truncate_metrics(10_000)
        assert run.metrics_size() == sizes[2] == (path / "metrics.jsonl").stat().st_size
        run.truncate_metrics(sizes[1])
        assert run.metrics() == records[:1]
        run.truncate_metrics(sizes[0])
        assert run.metrics() == []


def test_torn_last_line_is_dropped(path):
    make(path)
    file = path / "metrics.jsonl"
    whole = b'{"epoch": 1}\n{"epoch": 2}\n'
    for cut in range(13, len(whole)):
        file.write_bytes(whole[:cut])
        seen = read_metrics(path)  # a reader beside the writer; a line without its end may or may not be whole
        assert seen in ([{"epoch": 1}], [{"epoch": 1}, {"epoch": 2}])
        assert file.read_bytes() == whole[:cut]
        with RunDir.open(path) as run:
            assert run.metrics() == [{"epoch": 1}] and file.read_bytes() == whole[:13]
            run.append_metric({"epoch": 2})
        assert file.read_bytes() == whole


def test_damage_in_the_middle_is_an_error(path):
    make(path)
    (path / "metrics.jsonl").write_bytes(b'{"epoch": 1}\n{"epo\n{"epoch": 3}\n')
    assert "metrics.jsonl line 2 is damaged" in refusal(read_metrics, path)


def test_a_line_that_does_not_fit_is_taken_back(path, monkeypatch):
    with RunDir.create(path, "", "train") as run:
        run.append_metric({"epoch": 1})

        def full(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        assert "No space left on device" in refusal(run.append_metric, {"epoch": 2})
        assert run.metrics() == [{"epoch": 1}] and run.metrics_size() == 13


def test_damaged_status(path):
    make(path)
    (path / "status.json").write_text("{")
    with RunDir.open(path) as run:
        assert "cannot read" in refusal(lambda: run.state)
    assert "cannot read" in refusal(make, path)


HOLDS = """
import sys
from pathlib import Path
from oche.core.lock import Lock
lock = Lock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_of_another_process_is_seen_and_waited_for(tmp_path):
    assert not is_locked(tmp_path)  # nobody ever locked it
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"held\n"
        assert is_locked(tmp_path) and is_locked(tmp_path)
        with pytest.raises(InUse, match=f"in use by process {other.pid}"):
            Lock(tmp_path)
        threading.Timer(0.3, other.kill).start()
        began = time.monotonic()
        lock = wait_for_lock(tmp_path, every=0.01)
        assert time.monotonic() - began > 0.2
    assert is_locked(tmp_path)  # by this process, whose lock the question leaves as it is
    with pytest.raises(InUse):
        Lock(tmp_path)
    lock.release()
    assert not is_locked(tmp_path)


def test_the_newest_record_is_read_from_the_end(tmp_path):
    assert last_metric(tmp_path) == {}
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"epoch": 1')
    assert last_metric(tmp_path) == {}
    file.write_text('{"epoch": 1, "x": "' + 70_000 * "y" + '"}\n{"epoch": 2}\n{"epo')
    assert last_metric(tmp_path) == {"epoch": 2}
