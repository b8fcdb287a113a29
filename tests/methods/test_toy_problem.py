"""The seed's Table 1, to the iteration, through the functions that train networks."""

import pytest

from oche.core.errors import OcheError
from oche.methods.toy_problem import PUBLISHED, Toy, experiment, solve


@pytest.mark.slow
@pytest.mark.parametrize(("xi", "iterations"), PUBLISHED.items())
def test_iterations_are_the_published_ones(xi, iterations):
    run = solve(xi)
    assert run["iterations"] == iterations == len(run["trajectory"]) - 1
    a, w = run["final"]
    assert abs(a - w) < 0.01  # on the feasible line w = w*(a)


def test_the_look_ahead_of_one_half_finds_the_optimum():
    """With xi = 1/2 the look-ahead w' = w - (w - a) = a is the lower solution itself, so the upper gradient is exact."""
    assert solve(0.5)["final"] == pytest.approx((1, 1), abs=0.01)


def test_iterations_end_at_the_most_allowed():
    assert solve(0.0, Toy(most=5))["iterations"] == 5


def test_first_iteration_by_hand():
    """xi = 0 at (2, -2): dL_val/da = w - 2 = -4, a = 2.04; dL_train/dw = 2 (w - a) = -8.08, w = -1.9192."""
    assert solve(0.0, Toy(most=1))["final"] == pytest.approx((2.04, -1.9192), abs=1e-6)


def test_experiment_has_one_run_for_each_xi():
    assert [r["xi"] for r in experiment((0.0, 0.5), Toy(most=2))["runs"]] == [0.0, 0.5]


@pytest.mark.parametrize("make", [lambda: Toy(lr=0), lambda: Toy(most=0), lambda: solve(-0.1)])
def test_impossible_settings_are_refused(make):
    with pytest.raises(OcheError, match="use "):
        make()


@pytest.mark.parametrize("xi", [-0.1, float("nan"), float("inf")])
def test_impossible_look_aheads_are_refused(xi):
    with pytest.raises(OcheError, match=f"xi={xi} would step uphill, or is no number"):
        solve(xi)


@pytest.mark.parametrize("xi", [1e12, 1e20, 1e30])
def test_a_point_that_is_no_longer_finite_ends_it(xi):
    with pytest.raises(
        OcheError, match=r"the point \(a, w\) became \(.*(nan|inf).*\) at iteration \d+; use a smaller xi"
    ):
        solve(xi)
