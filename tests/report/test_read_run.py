"""Run directories in any state are read, and what is wrong is said in words."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oche.core.errors import OcheError
from oche.report.mixture_history import finite_float
from oche.report.read_run import RUN_FILES, nested_runs, read_run
from report_runs import DARTS_V2, make_run, make_training, toy_data, write_json, write_records


def problems(path) -> str:
    return "\n".join(read_run(path).problems)


def test_a_complete_run_has_no_problems(tmp_path):
    run = read_run(make_run(tmp_path / "run", trained=False))
    assert run.problems == ()
    assert (run.kind, run.state, run.name) == ("search", "complete", "run")
    assert [r["epoch"] for r in run.records] == list(range(13))
    assert str(run.genotype) == DARTS_V2
    assert (run.number("val_acc"), run.number("parameters"), run.number("nothing")) == (0.951, 130_618, None)


def test_where_there_is_no_run_the_error_says_so(tmp_path):
    with pytest.raises(OcheError, match="no run directory at"):
        read_run(tmp_path / "absent")
    with pytest.raises(OcheError, match="not a run directory"):
        read_run(tmp_path)


def test_numbers_of_a_running_search_come_from_its_last_record(tmp_path):
    run = read_run(make_run(tmp_path / "run", state="running", trained=False, toy=False))
    last = run.records[-1]
    assert run.summary == {} and run.state == "running"
    assert run.number("val_acc") == last["val_acc"]
    assert run.number("step_ms") == 212.0  # among the timings
    assert run.problems == ()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("status.json", "status.json is missing"),
        ("config.yaml", "config.yaml is missing"),
        ("space.json", "space.json is missing"),
        ("metrics.jsonl", "No epoch has been recorded"),
        ("summary.json", "summary.json is missing although the run is complete"),
    ],
)
def test_what_is_missing_is_said(tmp_path, name, words):
    path = make_run(tmp_path / "run", trained=False)
    (path / name).unlink()
    assert words in problems(path)


@pytest.mark.parametrize("name", ["status.json", "space.json", "summary.json", "environment.json", "toy/toy.json"])
@pytest.mark.parametrize("text", ["", '{"a": ', "[1, 2]", "\x00\xff", "[" * 3000])
def test_damaged_json_is_left_out(tmp_path, name, text):
    path = make_run(tmp_path / "run", trained=False)
    (path / name).write_bytes(text.encode("latin-1"))
    assert f"{name.split('/')[-1]} cannot be read as JSON" in problems(path)


def test_a_torn_line_is_skipped_and_counted(tmp_path):
    path = make_run(tmp_path / "run", trained=False)
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 13, "train_loss": 0.')
    assert "one line could not be read" in problems(path)
    with (path / "metrics.jsonl").open("ab") as file:
        file.write(b'\n\xff\xfe\n7\n{"epoch": "x"}\n')
    run = read_run(path)
    assert "4 lines could not be read" in "\n".join(run.problems)
    assert run.records[-1]["epoch"] == 12


def test_of_an_epoch_written_twice_the_later_counts(tmp_path):
    path = make_run(tmp_path / "run", trained=False)
    with (path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"epoch": 5, "train_loss": 99.0}) + "\n")
    run = read_run(path)
    assert [r["epoch"] for r in run.records] == list(range(13))
    assert run.records[5]["train_loss"] == 99.0


def test_not_a_number_is_not_known(tmp_path):
    path = make_run(tmp_path / "run", trained=False)
    write_json(path / "summary.json", {"val_acc": math.nan, "parameters": math.inf, "steps": True})
    rows = [{"epoch": 1, "train_loss": math.nan, "entropy": {"normal": math.nan, "reduce": 1.0}}]
    write_records(path / "metrics.jsonl", rows)
    run = read_run(path)
    assert run.number("val_acc") is None and run.number("steps") is None
    assert run.number("parameters") == 130_618  # of space.json
    assert run.records[0]["train_loss"] is None and run.records[0]["entropy"] == {"reduce": 1.0}


def test_a_genotype_that_is_none_is_shown_but_not_drawn(tmp_path):
    path = make_run(tmp_path / "run", trained=False)
    (path / "genotype.txt").write_text("Genotype(__import__('os'))")
    run = read_run(path)
    assert run.genotype is None and run.genotype_text == "Genotype(__import__('os'))"
    assert "is not a genotype" in "\n".join(run.problems)


def test_a_genotype_is_found_in_the_summary_or_the_last_record(tmp_path):
    path = make_run(tmp_path / "run", trained=False)
    (path / "genotype.txt").unlink()
    assert str(read_run(path).genotype) == DARTS_V2
    (path / "summary.json").unlink()
    assert str(read_run(path).genotype) == DARTS_V2


def test_nested_runs_are_found_by_what_they_are(tmp_path):
    path = make_run(tmp_path / "run")
    make_training(path / "train-cifar100", 0.7)
    make_training(path / "random-10", 0.9)
    (path / "checkpoints").mkdir()
    trainings, random = nested_runs(read_run(path))
    assert [r.name for r in trainings] == ["train", "train-cifar100"]
    assert [r.name for r in random] == ["random-1", "random-2", "random-3", "random-10"]
    trainings, random = nested_runs(read_run(path / "train"))
    assert ([r.name for r in trainings], random) == (["train"], [])


def test_the_kind_is_guessed_where_the_status_does_not_say(tmp_path):
    training = make_training(tmp_path / "t", 0.9)
    (training / "status.json").unlink()
    assert read_run(training).kind == "train"
    write_json(tmp_path / "toy" / "toy.json", toy_data())
    assert read_run(tmp_path / "toy").kind == "toy"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "normal", "weights"]), inner),
    max_leaves=6,
)
KEYS = [
    "epoch", "arch", "entropy", "skip_share", "timings", "genotype", "groups", "network", "runs", "optimum", "kind",
    "state", "classes", "image", "note", "test_acc",
]  # fmt: skip
VALUES = st.dictionaries(st.sampled_from(KEYS), JSON, max_size=5)


@pytest.mark.slow
@given(VALUES, st.lists(VALUES, max_size=3), st.sampled_from([name for name in RUN_FILES if name.endswith(".json")]))
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_files_say_the_run_is_read(tmp_path, value, rows, name):
    path = make_run(tmp_path / "run", epochs=1, trained=False)
    write_json(path / name, value)
    write_records(path / "metrics.jsonl", rows)
    run = read_run(path)
    assert run.path == path
    for group in run.mixtures:
        assert all(len(w) == len(group.edges) and len(w[0]) == len(group.candidates) for _, w in group.history)


@pytest.mark.parametrize(
    ("value", "wanted"), [(1, 1.0), (0.5, 0.5), (True, None), ("1", None), (math.nan, None), (None, None)]
)
def test_numbers_are_finite(value, wanted):
    assert finite_float(value) == wanted
