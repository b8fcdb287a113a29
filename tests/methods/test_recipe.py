"""Search recipes: a length that leaves some stage no step of the architecture is refused."""

from dataclasses import replace

import pytest

import oche
from oche.core.errors import OcheError
from oche.methods.catalog import METHODS
from oche.methods.method import Stage
from oche.methods.recipe import SearchRecipe


def test_epochs_that_are_too_short_on_the_data_are_refused_before_the_run_has_a_directory(tmp_path):
    method = METHODS["p-darts"].make(epochs=3, batch=64)
    method.check_length(1000)  # 7 steps an epoch, of which 4 move the architecture
    replace(method, batch=8).check_length(60)
    words = (
        r"epochs=3 of 1 step .batch=64. with warmup=0.4 leaves stage 1 of 3 no step that .* use epochs >= 5, a shorter"
    )
    with pytest.raises(OcheError, match=words):
        oche.search("digits", method=method, limit=60, out=tmp_path / "x")
    assert not (tmp_path / "x").exists()
    METHODS["pc-darts"].make(epochs=1, budget="1m").check_length(60)  # how many steps that is, nobody knows
    with pytest.raises(OcheError, match="use epochs >= 10000002"):
        SearchRecipe(warmup=1 - 1e-7, epochs=1).check_length(60)


@pytest.mark.parametrize("steps", range(1, 40))
def test_the_number_of_steps_that_is_asked_for_is_the_least_that_moves_every_stage(steps):
    """Against a walk through all steps, in stages of unequal length."""
    stages, warmup = (Stage(share=1.0), Stage(share=2.5), Stage(share=0.7)), 0.45
    method = SearchRecipe(stages=stages, warmup=warmup)
    moved = set()
    for step in range(steps):
        progress = step / steps
        stage = max(i for i in range(3) if progress >= method.method.stage_bounds(i)[0])
        if method.method.stage_progress(stage, progress) >= warmup:
            moved.add(stage)
    if moved == {0, 1, 2}:
        assert replace(method, steps=steps).steps == steps
    else:
        with pytest.raises(OcheError, match=f"steps={steps} with warmup=0.45 leaves stage"):
            replace(method, steps=steps)
