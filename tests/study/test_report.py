"""The report of a study: every number against one worked out here, and what it says where it knows too little."""

from __future__ import annotations

import csv
import io
import itertools
import re
import statistics
from pathlib import Path

import pytest
import yaml

import report_studies
import study_files
from oche.cli.main import main
from oche.core.errors import OcheError
from oche.report.metrics import ACCURACY, PERPLEXITY
from oche.study import run as drive
from oche.study.anytime import incumbent_curves
from oche.study.groups import comparisons
from oche.study.nas_checklist import answers
from oche.study.provenance import Provenance
from oche.study.report import write_study_report
from oche.study.results import trial_results

FOUND = {0: 0.950, 1: 0.961, 2: 0.955, 3: 0.970, 4: 0.958, 5: 0.966, 6: 0.963}
OTHER = {0: 0.940, 1: 0.951, 2: 0.951, 3: 0.949, 4: 0.940, 5: 0.950, 6: 0.944}
RANDOM = {0: 0.900, 1: 0.935, 2: 0.921, 3: 0.911, 4: 0.927, 5: 0.915, 6: 0.908}


def results(**groups: dict[int, float | str]) -> dict[tuple[str, int], float | str]:
    return {(name.replace("_", "-"), seed): value for name, of in groups.items() for seed, value in of.items()}


def table(study: Path, name: str) -> dict[str, dict[str, str]]:
    """A table's rows by their first cell."""
    text = (study / "tables" / f"{name}.csv").read_text()
    return {next(iter(row.values())): row for row in csv.DictReader(io.StringIO(text))}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    made = report_studies.make(folder, results(darts=OTHER, gdas=FOUND, random=RANDOM))
    write_study_report(made)
    return made


def test_the_summary_is_mean_sd_and_n_of_each_group_best_first(study):
    found = table(study, "digits-results")
    assert [*found] == ["gdas", "darts", "random"]
    for name, values in (("gdas", FOUND), ("darts", OTHER), ("random", RANDOM)):
        row, percent = found[name], [100 * v for v in values.values()]
        assert float(row["mean"]) == pytest.approx(statistics.fmean(percent))
        assert float(row["sd"]) == pytest.approx(statistics.stdev(percent))
        assert float(row["95 % from"]) < float(row["mean"]) < float(row["95 % to"])
        assert (row["n"], row["seeds"], row["parameters"]) == ("7", "0, 1, 2, 3, 4, 5, 6", "1003")
        assert (float(row["worst"]), float(row["best"])) == pytest.approx((min(percent), max(percent)))


def test_pairs_are_tested_seed_by_seed_and_corrected_by_holm(study):
    text = (study / "tables" / "digits-pairs.csv").read_text()
    found = {(row["one"], row["other"]): row for row in csv.DictReader(io.StringIO(text))}
    assert [*found] == [("gdas", "darts"), ("gdas", "random"), ("darts", "random")]
    for row in found.values():  # each is better at every seed: the least p of 7, three times
        assert float(row["p"]) == 2 / 128 and float(row["p (Holm)"]) == 3 * 2 / 128
        assert row["verdict"] == f"{row['one']} is better"
    pair = found["gdas", "darts"]
    differences = [100 * (FOUND[s] - OTHER[s]) for s in FOUND]
    assert float(pair["difference"]) == pytest.approx(statistics.fmean(differences))
    assert float(pair["d"]) == pytest.approx(statistics.fmean(differences) / statistics.stdev(differences))
    wins = sum((a > b) + (a == b) / 2 for a, b in itertools.product(FOUND.values(), OTHER.values()))
    assert float(pair["chance that one is better"]) == pytest.approx(wins / 49)
    report = (study / "report.md").read_text()
    assert (
        "Significant at 5 % (3 comparisons, up to 7 seeds each, Holm's correction): gdas is better than darts;" in report
    )
    assert (
        "Mean ranks over 7 seeds, 1 is best: gdas 1.00, darts 2.00, random 3.00. Friedman's χ² = 14.00, p < 0.001"
        in report
    )


