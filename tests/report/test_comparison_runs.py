"""Which runs a comparison shows, what they are called, and which belong together."""

import pytest

from oche.core.errors import OcheError
from oche.report.comparison_runs import differing_settings, find_runs
from report_runs import make_run, make_training, write_json


def search(path, **settings):
    make_run(path, epochs=1, trained=False, toy=False, nodes=1)
    tree = {"data": "digits", "method": "darts", "seed": 0, "search": {"epochs": 2}} | settings
    write_json(path / "config.yaml", tree)  # JSON is YAML
    return path


def test_runs_given_one_by_one_are_named_by_what_tells_them_apart(tmp_path):
    one, other = search(tmp_path / "a" / "x"), search(tmp_path / "b" / "x", seed=1)
    found = find_runs([one, other])
    assert [m.name for m in found] == ["a/x", "b/x"] and {m.group for m in found} == {"darts"}
    assert [m.name for m in find_runs([one, search(tmp_path / "a" / "y")])] == ["x", "y"]
    assert differing_settings(found) == ["seed"]


def test_a_comparison_is_its_runs_by_method(tmp_path):
    for method in ("darts", "gdas"):
        for seed in (0, 1):
            extra = {"search": {"epochs": 2, "tau": 3}} if method == "gdas" else {}
            search(tmp_path / f"{method}-{seed}", method=method, seed=seed, **extra)
    make_training(tmp_path / "darts-0" / "train", 0.9, epochs=1)
    (tmp_path / "pictures").mkdir()
    found = find_runs([tmp_path])
    assert [m.name for m in found] == ["darts-0", "darts-1", "gdas-0", "gdas-1"]
    assert [m.group for m in found] == ["darts", "darts", "gdas", "gdas"]
    assert [len(m.trainings) for m in found] == [1, 0, 0, 0]  # a training inside a search is no run of its own


def test_a_trial_of_a_study_is_one_run(tmp_path):
    for name in ("t1", "t2"):
        search(tmp_path / "trials" / name / "search", seed=int(name[1]))
        make_training(tmp_path / "trials" / name / "train", 0.9, epochs=1)
    found = find_runs([tmp_path])
    assert [m.name for m in found] == ["t1", "t2"] and [len(m.trainings) for m in found] == [1, 1]
    for name in ("t1", "t2"):
        write_json(tmp_path / "trials" / name / "trial.json", {"group": "darts · digits", "seed": int(name[1])})
    assert [m.name for m in find_runs([tmp_path])] == ["darts · digits · seed 1", "darts · digits · seed 2"]


def test_groups_of_one_method_are_told_apart_by_their_settings(tmp_path):
    runs = [search(tmp_path / str(e), search={"epochs": e, "w": {"lr": 0.1}}, device=f"d{e}") for e in (2, 3)]
    assert [m.group for m in find_runs(runs)] == ["epochs 2", "epochs 3"]


def test_a_label_says_which_is_the_method_and_which_the_space(tmp_path):
    runs = [
        search(tmp_path / f"{m}-{s}", method=m, space={"type": s}) for m, s in (("darts", "darts"), ("gdas", "nb201"))
    ]
    assert [m.group for m in find_runs(runs)] == ["darts · space darts", "gdas · space nb201"]


def test_a_damaged_configuration_leaves_the_rest(tmp_path):
    one, other = search(tmp_path / "a"), search(tmp_path / "b")
    (other / "config.yaml").write_text("a: [1, {")
    assert [m.settings.get("method") for m in find_runs([one, other])] == ["darts", None]


def test_one_run_is_no_comparison(tmp_path):
    with pytest.raises(OcheError, match=r"a comparison needs two runs, and .* has 1; give several"):
        find_runs([search(tmp_path / "a")])
    with pytest.raises(OcheError, match="has 0"):
        (tmp_path / "empty").mkdir()
        find_runs([tmp_path / "empty"])
    with pytest.raises(OcheError, match=r"no run directory at .*nowhere"):
        find_runs([tmp_path / "a", tmp_path / "nowhere"])
