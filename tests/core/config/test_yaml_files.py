"""YAML files."""

import pytest
from hypothesis import example, given

from oche.core.config.yaml_files import dump_yaml, load_yaml, read_yaml
from oche.core.errors import OcheError
from run_configs import Blur, Crop, Job, Rates, jobs


@pytest.mark.slow
@given(jobs)
@example(Job(name="a\x85b", note="\u2028", names=("\u2029", "\ufeff", "\n", "\r\n")))
def test_round_trip(tmp_path_factory, job):
    file = tmp_path_factory.getbasetemp() / "job.yaml"
    file.write_bytes(dump_yaml(job).encode())
    assert load_yaml(file, Job) == job
    assert load_yaml(file, Job(name="other", second=Blur(9.0))) == job


def test_how_it_reads(tmp_path):
    text = dump_yaml(Job(first=Blur(0.1 + 0.2), note="é: 5", rates=Rates(1e-3, 1e-5)))
    assert "  radius: 0.30000000000000004\n" in text and "note: 'é: 5'\n" in text
    assert "  betas: [0.9, 0.99]\n" in text and "first:\n  type: Blur\n" in text and "second: null\n" in text
    file = tmp_path / "f.yaml"
    file.write_text("share: 1e-3   # by hand\nsecond: {type: Crop, side: 4}\nchain: []\n")
    assert load_yaml(file, Job()) == Job(share=1e-3, second=Crop(4), chain=())
    file.write_text("")
    assert load_yaml(file, Job(count=5)) == Job(count=5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: [1, 2\nc: 3", ["f.yaml line 3: "]),
        ("a: 1\n\tb: 2", ["f.yaml line 2: ", "cannot start any token"]),
        ("rates:\n  start: 1\n  end: 0\n  start: 2\n", ["f.yaml line 4: key 'start' is written twice"]),
        ("count: 1\nname: x\ncount: 1\n", ["f.yaml line 3: key 'count' is written twice"]),
        ("- 1\n- 2\n", ["f.yaml: expected 'key: value' lines, found list"]),
        ("name: !!python/object/apply:os.system ['true']", ["f.yaml line 1: could not determine a constructor"]),
        ("a: 1\n---\na: 2\n", ["f.yaml line 2: "]),
        ("a: &x [*x]\n", ["unknown key 'a'"]),
        ("a: \x00", ["f.yaml: special characters are not allowed"]),
        ("count: five", ["f.yaml: count: expected an integer, found 'five'"]),
    ],
)  # fmt: skip
def test_broken_files(tmp_path, text, words):
    file = tmp_path / "f.yaml"
    file.write_text(text)
    with pytest.raises(OcheError) as caught:
        load_yaml(file, Job())
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\xd8")
    for path, word in (
        (tmp_path / "no.yaml", "no configuration file at"),
        (tmp_path, "directory"),
        (tmp_path / "binary.yaml", "UTF-8"),
    ):
        with pytest.raises(OcheError, match=word) as caught:
            read_yaml(path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