def test_what_the_search_adds_is_yangs_relative_improvement(study):
    found = table(study, "digits-over-random")
    assert [*found] == ["gdas", "darts"]
    mean, control = statistics.fmean(FOUND.values()), statistics.fmean(RANDOM.values())
    row = found["gdas"]
    assert float(row["relative improvement (%)"]) == pytest.approx(100 * (mean - control) / control)
    assert 0 < float(row["95 % from"]) < float(row["relative improvement (%)"]) < float(row["95 % to"])
    assert (row["n"], row["random cells"], row["reading"]) == ("7", "7", "interval above 0")


def test_cost_is_that_of_search_and_training_together(study):
    found = table(study, "cost")
    assert float(found["gdas"]["both (s)"]) == pytest.approx(20 + 10 + 3)
    assert float(found["random"]["both (s)"]) == 20 and found["random"]["search (s)"] == ""
    assert float(found["gdas"]["peak memory (MB)"]) == 303 and float(found["gdas"]["CPU (s)"]) == 40


def test_the_page_is_one_small_file_and_pictures_lie_beside_it(study):
    page = (study / "report.html").read_text()
    assert len(page) < 5e6 and "<script src" not in page and "http-equiv" in page
    for name in ("results-digits", "ranks-digits", "incumbents-digits"):
        assert (study / "pictures" / f"{name}.png").stat().st_size > 5000
        assert f"pictures/{name}.svg" in (study / "report.md").read_text()
    for file in (study / "report.md", study / "report.html", *study.glob("tables/*.csv")):
        assert not re.search(r"\b(nan|inf)\b", file.read_text(), re.IGNORECASE), file


def test_it_is_the_same_every_time(study, tmp_path):
    before = {file: file.read_bytes() for file in (study / "report.html", study / "report.md", *study.glob("tables/*"))}
    write_study_report(study)
    assert {file: file.read_bytes() for file in before} == before


def test_a_study_that_is_reported_can_still_be_gone_on_with(study):
    drive.check_directory(study)  # refuses folders with foreign files


# --- too little -------------------------------------------------------------------------------------------------------


def test_with_two_seeds_it_says_that_it_cannot_say(tmp_path):
    made = report_studies.make(tmp_path, results(darts={0: 0.9, 1: 0.91}, gdas={0: 0.92, 1: 0.93}, random={0: 0.8}))
    text = write_study_report(made).with_suffix(".md").read_text()
    assert "These groups cannot be compared: 2 seeds in common; a comparison takes 3 or more." in text
    assert "No mean ranks: ranks of 3 groups over 1 common block: it takes 3 groups and 3 blocks." in text
    assert "no interval: 2 found and 1 random cells; an interval takes 3 of each" in text
    assert table(made, "digits-results")["darts"]["95 % from"] == ""


def test_where_no_difference_could_be_shown_it_says_how_many_seeds_it_takes(tmp_path):
    three = {s: FOUND[s] for s in range(3)}
    made = report_studies.make(tmp_path, results(darts={s: OTHER[s] for s in range(3)}, gdas=three))
    text = write_study_report(made).with_suffix(".md").read_text()
    assert "With 3 seeds the smallest p that the test can give is 0.25: no difference, however large" in text
    assert "It takes 6 seeds." in text
    assert "of n = 3 normal values, an interval called 95 % holds the mean in 70 % of cases" in text


def test_missing_seeds_are_left_out_and_failures_listed_with_their_reason(tmp_path):
    broken = {**OTHER, 1: "Diverged: the loss of step 3 is no number"}
    made = report_studies.make(tmp_path, results(darts=broken, gdas=FOUND))
    text = write_study_report(made).with_suffix(".md").read_text()
    assert "| gdas | darts | gdas is better | 6 (without 1) |" in text
    assert "1 of 14 trials are not finished; nothing above counts them." in text
    row = table(made, "unfinished")["darts · darts · digits"]
    assert (row["seed"], row["state"], row["why"]) == ("1", "failed", "Diverged: the loss of step 3 is no number")
    assert "there are no random cells to compare with" in text


