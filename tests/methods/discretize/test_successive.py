"""Baselines that share the supernet, piece by piece: what stands still, what is drawn, and searches against naive ones."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch

from decision_views import NAMES, Court, random_view, view
from oche import methods
from oche.bilevel.search import Search
from oche.core.architecture import Dag, alive_candidates, all_alive
from oche.core.errors import OcheError
from oche.core.seeds import generator
from oche.devices.engine import Engine
from oche.methods.discretize import Evolution, KeepOps, Perturbation, SampleBest, TopK, View
from oche.methods.discretize.successive import architecture_key, mutate, random_cell
from oche.methods.hypergradients import SgdStep, first_order, fixed
from oche.methods.method import Stage
from oche.methods.recipe import SearchRecipe
from oche.methods.relaxations import Softmax
from oche.methods.stochastic_relaxations import UniformPath
from oche.spaces import nb201
from oche.training.evaluate import evaluate
from oche.training.loop import Session, fit_loop
from tiny_images import dataset, space

CONV = Dag()  # 14 edges, 2 kept for each node
BENCH = Dag(nodes=3, inputs=1, keep=3, none=True)  # 6 edges, all kept


def path(dag, alive, seed, a=None):
    noise = UniformPath().noise(dag, alive.shape[1], torch.Generator().manual_seed(seed))
    a = torch.zeros(alive.shape) if a is None else a
    return UniformPath()(a, alive, dag, noise, 0.3)


# --- logits that stand still ------------------------------------------------------------------------------------------


def test_fixed_is_zero_and_asks_for_no_loss():
    def never(w, a):
        raise AssertionError("a loss was evaluated")

    a = (torch.ones(2, 3), torch.ones(1))
    found = fixed(never, never, (torch.ones(4),), a, SgdStep(0.1))
    assert [tuple(t.shape) for t in found] == [(2, 3), (1,)] and not any(t.any() for t in found)
    assert not fixed.moves and first_order.moves


def test_a_fixed_search_trains_weights_alone_and_shows_nothing_before_its_end():
    method = methods.random_ws(steps=4, batch=6, select=SampleBest(count=3))
    task = Search(space(), method, dataset(), seed=0, engine=Engine("cpu"))
    weights = [w.detach().clone() for w in task.weights]
    logits = [a.detach().clone() for a in task.logits]
    drawn = []
    kept = task.feed.next_batch
    task.feed.next_batch = lambda name, step: drawn.append(name) or kept(name, step)
    session = Session()
    fit_loop(task, method.length, session)
    assert drawn == ["train"] * 4
    assert all(torch.equal(a, b) for a, b in zip(logits, task.logits, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights, task.weights, strict=True))
    assert not any({"genotype", "skip_share", "val_acc"} & record.keys() for record in session.history)
    assert all(record["arch"] for record in session.history)


def test_what_cannot_go_with_it_is_refused():
    with pytest.raises(
        OcheError,
        match=r"TopK reads cells off logits that Fixed leaves where they start; use a selection that evaluates",
    ):
        SearchRecipe(hypergrad=fixed)
    assert SearchRecipe(hypergrad=fixed, select=Perturbation()).method.select.asks_supernet
    with pytest.raises(
        OcheError, match=r"SampleBest evaluates the trained supernet, once and at the end; use it as select="
    ):
        SearchRecipe(decide=SampleBest())
    with pytest.raises(OcheError, match="Evolution evaluates"):
        SearchRecipe(stages=(Stage(finish=Evolution()), Stage()))
    SearchRecipe(stages=(Stage(finish=KeepOps()), Stage()))
    bare = View(
        "normal", CONV, NAMES, all_alive(CONV, 4), Softmax()(torch.zeros(14, 4), all_alive(CONV, 4), CONV, None, 1), 1
    )
    with pytest.raises(OcheError, match="Evolution compares whole architectures"):
        Evolution()(bare)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: SampleBest(count=0), "count=0 leaves nothing"),
        (lambda: SampleBest(images=0), "images=0, finalists=10 evaluate nothing"),
        (lambda: Evolution(finalists=0), "finalists=0 evaluate nothing"),
        (lambda: Evolution(population=20, cycles=10), "population=20, sample=25, cycles=10 cannot evolve"),
    ],
)
def test_impossible_settings_are_refused(make, says):
    with pytest.raises(OcheError, match=says):
        make()


# --- one path a step --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dag", [CONV, BENCH])
def test_a_path_is_one_architecture_with_weight_one(dag):
    alive = all_alive(dag, 4)
    for seed in range(30):
        a = torch.randn(len(dag), 4, dtype=[torch.float32, torch.float64][seed % 2])
        mix = path(dag, alive, seed, a)
        assert mix.edges is None and mix.ops.dtype is a.dtype and set(mix.ops.unique().tolist()) <= {0.0, 1.0}
        assert mix.active == tuple(tuple(row.nonzero().flatten().tolist()) for row in mix.ops)
        for incoming in dag.incoming:
            assert sorted(map(len, (mix.active[e] for e in incoming)))[-dag.keep :] == [1] * min(
                dag.keep, len(incoming)
            )
            assert sum(len(mix.active[e]) for e in incoming) == min(dag.keep, len(incoming))
    assert torch.equal(path(dag, alive, 3).ops, path(dag, alive, 3).ops)
    assert not torch.equal(path(dag, alive, 3).ops, path(dag, alive, 4).ops)


def test_a_path_is_drawn_on_the_host_and_lies_where_the_logits_do():
    """The device "meta" computes nothing, but refuses to mix devices as a GPU does."""
    mix = path(BENCH, all_alive(BENCH, 4), 1, torch.zeros(6, 4, device="meta"))
    assert mix.ops.device.type == "meta" and mix.active == path(BENCH, all_alive(BENCH, 4), 1).active


def test_paths_are_uniform():
    """Node 2 of the convolutional cell takes 2 of 3 edges and 4 candidates on each: 3 · 16 equally likely choices."""
    n, seen = 4800, Counter()
    for seed in range(n):
        mix = path(Dag(nodes=2), all_alive(Dag(nodes=2), 4), seed)
        seen[tuple(mix.active[2:])] += 1
    assert len(seen) == 48
    assert sum((count - n / 48) ** 2 / (n / 48) for count in seen.values()) < 47 + 4 * math.sqrt(2 * 47)


def test_paths_keep_to_what_is_alive():
    alive = all_alive(CONV, 4)
    alive[:, 1] = False
    alive[3] = False
    alive[5:8] = False
    alive[8] = torch.tensor([False, False, False, True])
    for seed in range(40):
        mix = path(CONV, alive, seed)
        assert not (mix.ops.bool() & ~alive).any()
        assert [sum(len(mix.active[e]) for e in incoming) for incoming in CONV.incoming] == [2, 2, 1, 2]


def test_without_noise_it_is_the_uniform_mixture():
    alive = all_alive(BENCH, 5)
    alive[2, 1:4] = False
    ops = UniformPath()(torch.randn(6, 5), alive, BENCH, None, 1.0).ops
    assert torch.equal(ops, alive / alive.sum(1, keepdim=True))


def test_only_the_path_is_evaluated():
    s = nb201(channels=2, cells=1, classes=3, image=(8, 8))
    net, calls = s.supernet(), Counter()
    for edge in net.cells[0].edges:
        for o, candidate in enumerate(edge.candidates):
            candidate.register_forward_hook(lambda *_, o=o: calls.update([o]))
    mix = path(s.dag, all_alive(s.dag, 5), 1)
    net(torch.randn(2, 3, 8, 8), {"cell": mix})
    assert calls == Counter(o for row in mix.active for o in row if o != 0)  # "none" adds nothing, so it does not run


# --- drawing and changing architectures -------------------------------------------------------------------------------


def views(dag=CONV, names=NAMES, groups=("normal", "reduce"), alive=None, seed=0):
    alive = all_alive(dag, len(names)) if alive is None else alive
    mix = Softmax()(torch.zeros(alive.shape), alive, dag, None, 1.0)
    g = torch.Generator().manual_seed(seed)
    return {group: View(group, dag, names, alive, mix, 1.0, generator=g) for group in groups}


class Table:
    """A court whose accuracy is a sum over what an architecture consists of; on few images it is another one."""

    def __init__(self, seed=0, dag=CONV, names=NAMES, groups=("normal", "reduce")):
        g = torch.Generator().manual_seed(100 + seed)
        self.groups = dict.fromkeys(groups, dag)
        self.views = views(dag, names, groups, seed=seed)
        self.worth = {name: torch.rand(len(dag), len(names), generator=g).double() for name in groups}
        self.noise = {name: torch.rand(len(dag), len(names), generator=g).double() for name in groups}
        self.asked, self.settled = [], {}

    def view(self, group):
        return self.views[group]

    def random(self, generator):
        return {name: random_cell(view.usable, view.dag, generator) for name, view in self.views.items()}

    def narrow(self, group, alive):
        self.settled[group] = alive

    def value(self, masks, images=None):
        extra = 0.0 if images is None else sum(float((self.noise[k] * m).sum()) for k, m in masks.items()) / images
        return sum(float((self.worth[k] * m).sum()) for k, m in masks.items()) + extra

    def accuracy(self, alive, images=None):
        self.asked.append((architecture_key(alive), images))
        return self.value(alive, images)

    def best(self):
        """For each node the `keep` edges whose best candidate is worth most."""
        total = 0.0
        for name, seen in self.views.items():
            worth = self.worth[name].masked_fill(~seen.usable, -math.inf).amax(1)
            total += sum(sum(sorted(worth[list(e)].tolist())[-seen.dag.keep :]) for e in seen.dag.incoming)
        return total


def test_drawn_cells_are_cells_and_uniform():
    dag, usable = Dag(nodes=2), views(Dag(nodes=2))["normal"].usable
    g, seen = torch.Generator().manual_seed(0), Counter()
    for _ in range(2700):
        mask = random_cell(usable, dag, g)
        assert not (mask & ~usable).any() and [mask[list(e)].sum().item() for e in dag.incoming] == [2, 2]
        seen[tuple(mask[2:].flatten().tolist())] += 1
    assert len(seen) == 27  # 3 pairs of edges, 3 candidates on each ("none" is none)
    assert sum((count - 100) ** 2 / 100 for count in seen.values()) < 26 + 4 * math.sqrt(2 * 26)


def neighbours(cell, usable, dag):
    """All cells that differ in one candidate, or in one source, spelled out."""
    found = set()
    chosen = {e: int(cell[e].nonzero()[0]) for e in range(len(dag)) if cell[e].any()}
    for e, o in chosen.items():
        for p in range(usable.shape[1]):
            if usable[e, p] and p != o:
                found.add(frozenset({**chosen, e: p}.items()))
        for f in range(len(dag)):
            if dag.edges[f][1] == dag.edges[e][1] and f not in chosen:
                rest = {k: v for k, v in chosen.items() if k != e}
                found.add(frozenset({**rest, f: o}.items()))
    return found


@pytest.mark.parametrize(("dag", "count"), [(Dag(nodes=2), 4 * 2 + 2), (BENCH, 6 * 3)])
def test_mutations_are_the_neighbours_and_nothing_else(dag, count):
    seen = views(dag, groups=("cell",))
    g = torch.Generator().manual_seed(1)
    parent = {"cell": random_cell(seen["cell"].usable, dag, g)}
    before = parent["cell"].clone()
    reached = set()
    for _ in range(60 * count):
        child = mutate(parent, seen, g)["cell"]
        reached.add(frozenset((e, int(child[e].nonzero()[0])) for e in range(len(dag)) if child[e].any()))
    wanted = neighbours(before, seen["cell"].usable, dag)
    assert reached == wanted and len(wanted) == count
    assert torch.equal(parent["cell"], before)


def test_mutations_change_one_cell_and_stay_where_nothing_can_change():
    g, seen = torch.Generator().manual_seed(2), views()
    parent = {name: random_cell(view.usable, CONV, g) for name, view in seen.items()}
    changed = Counter()
    for _ in range(200):
        child = mutate(parent, seen, g)
        different = [name for name in parent if not torch.equal(child[name], parent[name])]
        assert len(different) == 1
        changed.update(different)
    assert min(changed.values()) > 60
    only = torch.zeros(6, 5, dtype=torch.bool)
    only[:, 2] = True
    stuck = views(BENCH, tuple("abcde"), ("cell",), alive=only)
    assert torch.equal(mutate({"cell": only}, stuck, g)["cell"], only)


# --- the searches -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [None, 4])
def test_the_best_sample_is_the_best_sample(images):
    court = Table(3)
    SampleBest(count=40, images=images, finalists=5).conclude(court)
    g, again = torch.Generator().manual_seed(3), Table(3)
    drawn = [again.random(g) for _ in range(40)]
    first = sorted(drawn, key=lambda m: -again.value(m, images))
    winner = first[0] if images is None else max(first[:5], key=again.value)
    assert architecture_key(court.settled) == architecture_key(winner)
    assert [a for a in court.asked if a[1] == images][:40] == [(architecture_key(m), images) for m in drawn]
    assert len(court.asked) == 40 + (5 if images else 0)


def test_an_architecture_that_is_drawn_twice_is_asked_about_once():
    court = Table(dag=Dag(nodes=1, inputs=2, keep=2), names=("none", "skip_connect", "sep"), groups=("cell",))
    SampleBest(count=50, images=None).conclude(court)  # there are four
    assert len(court.asked) == len(set(court.asked)) == 4
    assert court.value(court.settled) == pytest.approx(court.best())


def naive_evolution(court, population, sample, cycles, generator):
    """Algorithm 1 of 1802.01548, a list of all that ever lived and the indices of those alive."""
    history = [court.random(generator) for _ in range(population)]
    while len(history) < cycles:
        alive = range(len(history) - population, len(history))
        rivals = [alive[int(i)] for i in torch.randint(population, (sample,), generator=generator)]
        best = rivals[0]
        for rival in rivals[1:]:
            if court.value(history[rival]) > court.value(history[best]):
                best = rival
        history.append(mutate(history[best], court.views, generator))
    return history


def test_evolution_is_that_of_the_paper():
    court = Table(5)
    Evolution(population=7, sample=3, cycles=60, images=None).conclude(court)
    again = Table(5)
    history = naive_evolution(again, 7, 3, 60, torch.Generator().manual_seed(5))
    assert [asked for asked, _ in court.asked] == list(dict.fromkeys(map(architecture_key, history)))
    assert architecture_key(court.settled) == architecture_key(max(history, key=again.value))


@pytest.mark.parametrize(
    ("dag", "names", "groups"), [(CONV, NAMES, ("normal", "reduce")), (BENCH, tuple("abcde"), ("cell",))]
)
def test_evolution_finds_the_optimum_that_sampling_misses(dag, names, groups):
    evolved, sampled = (Table(1, dag, names, groups) for _ in range(2))
    Evolution(population=20, sample=8, cycles=800, images=None).conclude(evolved)
    SampleBest(count=800, images=None).conclude(sampled)
    reached = evolved.value(evolved.settled)
    assert sampled.value(sampled.settled) < reached
    if dag is BENCH:  # where one change after the other leads to the optimum
        assert reached == pytest.approx(evolved.best())
    assert reached > 0.98 * evolved.best()
    for group, cell in evolved.settled.items():  # no change of one edge is better
        worth = evolved.worth[group]
        options = neighbours(cell, evolved.views[group].usable, dag)
        assert max(sum(float(worth[e, o]) for e, o in option) for option in options) < float((worth * cell).sum())


# --- the supernet as the court ----------------------------------------------------------------------------------------


def test_a_search_answers_on_the_images_asked_for():
    task = Search(space(), methods.random_ws(steps=2, batch=6), dataset(40), seed=1, engine=Engine("cpu"))
    masks = task.random(generator(0, "x"))
    for images in (None, 7, 1000):
        split = task.feed.held_out(images)
        assert len(split) == (7 if images == 7 else 20)
        ones = {name: mask.float() for name, mask in masks.items()}
        mixes = {name: task.settled()[name]._replace(ops=ones[name], active=_rows(masks[name])) for name in masks}
        meter = evaluate(
            task.net, split, task.data, task.engine, forward=lambda x, m=mixes: task.net(x, m), by_batch=True
        )
        assert task.accuracy(masks, images) == meter.means()[1]
    assert torch.equal(task.feed.held_out(7).labels, task.feed.held_out(7).labels)


def _rows(mask):
    return tuple(tuple(row.nonzero().flatten().tolist()) for row in mask)


def mask_of(cell, dag, candidates):
    """(E, O) the narrowed mask that stands for ``cell``."""
    edges = {edge: e for e, edge in enumerate(dag.edges)}
    kept = torch.zeros(len(dag), len(candidates), dtype=torch.bool)
    for op, source, target in cell.edges:
        kept[edges[source, target], candidates.index(op)] = True
    return kept


def test_drawn_architectures_keep_to_the_mask():
    task = Search(space(), methods.random_ws(steps=2, batch=6), dataset(), seed=1, engine=Engine("cpu"))
    cells = task.space.random(generator(0, "y")).cells
    alive = {name: mask_of(cells[name], dag, task.space.candidates) for name, dag in task.groups.items()}
    for name in alive:
        task.narrow(name, alive[name])
    assert architecture_key(task.random(generator(0, "z"))) == architecture_key(alive)


@pytest.mark.parametrize("name", ["random_ws", "one_shot", "evolution_ws"])
def test_recipes(name):
    method = getattr(methods, name)()
    assert method.method.hypergrad == fixed and method.method.select.asks_supernet and method.method.select != TopK()
    assert replace(method, select=Perturbation()).method.hypergrad == fixed
    a = torch.zeros(14, 4) if name == "one_shot" else torch.randn(14, 4)
    assert method.method.arch_optimizer.init == 0 or name != "one_shot"
    ops = method.method.relax(a, all_alive(CONV, 4), CONV, None, 0.0).ops
    torch.testing.assert_close(ops, torch.full((14, 4), 0.25))


@pytest.mark.parametrize(("finalists", "images", "whole"), [(1, 64, 0), (2, 64, 2), (3, 64, 3), (3, None, 0)], ids=str)
def test_finalists_are_tried_on_every_image_where_there_is_a_choice(finalists, images, whole):
    court = Court(generator=torch.Generator().manual_seed(0))
    SampleBest(count=8, images=images, finalists=finalists).conclude(court)
    assert court.asked == [images] * 8 + [None] * whole


def test_what_a_sampling_needs_and_cannot_do_is_said_in_full():
    with pytest.raises(OcheError) as caught:
        SampleBest().conclude(Court())
    assert str(caught.value) == "SampleBest draws architectures, but was given no generator; give View.generator"
    with pytest.raises(OcheError) as caught:
        Evolution()(random_view(0))
    assert str(caught.value) == (
        "Evolution compares whole architectures at the end of a search; use it as select=, not as decide= or the finish of a "
        "stage"
    )


def test_a_candidate_that_its_new_source_has_not_becomes_one_that_it_has():
    """One node, three sources, one kept: with "a", which the other two lack. They have "b", and "b" or "c"."""
    dag, names = Dag(nodes=1, inputs=3, keep=1), ("a", "b", "c")
    alive = torch.tensor([[True, False, False], [False, True, False], [False, True, True]])
    v = view(torch.full((3, 3), 1 / 3), alive, dag=dag, names=names)
    parent, g = (
        {"normal": torch.tensor([[True, False, False], [False] * 3, [False] * 3])},
        torch.Generator().manual_seed(0),
    )
    drawn = [alive_candidates(mutate(parent, {"normal": v}, g)["normal"]) for _ in range(2000)]
    seen = Counter(drawn)
    want = {((), (1,), ()): 1 / 2, ((), (), (1,)): 1 / 4, ((), (), (2,)): 1 / 4}
    assert seen.keys() == want.keys()
    assert all(abs(seen[cell] / 2000 - share) < 0.05 for cell, share in want.items())
    g.manual_seed(0)
    assert [alive_candidates(mutate(parent, {"normal": v}, g)["normal"]) for _ in range(100)] == drawn[:100]
