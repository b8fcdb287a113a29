"""Pages as plain text: the same values as Markdown and CSV."""

from __future__ import annotations

import csv
import io

from oche.report.html.markdown import csv_text, markdown, tables
from oche.report.html.page import Cards, Code, Figure, Fold, Heading, Prose, Row, Section, Table, TableCell

TABLE = Table(
    "t", ("name", "value", "more"), [("a|b", TableCell("12.3 %", 0.123), None), ("c, d", 7, 'x "y"')], "A table"
)


def test_csv_has_the_values_and_survives_commas_and_quotes():
    read = list(csv.reader(io.StringIO(csv_text(TABLE))))
    assert read == [["name", "value", "more"], ["a|b", "0.123", ""], ["c, d", "7", 'x "y"']]


def test_markdown_has_the_words_and_every_kind_that_text_can_show():
    items = [
        Prose("Hello."),
        TABLE,
        Figure("<svg/>", "A picture", "p"),
        Code("x: 1\n"),
        Cards([("n", "3")]),
        Heading("H"),
    ]
    text = markdown("Title", [Section("One", items), Section("", [Row([Fold("Closed", [Prose("Within.")])])])], "sub")
    assert text.startswith(
        "# Title\n\nsub\n\n## One\n\nHello.\n\nA table\n\n| name | value | more |\n| --- | --- | --- |\n"
    )
    assert '| a\\|b | 12.3 % | – |\n| c, d | 7 | x "y" |' in text
    for part in ("![A picture](pictures/p.svg)", "```\nx: 1\n```", "- n: 3", "### H", "### Closed\n\nWithin."):
        assert part in text


def test_tables_are_found_wherever_they_stand():
    other = Table("u", ("a",), [(1,)])
    page = [Section("", [TABLE]), Section("", [Fold("f", [Row([other])])])]
    assert [table.name for table in tables(page)] == ["t", "u"]
