"""Run directories: claiming, refusing, moving aside, states, metrics, and who may write."""

import os

import pytest

from oche.core.lock import LOCK_FILE
from oche.runs.directory import RunDir, last_metric, read_metrics
from run_directories import make, refusal

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
        assert "is not a run directory: it has no status.json" in refusal(RunDir.open, place)
    assert list(tmp_path.iterdir()) == []  # not even a lock


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


def test_the_newest_record_is_read_from_the_end(tmp_path):
    assert last_metric(tmp_path) == {}
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"epoch": 1')
    assert last_metric(tmp_path) == {}
    file.write_text('{"epoch": 1, "x": "' + 70_000 * "y" + '"}\n{"epoch": 2}\n{"epo')
    assert last_metric(tmp_path) == {"epoch": 2}
