"""Bad inputs of every kind, drawn by hypothesis: a slice of what benchmarks/reliability/fuzz.py runs by the thousand. And
what that has found, one test each."""

from __future__ import annotations

import random
import shutil
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oche.cli import main as cli
from oche.core.errors import OcheError, one_line
from paths import ROOT

SCRIPTS = str(ROOT / "benchmarks/reliability")
sys.path.append(SCRIPTS)
import fuzz  # noqa: E402
import inputs_data  # noqa: E402
import inputs_words  # noqa: E402
from judge import Case, judge, untidy  # noqa: E402
from mangle import damaged  # noqa: E402
from sound import make  # noqa: E402

pytestmark = pytest.mark.slow  # many bad inputs


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    import small_runs

    with pytest.MonkeyPatch.context() as patch:
        small_runs.no_report(patch)
        yield make(tmp_path_factory.mktemp("sound"))


# --- a slice ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in fuzz.KINDS if kind != "reported"])
def test_bad_inputs_end_in_one_line(kind, sound, quick, tmp_path_factory, monkeypatch):
    @settings(
        max_examples=3 if kind in ("halfway", "diverging") else 12,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.integers(0, 2**32))
    def ends_well(number):
        words, outcome = fuzz.one(kind, 1, number, sound)
        assert not outcome.is_fault, f"oche {words}: {outcome.verdict}\n{outcome.said}"

    ends_well()


# --- the judge itself -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (ValueError("x"), "traceback"), (SystemExit(3), "exit code 3"), (SystemExit(0), "taken"),
        (OSError(28, "disk full"), "failed"),
    ],
)  # fmt: skip
def test_the_judge_tells_faults(error, verdict, monkeypatch):
    def run(*words):
        raise error

    monkeypatch.setattr(cli, "_run", run)
    assert judge(Case(("search",))).verdict == verdict


def test_the_judge_sees_files_that_changed_and_warnings(tmp_path, monkeypatch):
    file = tmp_path / "x"

    def refuses(command, args):
        file.write_text(command)
        raise cli.OcheError("no")

    monkeypatch.setattr(cli, "_run", refuses)
    assert judge(Case(("search",), kept=(file,))).verdict == "files changed"
    assert judge(Case(("search",))).verdict == "refused"
    monkeypatch.setattr(cli, "_run", lambda *words: print("x.py: UserWarning: so", file=sys.stderr) or 0)
    assert judge(Case(("search",))).verdict == "untidy"
    assert untidy("oche: a\noche: b\n") == "not one line" == untidy("oche: a\nb\n") == untidy("oche: a")
    assert untidy("oche: a\x1b\n") == "unprintable" and untidy("oche: a\n") == ""


def test_damage_is_damage():
    data, rng = bytes(range(256)) * 4, random.Random(0)
    changed = [damaged(rng, data) for _ in range(100)]
    assert sum(d != data for d in changed) > 95 and {len(d) < len(data) for d in changed} == {True, False}
    assert damaged(rng, b"") is not None


# --- what was found ---------------------------------------------------------------------------------------------------


def refused(capsys, *words: str) -> str:
    """The one line that ``oche WORDS`` is refused with."""
    assert cli.main([*words]) == 2
    err = capsys.readouterr().err
    assert untidy(err) == "", err
    return err


