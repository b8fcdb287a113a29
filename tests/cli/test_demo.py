"""The demonstration, with networks small enough for a test; its real size is measured by `make demo`."""

import contextlib
import io
import json

import pytest

import oche
import small_runs
from oche.cli import demo
from oche.cli import main as cli
from oche.runs.session import DirectorySession
from oche.training.loop import Interrupted

pytestmark = pytest.mark.slow  # the whole demonstration

PARTS = ["train", "random-1", "random-2", "random-3"]


@pytest.fixture(scope="module")
def small():
    """The demonstration in a few seconds; reports are tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        small_runs.no_report(patch)
        patch.setattr(demo, "space", lambda: oche.spaces.darts(channels=2, cells=3, nodes=2))
        patch.setattr(demo, "method", lambda: oche.methods.darts(order=2, batch=64, steps=2))
        patch.setattr(demo, "recipe", lambda: small_runs.recipe(steps=2))
        yield


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory):
    """(directory, what was said) of a demonstration that nothing disturbed."""
    out, said = tmp_path_factory.mktemp("whole") / "demo", io.StringIO()
    with contextlib.redirect_stdout(said):
        assert cli.main(["demo", "--out", str(out)]) == 0
    return out, said.getvalue()


def accuracies(path):
    return {name: oche.Run.open(path / name).summary["test_acc"] for name in PARTS}


def test_it_runs_every_part_and_says_what_came_out(whole):
    out, said = whole
    for words in ("659", "411", "296", "335", "found cell", "(n = 3)", f"report: {out}", "next:", "oche search"):
        assert words in said, words
    search = oche.Run.open(out)
    assert (search.state, search.kind) == ("complete", "search") and oche.Run.open(out / "toy").kind == "toy"
    found = accuracies(out)
    assert all(0 <= a <= 1 for a in found.values())
    assert oche.Run.open(out / "train").genotype == search.genotype
    drawn = [oche.Run.open(out / name).genotype for name in PARTS[1:]]
    assert len({str(g) for g in [search.genotype, *drawn]}) == 4
    sizes = [oche.Run.open(out / name).config.train for name in PARTS]
    assert all(size == sizes[0] for size in sizes)  # trained the same way


@pytest.mark.parametrize("after", [1, 7])  # steps: in the search, in the training of a random cell
def test_an_interrupted_one_goes_on_to_the_same_end(small, whole, tmp_path, monkeypatch, after, capsys):
    taken = 0

    def stopping(self):
        nonlocal taken
        taken += 1
        return taken >= after

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(DirectorySession, "stopping", stopping)
        demo.run_demo(tmp_path / "cut", 0, False, demo.Log(quiet=True))
    assert cli.main(["resume", str(tmp_path / "cut")]) == 0
    assert "found cell" in capsys.readouterr().out
    assert accuracies(tmp_path / "cut") == accuracies(whole[0])
    assert json.loads((tmp_path / "cut" / "demo.json").read_text()) == {"seed": 0}
