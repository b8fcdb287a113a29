"""Results of a study: pairs, gains, ranks, and what too few seeds can say."""

from __future__ import annotations

import csv
import io
import itertools
import statistics

import pytest

import report_studies
import study_files
from oche.study import run as study_run
from oche.study.groups import comparisons
from oche.study.report import _head, write_study_report
from oche.study.results import trial_results
from study_pages import results, table

FOUND = {0: 0.950, 1: 0.961, 2: 0.955, 3: 0.970, 4: 0.958, 5: 0.966, 6: 0.963}
OTHER = {0: 0.940, 1: 0.951, 2: 0.951, 3: 0.949, 4: 0.940, 5: 0.950, 6: 0.944}
RANDOM = {0: 0.900, 1: 0.935, 2: 0.921, 3: 0.911, 4: 0.927, 5: 0.915, 6: 0.908}


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
        "Significant at 5 % (3 comparisons, up to 7 seeds each, Holm's correction): gdas is better than darts;"
        in report
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
    assert "for n = 3 normal values the nominal 95 % interval holds the mean in 70 % of cases" in text


@pytest.mark.slow
def test_over_three_data_sets_ranks_are_demsars(tmp_path):
    grid = {"method": ["darts", "gdas", "random"], "limit": [40, 50, 60], "seed": [0]}
    asked = study_files.study(tmp_path, recipe="small", grid=grid)
    study_run.write_study(asked)
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


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            {"darts": [0.5] * 3, "gdas": [0.5] * 3, "snas": [0.4] * 3},
            "digits: best mean test accuracy, the same for 2 of 3 groups (n\u00a0=\u00a03)",
        ),
        (
            {"darts": [0.50, 0.52, 0.51], "gdas": [0.60, 0.51, 0.52]},
            "digits: highest mean test accuracy, of gdas; not shown to be better than 1 of 1 other group (n\u00a0=\u00a03)",
        ),
        (
            {"darts": [0.5 + i / 100 for i in range(7)], "gdas": [0.7 + i / 99 for i in range(7)]},
            "digits: best mean test accuracy, gdas (n\u00a0=\u00a07)",
        ),
        ({"darts": [0.5]}, "digits: best mean test accuracy, darts (n\u00a0=\u00a01)"),
    ],
)
def test_a_group_is_called_the_best_only_where_that_is_shown(tmp_path, values, told):
    reached = {(method, seed): value for method, of in values.items() for seed, value in enumerate(of)}
    found = trial_results(report_studies.make(tmp_path, reached))
    assert _head(found, comparisons(found))[0].items[0].cards[-1][0] == told
