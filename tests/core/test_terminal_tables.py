"""Tables as wide as a terminal."""

import pytest

from narrow_tables import HEAD, IMPORTANT, LEFT_OUT, ROWS
from oche.core.terminal_tables import fitted_table


@pytest.mark.parametrize(("width", "left_out"), LEFT_OUT)
def test_columns_that_do_not_fit_are_left_out(width, left_out):
    made, without = fitted_table(HEAD, ROWS, IMPORTANT, width)
    assert without == left_out
    assert [column.header for column in made.columns] == [name for name in HEAD if name not in left_out]
    assert made.row_count == 2 and sum(column.width + 2 for column in made.columns) <= width + 2


def test_the_most_important_column_is_always_there():
    made, without = fitted_table(HEAD, ROWS, ("n",), 3)
    assert "method" in without and [column.header for column in made.columns] == ["n"]
    made, _ = fitted_table(HEAD, ROWS, ("method",), 3)
    assert [column.header for column in made.columns] == ["method"]
