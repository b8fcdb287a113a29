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
