"""The gain over random cells against its definition."""

from __future__ import annotations

import pytest

from oche.analysis import (
    Undetermined,
    relative_improvement,
)


def test_relative_improvement_is_yangs_and_turns_for_perplexity():
    found = relative_improvement([0.95, 0.96, 0.97], [0.90, 0.92, 0.91])
    assert found.percent == pytest.approx(100 * (0.96 - 0.91) / 0.91)
    assert found.interval[0] < found.percent < found.interval[1]
    assert relative_improvement([60.0, 62.0], [80.0, 84.0], higher=False).percent == pytest.approx(100 * (82 - 61) / 82)
    assert isinstance(relative_improvement([60.0, 62.0], [80.0, 84.0]).interval, Undetermined)
    assert isinstance(relative_improvement([0.9], []), Undetermined) and isinstance(
        relative_improvement([], [0.9]), Undetermined
    )
    assert "is 0" in str(relative_improvement([0.9], [0.0, 0.0]))
