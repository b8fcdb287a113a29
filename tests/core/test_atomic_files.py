"""Files that are as they were or wholly new."""

import errno
import math
import os

import pytest

from oche.core import atomic_files as atomic
from oche.core.errors import OcheError


def test_writes_and_replaces(tmp_path):
    file = tmp_path / "a" / "b" / "f.bin"
    for data in (b"one", b"", bytes(range(256)) * 100):
        atomic.write_bytes(file, data)
        assert file.read_bytes() == data
        assert [p.name for p in file.parent.iterdir()] == ["f.bin"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file(tmp_path, monkeypatch, call):
    file = tmp_path / "f"
    file.write_bytes(b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OcheError, match=r"cannot write .*f: No space left on device; .* unchanged; .*--out") as caught:
        atomic.write_bytes(file, b"new")
    assert "\n" not in str(caught.value)
    assert file.read_bytes() == b"old" and list(tmp_path.iterdir()) == [file]


def test_flushed_before_it_is_renamed_and_the_directory_after(tmp_path, monkeypatch):
    order = []
    replace, fsync = os.replace, os.fsync
    monkeypatch.setattr(os, "fsync", lambda h: (order.append("directory" if _is_directory(h) else "file"), fsync(h)))
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("rename"), replace(a, b)))
    atomic.write_bytes(tmp_path / "f", b"x")
    assert order == ["file", "rename", "directory"]


def _is_directory(handle):
    return os.path.isdir(f"/proc/self/fd/{handle}")


def test_places_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OcheError, match="cannot write"):
        atomic.write_bytes(tmp_path / "file" / "f", b"x")
    (tmp_path / "directory").mkdir()
    with pytest.raises(OcheError, match="cannot write"):
        atomic.write_bytes(tmp_path / "directory", b"x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["directory", "file"]


def test_clean_takes_leftovers_only(tmp_path):
    for name in (".tmp-f-0123abcd", ".tmp", "f", ".lock"):
        (tmp_path / name).write_text("x")
    assert atomic.is_leftover(tmp_path / ".tmp-f-0123abcd") and not atomic.is_leftover(tmp_path / ".tmp")
    atomic.clean(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", ".tmp", "f"]
    atomic.clean(tmp_path / "absent")


def test_json_is_strict(tmp_path):
    value = {"a": [1, 2.5, math.nan, (math.inf, -math.inf)], "é": {"b": None, "c": True}}
    text = atomic.to_json(value)
    assert text == '{"a": [1, 2.5, null, [null, null]], "é": {"b": null, "c": true}}'
    file = tmp_path / "f.json"
    assert atomic.read_json(file) == {}
    file.write_text(text, encoding="utf-8")
    assert atomic.read_json(file) == {"a": [1, 2.5, None, [None, None]], "é": {"b": None, "c": True}}


@pytest.mark.parametrize("text", ["", "{", '{"a": 1}}', "\ud800", "[1]"])
def test_damaged_json(tmp_path, text):
    file = tmp_path / "f.json"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(OcheError, match=r"f\.json") as caught:
        atomic.read_json(file)
    assert "\n" not in str(caught.value)


def test_a_file_is_copied_whole_or_not_at_all(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    atomic.copy_file(tmp_path / "a", tmp_path / "new" / "b")
    assert (tmp_path / "new" / "b").read_bytes() == b"x" * 3_000_000
    (tmp_path / "new" / "b").write_bytes(b"old")

    def full(source, target, size):
        target.write(b"x")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.shutil, "copyfileobj", full)
    with pytest.raises(atomic.Unwritten, match="No space left on device"):
        atomic.copy_file(tmp_path / "a", tmp_path / "new" / "b")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["b"] and (tmp_path / "new" / "b").read_bytes() == b"old"
