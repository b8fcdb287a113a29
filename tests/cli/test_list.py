"""What can be named: oche list."""

import pytest

from oche.cli.lookup import TABLES


@pytest.mark.parametrize("topic", TABLES)
def test_lists(topic, oche_):
    code, out, err = oche_("list", topic)
    assert code == 0 and not err
    title, header, *rows = out.splitlines()
    columns, want = TABLES[topic]()
    want = list(want)
    assert title.strip() == topic and header.startswith(columns[0])
    assert len(rows) == len(want) >= 2
    for line, row in zip(rows, want, strict=True):
        assert all(cell in line for cell in row)  # whole, for grep
        assert all(cell for cell in row)


def test_all_lists_at_once(oche_):
    code, out, _ = oche_("list")
    assert code == 0 and all(f"\n{topic} " in f"\n{out}" for topic in TABLES)
