"""Settings of the mathematics at the ends of what they may be: the last value that is taken, the first that is refused, and
the whole of what is said then."""

from math import inf

import pytest

from oche.core.architecture import Cell, Dag
from oche.core.eigenvalue_stop import EigenvalueStop
from oche.core.errors import OcheError
from oche.core.optimizers import Adam, ExponentiatedGradient, Sgd
from oche.methods.discretize import GreedyEdge, KeepOps, LimitSkips, Threshold
from oche.methods.discretize.successive import Evolution, SampleBest
from oche.methods.hypergradients import FiniteDifference, Neumann
from oche.methods.perturbations import Adversarial, RandomNoise
from oche.methods.regularizers import BetaDecay, Cost, DirichletKL, Sum, ZeroOne
from oche.methods.stochastic_relaxations import Concrete

EDGES = (("a", 0, 2), ("a", 1, 2))

TAKEN = [
    (Dag, dict(nodes=1, inputs=1, keep=1)), (KeepOps, dict(n=1)), (LimitSkips, dict(most=0)), (Threshold, dict(at=0.0)),
    (Threshold, dict(at=1.0)), (GreedyEdge, dict(start=0.0)), (GreedyEdge, dict(start=1.0)),
    (GreedyEdge, dict(every=1.0)),
    (GreedyEdge, dict(every=1e-9)), (GreedyEdge, dict(window=1)), (SampleBest, dict(count=1)),
    (SampleBest, dict(images=1)),
    (SampleBest, dict(images=None)), (SampleBest, dict(finalists=1)),
    (Evolution, dict(population=1, sample=1, cycles=1)),
    (Evolution, dict(population=5, cycles=5)), (EigenvalueStop, dict(k=1)), (EigenvalueStop, dict(window=1)),
    (EigenvalueStop, dict(start=0)), (EigenvalueStop, dict(ratio=1e-9)), (EigenvalueStop, dict(ratio=1 - 1e-9)),
    (FiniteDifference, dict(epsilon=1e-300)), (Neumann, dict(terms=0)), (Neumann, dict(scale=1e-300)),
    (Neumann, dict(scale=None)),
    (Adversarial, dict(steps=1)), (RandomNoise, dict(eps=(0.0, 0.0))), (Cell, dict(edges=EDGES, concat=(2,))),
    (ZeroOne, dict(weight=0.0)), (DirichletKL, dict(weight=0.0)), (BetaDecay, dict(weight=(0.0, 0.0))),
    (Cost, dict(costs=(-1e308,), weight=0.0)), (Sum, dict(parts=(ZeroOne(),))), (Concrete, dict(tau=(1e-300, 1e300))),
    (Sgd, dict(lr=0.1, lr_min=0.1)), (Sgd, dict(momentum=0.0, decay=0.0, clip=0.0)),
    (Sgd, dict(nesterov=True, momentum=1e-9)),
    (Adam, dict(betas=(0.0, 0.0), decay=0.0, init=0.0)), (Adam, dict(lr=1e-300)),
    (ExponentiatedGradient, dict(lr=1e-300, decay=0.0, floor=0.0, init=0.0)),
    (ExponentiatedGradient, dict(floor=1 - 1e-9)),
]  # fmt: skip
GREEDY = " must be shares of a search; use 0 <= start <= 1 and 0 < every <= 1, published: 0.18 and 0.1"
STOP = " compare no epochs; use k >= 1, an odd window >= 1 and start >= 0, published: 5 and 5"
FALL = " is no fall; use 0 < ratio < 1, published: 0.75"
TRY = " evaluate nothing; use images >= 1 or None, finalists >= 1"
EVOLVE = " cannot evolve; use population >= 1, sample >= 1, cycles >= population"
WEIGHT = " cannot be the weight of a candidate; use 0 <= at <= 1, published: 0.85"
ENDS = " is not a schedule; write its value at the start and at the end, both "
PRICES = " must be finite numbers; write one for each candidate"
TRAIN = " cannot train; use 0 <= momentum < 1, decay >= 0, clip >= 0"
REFUSED = [
    (Dag, dict(nodes=0), "a cell needs at least one node and one input; nodes=0, inputs=2"),
    (Dag, dict(inputs=0), "a cell needs at least one node and one input; nodes=4, inputs=0"),
    (Dag, dict(keep=0), "keep=0 would leave nodes without input; use keep >= 1"),
    (KeepOps, dict(n=0), "KeepOps: n=0 would leave edges without candidates; use n >= 1"),
    (LimitSkips, dict(most=-1), "LimitSkips: most=-1 cannot be a number of skip connections; use most >= 0, published: 2"),
    (Threshold, dict(at=-1e-9), f"Threshold: at=-1e-09{WEIGHT}"),
    (Threshold, dict(at=1.5), f"Threshold: at=1.5{WEIGHT}"),
    (GreedyEdge, dict(criterion=3), "GreedyEdge: criterion=3 does not exist in SGAS; use 1 or 2"),
    (GreedyEdge, dict(criterion=0), "GreedyEdge: criterion=0 does not exist in SGAS; use 1 or 2"),
    (GreedyEdge, dict(start=-0.1), f"GreedyEdge: start=-0.1, every=0.1{GREEDY}"),
    (GreedyEdge, dict(start=1.5), f"GreedyEdge: start=1.5, every=0.1{GREEDY}"),
    (GreedyEdge, dict(every=0.0), f"GreedyEdge: start=0.18, every=0.0{GREEDY}"),
    (GreedyEdge, dict(every=1.5), f"GreedyEdge: start=0.18, every=1.5{GREEDY}"),
    (GreedyEdge, dict(window=0), "GreedyEdge: window=0 leaves no epoch to compare with; use window >= 1, published: 4"),
    (SampleBest, dict(count=0), "SampleBest: count=0 leaves nothing to choose from; use count >= 1"),
    (SampleBest, dict(images=0), f"SampleBest: images=0, finalists=10{TRY}"),
    (SampleBest, dict(finalists=0), f"SampleBest: images=640, finalists=0{TRY}"),
    (Evolution, dict(images=0), f"Evolution: images=0, finalists=10{TRY}"),
    (Evolution, dict(population=0), f"Evolution: population=0, sample={Evolution().sample}, cycles={Evolution().cycles}{EVOLVE}"),
    (Evolution, dict(sample=0), f"Evolution: population={Evolution().population}, sample=0, cycles={Evolution().cycles}{EVOLVE}"),
    (Evolution, dict(population=5, cycles=4), f"Evolution: population=5, sample={Evolution().sample}, cycles=4{EVOLVE}"),
    (EigenvalueStop, dict(ratio=0.0), f"EigenvalueStop: ratio=0.0{FALL}"),
    (EigenvalueStop, dict(ratio=1.0), f"EigenvalueStop: ratio=1.0{FALL}"),
    (EigenvalueStop, dict(k=0), f"EigenvalueStop: k=0, window=5, start=10{STOP}"),
    (EigenvalueStop, dict(window=4), f"EigenvalueStop: k=5, window=4, start=10{STOP}"),
    (EigenvalueStop, dict(window=-1), f"EigenvalueStop: k=5, window=-1, start=10{STOP}"),
    (EigenvalueStop, dict(start=-1), f"EigenvalueStop: k=5, window=5, start=-1{STOP}"),
    (FiniteDifference, dict(epsilon=0.0), "epsilon=0.0 gives no finite difference; use epsilon > 0, published: 0.01"),
    (Neumann, dict(terms=-1), "terms=-1, scale=None cannot form a Neumann series; use terms >= 0 and scale > 0"),
    (Neumann, dict(scale=0.0), "terms=5, scale=0.0 cannot form a Neumann series; use terms >= 0 and scale > 0"),
    (Adversarial, dict(steps=0), "Adversarial: steps=0 takes no step of the ascent; use steps >= 1, published: 7"),
    (RandomNoise, dict(eps=(-0.1, 0.3)), f"eps=(-0.1, 0.3){ENDS}>= 0"),
    (RandomNoise, dict(eps=(0.1, inf)), f"eps=(0.1, inf){ENDS}>= 0"),
    (BetaDecay, dict(weight=(0.0, -1.0)), f"weight=(0.0, -1.0){ENDS}>= 0"),
    (Concrete, dict(tau=(1.0, 0.0)), f"tau=(1.0, 0.0){ENDS}> 0"),
    (ZeroOne, dict(weight=-1.0), "ZeroOne: weight=-1.0 must be a finite number that is not negative; use weight >= 0"),
    (ZeroOne, dict(weight=inf), "ZeroOne: weight=inf must be a finite number that is not negative; use weight >= 0"),
    (DirichletKL, dict(weight=-1.0), "DirichletKL: weight=-1.0 must be a finite number that is not negative; use weight >= 0"),
    (Cost, dict(costs=(1.0,), weight=-1.0), "Cost: weight=-1.0 must be a finite number that is not negative; use weight >= 0"),
    (Cost, dict(costs=()), f"costs=(){PRICES}"),
    (Cost, dict(costs=(0.0, inf)), f"costs=(0.0, inf){PRICES}"),
    (Cost, dict(costs=(-inf, 0.0)), f"costs=(-inf, 0.0){PRICES}"),
    (Sum, dict(parts=()), "a Sum of no penalties penalises nothing; give at least one, or no penalty at all"),
    (Sgd, dict(lr=0.1, lr_min=0.11), "lr=0.1, lr_min=0.11 is not a schedule; use lr > 0 and 0 <= lr_min <= lr"),
    (Sgd, dict(lr=0.0), "lr=0.0, lr_min=0.0 is not a schedule; use lr > 0 and 0 <= lr_min <= lr"),
    (Sgd, dict(momentum=1.0), f"momentum=1.0, decay=0.0003, clip=5.0{TRAIN}"),
    (Sgd, dict(decay=inf), f"momentum=0.9, decay=inf, clip=5.0{TRAIN}"),
    (Sgd, dict(clip=inf), f"momentum=0.9, decay=0.0003, clip=inf{TRAIN}"),
    (Sgd, dict(nesterov=True, momentum=0.0),
     "nesterov looks ahead along the momentum, and momentum=0 has none; use momentum > 0"),
    *((Adam, fields, f"lr={fields.get('lr', 3e-4)}, betas={fields.get('betas', (0.5, 0.999))}, "
       f"decay={fields.get('decay', 1e-3)}, init={fields.get('init', 1e-3)} cannot train; "
       "use lr > 0, 0 <= betas < 1, decay >= 0, init >= 0")
      for fields in (dict(lr=0.0), dict(lr=inf), dict(betas=(0.5, 1.0)), dict(decay=inf), dict(init=inf))),
    *((ExponentiatedGradient, fields, f"lr={fields.get('lr', 0.1)}, decay={fields.get('decay', 0.0)}, "
       f"floor={fields.get('floor', 1e-5)}, init={fields.get('init', 0.0)} cannot train; "
       "use lr > 0, decay >= 0, 0 <= floor < 1, init >= 0")
      for fields in (dict(lr=0.0), dict(lr=inf), dict(decay=inf), dict(floor=1.0), dict(init=inf))),
    (Cell, dict(edges=(), concat=()), "a cell of a genotype has no edges; write at least one ('operation', source)"),
    (Cell, dict(edges=EDGES, concat=()), "concat=[] names nodes that the cell does not compute; use some of [2]"),
    (Cell, dict(edges=EDGES, concat=(1,)), "concat=[1] names nodes that the cell does not compute; use some of [2]"),
    (Cell, dict(edges=EDGES, concat=(3,)), "concat=[3] names nodes that the cell does not compute; use some of [2]"),
    (Cell, dict(edges=(*EDGES, ("b", 3, 3)), concat=(2,)),
     "edge ('b', 3) enters node 3 from node 3, which does not come before it; use one of [0, 1, 2]"),
    (Cell, dict(edges=(*EDGES, ("b", 3, 4)), concat=(2,)),
     "edge ('b', 3) enters node 4 from node 3, which does not come before it; use one of [0, 1, 2]"),
    (Cell, dict(edges=(*EDGES, ("b", -1, 3)), concat=(2,)),
     "edge ('b', -1) enters node 3 from node -1, which does not come before it; use one of [0, 1, 2]"),
]  # fmt: skip


@pytest.mark.parametrize(("cls", "fields"), TAKEN, ids=lambda v: v.__name__ if isinstance(v, type) else str(v))
def test_the_last_value_is_taken(cls, fields):
    made = cls(**fields)
    assert all(getattr(made, name) == value for name, value in fields.items())


@pytest.mark.parametrize(
    ("cls", "fields", "said"), REFUSED, ids=lambda v: v.__name__ if isinstance(v, type) else str(v)[:40]
)
def test_the_first_beyond_is_refused(cls, fields, said):
    with pytest.raises(OcheError) as caught:
        cls(**fields)
    assert str(caught.value) == said
