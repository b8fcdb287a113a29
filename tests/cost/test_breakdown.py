"""The parts of a space: where they stand, and that listing them draws nothing."""

import torch

from cost_cases import SPACES
from oche.cost.breakdown import Place, space_parts
from oche.cost.expected_cost import COUNTS, cost_model


def test_places_by_hand():
    """Four cells N R R N of 4 channels on 9 x 9: the reductions halve upwards and double the width."""
    rows = space_parts(SPACES["darts"]).places
    assert rows["normal"][0] == (Place(4, 1, (9, 9)), Place(16, 1, (3, 3)))
    assert rows["reduce"][0] == (Place(8, 2, (9, 9)), Place(16, 2, (5, 5)))
    inner = SPACES["darts"].dag.edges.index((2, 3))
    assert rows["reduce"][inner] == (Place(8, 1, (5, 5)), Place(16, 1, (3, 3)))


def test_surveys_draw_nothing():
    state = torch.get_rng_state()
    cost_model(SPACES["darts"], COUNTS["flops"])
    assert torch.equal(torch.get_rng_state(), state)
