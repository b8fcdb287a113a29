"""Groups of trials: their names, their random cells, the data they share."""

from __future__ import annotations

import json

import report_studies
import study_files
from oche.report.figures import FigureWriter
from oche.report.html.page import render_page
from oche.study import page_results
from oche.study import run as study_run
from oche.study.groups import comparisons
from oche.study.results import trial_results
from oche.study.trial import short_names
from study_pages import one, said


def settings(tmp_path, **keys):
    asked = study_files.study(tmp_path, **keys)
    study_run.write_study(asked)
    return comparisons(trial_results(asked.place.out))


def test_groups_are_named_by_what_tells_them_apart_and_find_their_random_cells(tmp_path):
    grid = {"method": ["darts", "random"], "search.a.lr": [0.001, 0.01], "train.steps": [2, 3], "seed": [0]}
    (comparison,) = settings(tmp_path, recipe="small", grid=grid)
    names = {group.name for group in comparison.groups}
    searched = {f"darts · train.steps={steps} · search.a.lr={lr}" for steps in (2, 3) for lr in (0.001, 0.01)}
    assert names == searched | {"random · train.steps=2", "random · train.steps=3"}
    for group in comparison.groups:  # what a search is told is nothing to a random cell; what its training is told is
        control = comparison.control(group)
        assert control is not None and control.control
        assert control.labels["train.steps"] == group.labels["train.steps"]


def test_other_data_are_another_comparison(tmp_path):
    found = settings(tmp_path, recipe="small", grid={"method": ["darts"], "limit": [40, 60], "seed": [0, 1]})
    assert [comparison.name for comparison in found] == ["digits · limit=40", "digits · limit=60"]
    assert all([group.name for group in comparison.groups] == ["darts"] for comparison in found)


def test_spaces_of_other_sizes_are_another_benchmark(tmp_path):
    asked = study_files.study(tmp_path, recipe="small", grid={"method": ["darts"], "space.nodes": [2, 3], "seed": [0]})
    study_run.write_study(asked)
    assert one(said(asked.place.out), "same benchmark") == ("in part", "spaces differ in space.nodes")


def test_names_say_what_is_the_method_and_what_the_space():
    def labels(method, space="darts", data="digits", **more):
        return {"method": method, "space": space, "data": data, **more}

    assert short_names([labels("darts"), labels("gdas")]) == ["darts", "gdas"]
    assert short_names([labels("darts"), labels("darts", "nb201")]) == ["darts · space darts", "darts · nb201"]
    assert short_names([labels("seed", "seed"), labels("seed", "darts")]) == ["seed · space seed", "seed · darts"]
    assert short_names([labels("darts", data="darts"), labels("darts", data="mnist")]) == [
        "darts · data darts",
        "darts · mnist",
    ]
    assert short_names([labels("darts"), labels("darts", data="mnist")], common=("data",)) == ["darts", "darts"]
    steps = [labels("darts", **{"search.steps": "3"}), labels("random", **{"search.steps": "default"})]
    assert short_names(steps) == ["darts · search.steps=3", "random"]
    assert short_names([labels("darts")]) == ["darts"] and short_names([]) == []


def test_the_share_of_the_commonest_class_is_that_of_the_results(tmp_path):
    out = report_studies.make(tmp_path, {("darts", 0): 0.9, ("darts", 1): 0.8, ("random", 0): 0.7})
    (comparison,) = comparisons(trial_results(out))
    assert comparison.key == "test_acc" and comparison.majority is None  # not known
    for row, share in zip(trial_results(out), (0.4, 0.4, 0.4), strict=True):
        add(row, test_majority=share, search_val_majority=0.3)
    (comparison,) = comparisons(trial_results(out))
    assert comparison.majority == 0.4
    writer = FigureWriter(tmp_path / "pictures")
    text = render_page(
        "x", list(page_results.result_sections(writer, [comparison])), "", kicker="", state=("", ""), notes=[]
    )
    assert "always names the commonest class of these images is right for 40.00\u00a0% of them." in text
    add(trial_results(out)[0], test_majority=0.5)  # other images
    (comparison,) = comparisons(trial_results(out))
    assert comparison.majority is None


def add(row, **numbers):
    file = row.path / "summary.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | numbers))