@pytest.mark.parametrize("text", inputs_words._YAML)
def test_yaml_that_python_cannot_take(text, tmp_path, capsys):
    """Dates, numbers and tags beyond bounds raise whatever they lead PyYAML to; keys that are lists have no hash."""
    (tmp_path / "x.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    refused(capsys, "search", "--config", str(tmp_path / "x.yaml"), "--data", "nowhere.npz")


def test_a_config_that_is_no_text_is_refused_where_it_is_looked_into_for_the_method(tmp_path, capsys):
    (tmp_path / "x.yaml").write_bytes(b"data: \xbe\n")
    assert "x.yaml: it is not UTF-8 text" in refused(capsys, "search", "--config", str(tmp_path / "x.yaml"))


@pytest.mark.parametrize("text", ["a: {b\n", "[" * 20_000, "plugins: [3]\n", "- x\n"])
def test_a_broken_config_of_a_run(text, sound, tmp_path, capsys):
    """Looked into for plugins before it is read."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "status.json").write_bytes(
        (sound.training / "status.json").read_bytes().replace(b"complete", b"interrupted")
    )
    (run / "config.yaml").write_text(text)
    assert "config.yaml" in refused(capsys, "resume", str(run))


def test_errors_are_one_printable_line_of_a_terminal_s_size():
    assert one_line("a\n b\x1b[31m é\udcff") == "a b\\x1b[31m é\\udcff"
    long = one_line("x" * 900 + "y" * 900)
    assert len(long) < 1010 and long.startswith("x" * 750) and long.endswith("y" * 250)
    assert one_line("x" * 1000) == "x" * 1000


def test_parquet_whose_pages_are_damaged(tmp_path, capsys):
    """Its footer is sound, so that it opens."""
    pytest.importorskip("pyarrow")
    data = inputs_data._made("parquet")
    (tmp_path / "x.parquet").write_bytes(data[:4] + bytes(500) + data[504:])
    said = refused(capsys, *inputs_data.SEARCH, str(tmp_path / "x.parquet"))
    assert "x.parquet cannot be read as a parquet file" in said


def test_metadata_of_parquet_that_are_no_text(tmp_path):
    """They are a courtesy: the data are as good without."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"image": [inputs_data._image("PNG")] * 6, "label": ["a", "b"] * 3}
    pq.write_table(pa.table(columns).replace_schema_metadata({b"\xff": b"\xff"}), tmp_path / "x.parquet")
    from oche.data import load

    assert load(tmp_path / "x.parquet", holdout=0).classes == ("a", "b")


def test_a_genotype_file_that_is_no_text(sound, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(sound.training, run)
    (run / "genotype.txt").write_bytes(b"Genotype(\xff")
    assert "not a genotype" in refused(capsys, "evaluate", str(run), "--quiet")


@pytest.mark.parametrize("status", [b'{"kind": [], "state": 3}', b"[" * 20_000, b"3", b'{"kind": {}}', b"\xff"])
@pytest.mark.parametrize("command", ["resume", "train", "export", "evaluate"])
def test_a_damaged_status(status, command, sound, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(sound.training, run)
    (run / "status.json").write_bytes(status)
    words = ["--data", "nowhere.npz"] if command == "train" else []
    refused(capsys, command, str(run), *words)


@pytest.mark.parametrize("line", [b"3", b"[]", b"[" * 20_000, b'{"step": '])
def test_a_damaged_record_before_the_last(line, tmp_path):
    from oche.runs.directory import last_metric, read_metrics

    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 3}\n')
    with pytest.raises(OcheError, match=r"metrics\.jsonl line 2 is damaged"):
        read_metrics(tmp_path)
    assert last_metric(tmp_path) == {"step": 3}
    file.write_bytes(b'{"step": 1}\n' + line + b"\n")  # the last: cut short by a kill
    assert read_metrics(tmp_path) == [{"step": 1}] and last_metric(tmp_path) == {}


def test_a_folder_where_a_checkpoint_should_be(tmp_path):
    """Left alone, and no obstacle to those that are written."""
    from oche.runs import checkpoint

    (tmp_path / "step-00000003-0123456789abcdef.safetensors").mkdir()
    assert checkpoint.load_latest(tmp_path) is None
    checkpoint.save(tmp_path, 1, {"a": 1}, keep=1)
    checkpoint.save(tmp_path, 4, {"a": 2}, keep=1)
    assert checkpoint.load_latest(tmp_path) == (4, {"a": 2})


@pytest.mark.parametrize("label", [[1], {"a": 1}, b"x"])
def test_labels_that_are_no_names(label, tmp_path, capsys):
    """They have no hash, or no order."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    image = inputs_data._image("PNG")
    pq.write_table(pa.table({"image": [image] * 6, "label": [label] * 6}), tmp_path / "x.parquet")
    said = refused(capsys, *inputs_data.SEARCH, str(tmp_path / "x.parquet"))
    assert f"row 0 has a label of type {type(label).__name__}; give integers or strings" in said


@pytest.mark.parametrize("summary", ["{}", '{"parameters": "many"}', '{"parameters": null, "test_acc": []}'])
def test_a_damaged_summary(summary, sound, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(sound.training, run)
    (run / "report.html").touch()
    (run / "summary.json").write_text(summary)
    assert "summary.json is damaged: " in (said := refused(capsys, "resume", str(run))) and "parameters" in said
    (run / "summary.json").write_text('{"parameters": 3, "test_acc": "high"}')
    assert "test_acc is text 'high', not a number" in refused(capsys, "resume", str(run))
    (run / "summary.json").write_text('{"parameters": 3}')
    assert cli.main(["resume", str(run)]) == 0
    assert "test accuracy unknown, 3 weights" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["method", "space"])
def test_a_name_that_is_no_number(name, tmp_path, capsys):
    """NaN is not equal to itself, so it looked like a contradiction to an option that nobody had given."""
    (tmp_path / "x.yaml").write_text(f"{name}: .nan\n")
    refused(capsys, "search", "--config", str(tmp_path / "x.yaml"), "--data", "nowhere.npz")
