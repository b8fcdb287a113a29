"""What a run writes down of its machine and software."""

import json
import os
import platform
import subprocess
import sys

import pytest
import torch

import oche
from oche.core import environment as module
from oche.core.environment import cpu_model, describe_environment, source_commit


def test_environment():
    found = describe_environment("cpu")
    assert json.loads(json.dumps(found)) == found
    assert (found["oche"], found["torch"]) == (oche.__version__, torch.__version__)
    assert (found["python"], found["cores"]) == (platform.python_version(), os.cpu_count())
    assert (found["threads"], found["device"], found["argv"]) == (torch.get_num_threads(), "cpu", sys.argv)
    assert "gpu" not in found and found["time"].endswith("+00:00")
    assert "numpy" in found and found["cpu"] == cpu_model()


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:99", "nonsense"])
def test_no_device_makes_it_fail(device):
    assert describe_environment(device)["device"] == device


def checkout(root):
    """A repository with one commit, and the package's place in it."""
    (root / "oche" / "run").mkdir(parents=True)
    file = root / "oche" / "run" / "environment.py"
    file.write_text("1\n")
    plain = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.org"]

    def git(*args):
        command = ["git", "-C", str(root), *identity, *args]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=plain).stdout.strip()

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    return file, git


def test_commit(tmp_path, monkeypatch):
    file, git = checkout(tmp_path / "repository")
    monkeypatch.setattr(module, "__file__", str(file))
    head = git("rev-parse", "HEAD")
    assert len(head) == 40 and source_commit() == head
    (file.parent / "new.py").write_text("")  # untracked files are no difference
    assert source_commit() == head
    file.write_text("2\n")
    assert source_commit() == f"{head}-dirty"
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as in a hook of another repository
    assert source_commit() == f"{head}-dirty"


def test_a_repository_around_an_installation_is_not_its_own(tmp_path, monkeypatch):
    checkout(tmp_path / "repository")
    inner = tmp_path / "repository" / "site-packages" / "oche" / "run"
    inner.mkdir(parents=True)
    monkeypatch.setattr(module, "__file__", str(inner / "environment.py"))
    assert source_commit() is None


def test_no_repository_and_no_git(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "__file__", str(tmp_path / "oche" / "run" / "environment.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert source_commit() is None
    monkeypatch.setenv("PATH", "")
    assert source_commit() is None and describe_environment("cpu")["commit"] is None
