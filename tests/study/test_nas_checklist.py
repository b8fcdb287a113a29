"""The checklist answers what the files of a study know."""

from __future__ import annotations

import report_studies
import study_files
from oche.study import run as study_run
from oche.study.groups import comparisons
from oche.study.nas_checklist import answers
from oche.study.provenance import Provenance
from oche.study.results import trial_results
from study_pages import one, results, said


def test_the_checklist_answers_what_the_files_know(study):
    found = said(study)
    assert len(found) == 14
    assert one(found, "trains the networks") == one(found, "search methods") == ("yes", "oche 0.1.0")
    assert one(found, "the code that was run") == ("yes", "all runs: commit 0123456789ab")
    assert one(found, "function of the time") == (
        "in part",
        "incumbents over time in this report, by the supernet's own validation, which is not the quality of the cells",
    )
    assert one(found, "other causes")[0] == "yes" and "a processor" in one(found, "other causes")[1]
    assert one(found, "same benchmark")[0] == "yes" and one(found, "several runs")[0] == "yes"
    assert one(found, "random cells") == ("in part", "random cells, trained the same way (digits: 7); no random search")
    assert one(found, "yper-parameters")[0] == "the study does not know"
    assert one(found, "ablations")[0] == "no" and one(found, "tabular")[0] == "no"
    assert one(found, "whole pipeline")[0] == "yes"


def test_the_checklist_does_not_say_yes_where_trials_differ(tmp_path):
    grid = {"method": ["darts", "gdas"], "train.steps": [2, 3], "seed": [0, 1]}
    asked = study_files.study(tmp_path, recipe="small", grid=grid)
    study_run.write_study(asked)
    for i, row in enumerate(trial_results(asked.place.out)):
        report_studies.finish(row, 0.9)
        changed = {"torch": f"2.{i % 2}", "commit": "abc-dirty" if i else "abc"}
        report_studies.write_json(row.path / "search" / "environment.json", report_studies.MACHINE | changed)
    found = said(asked.place.out)
    assert one(found, "the code that was run") == ("no", "files differed from commit abc-dirty")
    assert one(found, "other causes") == ("no", "torch: 2.0; 2.1; 2.13.0")
    assert one(found, "same benchmark") == ("in part", "trainings differ in train.steps")
    assert one(found, "ablations") == ("yes", "trials vary train.steps")
    assert one(found, "random cells")[0] == "no"
    assert one(found, "several runs")[0] == "in part" and "fewer than 3 finished seeds" in one(found, "several runs")[1]


def test_a_study_that_tunes_says_so(tmp_path):
    tune = {"samples": 2, "over": {"search.a.lr": {"log": [1e-4, 1e-2]}}}
    asked = study_files.study(tmp_path, recipe="none", grid={"method": ["darts"], "seed": [0]}, tune=tune)
    study_run.write_study(asked)
    found = said(asked.place.out)
    answer, because = one(found, "yper-parameters")
    assert answer == "in part" and "this study draws search.a.lr, 2 points, seed 0" in because
    assert one(found, "trains the networks") == ("no", "no network is trained in this study")


def test_with_a_table_incumbents_are_known_and_what_only_was_asked_for_does_not_count(tmp_path):
    made = report_studies.make(tmp_path, results(darts={0: 0.9}, random={0: 0.8}, random_ws={0: "killed by signal 9"}))
    before = one(said(made), "random cells")
    assert before == ("in part", "random cells, trained the same way (digits: 1); no random search")
    failed = next(row for row in trial_results(made) if row.labels["method"] == "random-ws")
    report_studies.finish(failed, 0.9)
    assert one(said(made), "random cells")[0] == "yes"
    metrics = (
        next(row for row in trial_results(made) if row.labels["method"] == "darts").path / "search" / "metrics.jsonl"
    )
    metrics.write_text(metrics.read_text().replace('"val_acc"', '"true_acc": 0.9, "val_acc"'))
    assert one(said(made), "function of the time")[0] == "yes"


def test_practices_are_numbered_as_in_the_paper(study):
    """JMLR 2020, 1909.02453: 1 to 3 on code, 4 benchmarks, 5 ablations, 6 protocol, 7 over time, 8 random, 9 seeds, 10 tables,
    11 confounders, 12 hyper-parameters, 13 end to end, 14 setup."""
    found = answers(Provenance.of(study, trial_results(study), comparisons(trial_results(study))))
    words = ("trains", "search methods", "the code that was run", "same benchmark", "ablations", "evaluated in", "time",
             "random", "seeds", "tabular", "other causes", "chosen", "whole pipeline", "setup")  # fmt: skip
    assert [a.number for a in found] == [*range(1, 15)]
    assert all(word in a.question for word, a in zip(words, found, strict=True))
    assert [a.part for a in found] == ["code"] * 3 + ["comparing methods"] * 8 + ["reporting"] * 3
