"""The JSON files of a run, with damage named where it is read."""

from __future__ import annotations

import json

import pytest

from oche.core.errors import OcheError
from oche.runs.documents import read_document


def test_sound_values_are_returned_as_they_are(tmp_path):
    written = {"classes": ["a", "b"], "image": [8, 8], "mean": [0.5], "parameters": 3, "flops": 2.0, "surprise": [None]}
    (tmp_path / "space.json").write_text(json.dumps(written))
    assert read_document(tmp_path / "space.json") == written
    (tmp_path / "summary.json").write_text('{"test_acc": null, "test_images": 3, "note": null, "steps": 2}')
    assert read_document(tmp_path / "summary.json")["test_acc"] is None


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("summary.json", '{"test_acc": "high"}', "test_acc is text 'high', not a number or None"),
        ("summary.json", '{"test_acc": NaN}', "test_acc is float nan, not a number or None"),
        ("summary.json", '{"val_ppl": [3]}', "val_ppl is list of 1 (int), not a number or None"),
        ("summary.json", '{"parameters": 1.5}', "parameters is float 1.5, not an integer"),
        ("summary.json", '{"note": 3}', "note is int 3, not text or None"),
        ("space.json", '{"classes": "ab"}', "classes is text 'ab', not a sequence, each element text"),
        (
            "space.json",
            '{"image": [8]}',
            "image is list of 1 (int), not a tuple of 2 (an integer, an integer) or an integer",
        ),
        ("space.json", '{"std": [null]}', "std is list of 1 (NoneType), not a sequence, each element a number"),
        ("status.json", '{"state": null}', "state is None, not text"),
        ("vocabulary.json", '{"vocabulary": [1]}', "vocabulary is list of 1 (int), not a sequence, each element text"),
    ],
)
def test_a_value_of_another_kind_is_named(file, text, said, tmp_path):
    (tmp_path / file).write_text(text)
    with pytest.raises(OcheError) as caught:
        read_document(tmp_path / file)
    assert str(caught.value) == f"{tmp_path / file} is damaged: {said}; restore it or start anew"


def test_a_key_that_is_needed_and_lacking_is_named(tmp_path):
    found = read_document(tmp_path / "summary.json")
    assert found == {} and found.get("steps") is None
    with pytest.raises(OcheError, match=r"summary.json is missing; restore it"):
        _ = found["steps"]
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(OcheError, match=r"summary.json lacks steps; restore it"):
        _ = read_document(tmp_path / "summary.json")["steps"]
