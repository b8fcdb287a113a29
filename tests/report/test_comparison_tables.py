"""The numbers of a comparison."""

from oche.report.comparison_runs import find_runs
from oche.report.comparison_tables import headline_cards, result_tables, settings_sections
from oche.report.html.page import Table


def table(items, name) -> Table:
    return next(item for item in items if isinstance(item, Table) and item.name == name)


def test_numbers_are_those_of_the_runs(four):
    found = find_runs([four])
    runs = table(result_tables(found), "runs")
    at = runs.columns.index("test accuracy")
    assert [row[at].value for row in runs.cells] == [0.90, 0.92, 0.80, 0.82]
    assert [row[runs.columns.index("seed")].value for row in runs.cells] == [0, 1, 0, 1]
    assert "true accuracy" not in runs.columns and "random cells" not in runs.columns  # nobody has them
    groups = table(result_tables(found), "groups")
    assert [[cell.text.replace("\u00a0", " ") for cell in row] for row in groups.cells] == [
        ["darts", "2", "91.00 ± 1.41 %", "92.00 %", "90.00 %"], ["gdas", "2", "81.00 ± 1.41 %", "82.00 %", "80.00 %"],
    ]  # fmt: skip
    assert headline_cards(found)[1] == ("best test accuracy: darts-1", "92.00\u00a0%")
    assert settings_sections(found)[0].items[0].columns == ("run", "method")


def test_the_share_of_decided_nodes_is_shown_where_it_is_known(four):
    import json

    for i, path in enumerate(sorted(p for p in four.iterdir() if (p / "summary.json").exists())):
        summary = json.loads((path / "summary.json").read_text())
        (path / "summary.json").write_text(json.dumps({**summary, "decided_nodes": i, "nodes": 8}))
    runs = table(result_tables(find_runs([four])), "runs")
    cells = [row[runs.columns.index("nodes decided")] for row in runs.cells]
    assert [cell.value for cell in cells] == [0.0, 0.125, 0.25, 0.375] and cells[1].text == "12.50\u00a0%"


def _trained(folder, accuracies, images=None):
    """Searches whose trainings reached ``accuracies``, on so many test images where that is known."""
    from report_runs import assessment, make_run, make_training, write_json

    for i, accuracy in enumerate(accuracies):
        path = make_run(folder / f"run-{i}", epochs=1, trained=False, toy=False, nodes=1)
        train = make_training(path / "train", accuracy, epochs=1)
        if images is not None:
            found = assessment("d").to_dict()
            k = len(found["classes"])
            wrong = images // k
            found["confusion"] = [[wrong if i == j else 0 for j in range(k)] for i in range(k)]
            write_json(train / "assessment.json", found)
    return find_runs([folder])


def test_runs_that_tie_have_no_best(tmp_path):
    assert headline_cards(_trained(tmp_path / "a", [0.5, 0.5, 0.5, 0.4]))[1] == (
        "best test accuracy: the same in 3 of 4 runs",
        "50.00\u00a0%",
    )
    assert headline_cards(_trained(tmp_path / "b", [0.5, 0.51]))[1] == ("best test accuracy: run-1", "51.00\u00a0%")
    few = headline_cards(_trained(tmp_path / "c", [0.90, 0.92, 0.20], images=300))[1]
    assert few == ("best test accuracy; 2 of 3 runs are too close to it for 300 images", "92.00\u00a0%")
    many = headline_cards(_trained(tmp_path / "d", [0.90, 0.92, 0.20], images=30_000))[1]
    assert many == ("best test accuracy: run-1", "92.00\u00a0%")
