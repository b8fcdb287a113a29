"""Where compiled code is kept, and why it cannot be kept or run somewhere."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from oche.core import cache_folders
from oche.core.cache_folders import CACHE_VARIABLE, cache_folder, execution_obstacle, folder_obstacle


@pytest.fixture
def disk(monkeypatch):
    """Let every disk have these flags and this space."""

    def set_disk(flags=0, blocks=10**6):
        facts = SimpleNamespace(f_flag=flags, f_bavail=blocks, f_frsize=4096)
        monkeypatch.setattr(cache_folders.os, "statvfs", lambda path: facts)

    return set_disk


def test_variables_move_the_folder_the_own_one_first(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in (CACHE_VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_folder() == tmp_path / "home" / ".cache" / "oche"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "oche"
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CACHE_VARIABLE, "here")
    assert cache_folder() == tmp_path / "here"


def test_a_user_without_a_home(monkeypatch):
    for name in (CACHE_VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(cache_folders.Path, "home", home)
    assert cache_folder().name == f"oche-{os.getuid()}"


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        (dict(), ""),
        (dict(flags=os.ST_NOEXEC), "its disk is mounted without the right to execute (noexec)"),
        (dict(flags=os.ST_RDONLY), "its disk is read-only"),
        (dict(flags=os.ST_RDONLY | os.ST_NOEXEC), "its disk is read-only"),
        (dict(flags=os.ST_NOSUID), ""),
        (dict(blocks=3), "its disk is full"),
    ],
)
def test_a_disk_is_judged_by_its_flags_and_space(facts, says, disk, tmp_path):
    disk(**facts)
    folder = tmp_path / "not" / "there" / "yet"
    assert folder_obstacle(folder) == says and not folder.parent.exists()
    assert bool(execution_obstacle(tmp_path)) == bool(facts.get("flags", 0) & os.ST_NOEXEC)


def test_a_file_in_the_way_and_a_folder_that_must_not_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    assert folder_obstacle(tmp_path / "file" / "native") == f"{tmp_path / 'file'} is no folder"
    monkeypatch.setattr(cache_folders.os, "access", lambda path, mode: False)
    assert folder_obstacle(tmp_path) == "the folder must not be written"


def test_a_link_to_nowhere(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    assert folder_obstacle(Path(tmp_path / "link" / "native")) == f"{tmp_path / 'link'} is no folder"