def test_a_study_that_has_only_begun_has_a_report(tmp_path):
    asked = study_files.study(tmp_path, grid={"method": ["darts", "random"], "seed": [0]}, recipe="small")
    drive.write_study(asked)
    text = write_study_report(asked.place.out).with_suffix(".md").read_text()
    assert "2 trials: 2 waiting" in text and "No trial has a result yet." in text


def test_no_study_is_refused(tmp_path):
    with pytest.raises(OcheError, match=r"is no study: it has no study\.yaml"):
        write_study_report(tmp_path)


# --- groups -----------------------------------------------------------------------------------------------------------


def settings(tmp_path, **keys):
    asked = study_files.study(tmp_path, **keys)
    drive.write_study(asked)
    return comparisons(trial_results(asked.place.out))


def test_groups_are_named_by_what_tells_them_apart_and_find_their_random_cells(tmp_path):
    grid = {"method": ["darts", "random"], "search.a.lr": [0.001, 0.01], "train.steps": [2, 3], "seed": [0]}
    (arena,) = settings(tmp_path, recipe="small", grid=grid)
    names = {group.name for group in arena.groups}
    searched = {f"darts · train.steps={steps} · search.a.lr={lr}" for steps in (2, 3) for lr in (0.001, 0.01)}
    assert names == searched | {"random · train.steps=2", "random · train.steps=3"}
    for group in arena.groups:  # what a search is told is nothing to a random cell; what its training is told is
        control = arena.control(group)
        assert control is not None and control.control
        assert control.labels["train.steps"] == group.labels["train.steps"]


def test_other_data_are_another_arena(tmp_path):
    found = settings(tmp_path, recipe="small", grid={"method": ["darts"], "limit": [40, 60], "seed": [0, 1]})
    assert [arena.name for arena in found] == ["digits · limit=40", "digits · limit=60"]
    assert all([group.name for group in arena.groups] == ["darts"] for arena in found)


def test_over_three_data_sets_ranks_are_demsars(tmp_path):
    grid = {"method": ["darts", "gdas", "random"], "limit": [40, 50, 60], "seed": [0]}
    asked = study_files.study(tmp_path, recipe="small", grid=grid)
    drive.write_study(asked)
    for row in trial_results(asked.place.out):
        report_studies.finish(row, {"darts": 0.8, "gdas": 0.9, "random": 0.7}[row.labels["method"]])
    text = write_study_report(asked.place.out).with_suffix(".md").read_text()
    assert "Mean ranks over 3 data sets, 1 is best: gdas 1.00, darts 2.00, random 3.00." in text


def test_less_perplexity_is_better(tmp_path):
    reached = results(darts={0: 60.0, 1: 62.0, 2: 61.0}, random={0: 80.0, 1: 82.0, 2: 84.0})
    made = report_studies.make(tmp_path, reached, key="test_ppl")
    write_study_report(made)
    assert [*table(made, "digits-results")] == ["darts", "random"]
    assert float(table(made, "digits-over-random")["darts"]["relative improvement (%)"]) == pytest.approx(100 * 21 / 82)
    assert float(table(made, "digits-pairs")["darts"]["chance that one is better"]) == 1


# --- incumbents -------------------------------------------------------------------------------------------------------


def test_the_incumbent_never_gets_worse_and_carries_its_own_truth():
    values = [(0.1, 0.3), (0.4, 0.7), (0.2, 0.9), (0.5, 0.6)]
    records = [{"val_acc": v, "true_acc": t, "timings": {"seconds": float(i)}} for i, (v, t) in enumerate(values)]
    best, true = incumbent_curves([{"val_acc": None}, *records], ACCURACY)
    assert best == [(0.0, 0.1), (1.0, 0.4), (2.0, 0.4), (3.0, 0.5)]
    assert true == [(0.0, 0.3), (1.0, 0.7), (2.0, 0.7), (3.0, 0.6)]
    falling = [{"val_ppl": v, "timings": {"seconds": float(i)}} for i, v in enumerate((90.0, 70.0, 80.0))]
    assert incumbent_curves(falling, PERPLEXITY)[0] == [(0.0, 90.0), (1.0, 70.0), (2.0, 70.0)]


# --- checklist --------------------------------------------------------------------------------------------------------


def said(study: Path) -> dict[str, tuple[str, str]]:
    found = trial_results(study)
    return {a.question: (a.said, a.because) for a in answers(Provenance.of(study, found, comparisons(found)))}


def one(found: dict[str, tuple[str, str]], word: str) -> tuple[str, str]:
    (answer,) = [value for question, value in found.items() if word in question]
    return answer


def test_the_checklist_answers_what_the_files_know(study):
    found = said(study)
    assert len(found) == 14
    assert one(found, "trains the networks") == one(found, "search methods") == ("yes", "oche 0.1.0")
    assert one(found, "as it was run") == ("yes", "all runs: commit 0123456789ab")
    assert one(found, "function of the time") == (
        "in part",
        "incumbents over time in this report, by the supernet's own validation: that is not how good their cells are",
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
    drive.write_study(asked)
    for i, row in enumerate(trial_results(asked.place.out)):
        report_studies.finish(row, 0.9)
        changed = {"torch": f"2.{i % 2}", "commit": "abc-dirty" if i else "abc"}
        report_studies.write_json(row.path / "search" / "environment.json", report_studies.MACHINE | changed)
    found = said(asked.place.out)
    assert one(found, "as it was run") == ("no", "files differed from commit abc-dirty")
    assert one(found, "other causes") == ("no", "torch: 2.0; 2.1; 2.13.0")
    assert one(found, "same benchmark") == ("in part", "trainings differ in train.steps")
    assert one(found, "ablations") == ("yes", "trials vary train.steps")
    assert one(found, "random cells")[0] == "no"
    assert one(found, "several runs")[0] == "in part" and "fewer than 3 finished seeds" in one(found, "several runs")[1]


def test_a_study_that_tunes_says_so(tmp_path):
    tune = {"samples": 2, "over": {"search.a.lr": {"log": [1e-4, 1e-2]}}}
    asked = study_files.study(tmp_path, recipe="none", grid={"method": ["darts"], "seed": [0]}, tune=tune)
    drive.write_study(asked)
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
    words = ("trains", "search methods", "as it was run", "same benchmark", "ablations", "judged", "time", "random", "seeds",
             "tabular", "other causes", "chosen", "whole pipeline", "setup")  # fmt: skip
    assert [a.number for a in found] == [*range(1, 15)]
    assert all(word in a.question for word, a in zip(words, found, strict=True))
    assert [a.part for a in found] == ["code"] * 3 + ["comparing methods"] * 8 + ["reporting"] * 3


def test_spaces_of_other_sizes_are_another_benchmark(tmp_path):
    asked = study_files.study(tmp_path, recipe="small", grid={"method": ["darts"], "space.nodes": [2, 3], "seed": [0]})
    drive.write_study(asked)
    assert one(said(asked.place.out), "same benchmark") == ("in part", "spaces differ in space.nodes")


# --- a real one -------------------------------------------------------------------------------------------------------


def test_a_small_study_from_its_file_to_its_report(tmp_path, monkeypatch, capsys):
    study_files.here(monkeypatch)
    file = study_files.write(tmp_path, recipe="small", jobs=1, grid={"method": ["darts", "random"], "seed": [0]})
    assert main(["study", str(file), "--quiet"]) == 0
    capsys.readouterr()
    assert main(["study", "report", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out' / 'report.html'}\n"
    out = tmp_path / "out"
    reached = {row.seed: 100 * row.numbers["test_acc"] for row in trial_results(out) if row.labels["method"] == "darts"}
    row = table(out, "digits-results")["darts"]
    assert (row["n"], float(row["mean"])) == ("1", pytest.approx(statistics.fmean(reached.values())))
    assert len(table(out, "checklist")) == 14
    assert yaml.safe_load((out / "study.yaml").read_text())["recipe"] == "small"
    assert main(["study", str(out), "--quiet"]) == 0  # pictures and tables are no foreign files
