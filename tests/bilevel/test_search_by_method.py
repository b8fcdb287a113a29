"""What makes each method that method, seen in the loop. The parts alone have oracles of their own (test_relaxations.py …)."""

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

import oche
from oche.bilevel.search import Search
from oche.core.optimizers import Adam
from oche.devices.engine import Engine
from oche.kernels.choose import plain_form
from oche.methods.catalog import METHODS
from oche.methods.discretize import GreedyEdge, KeepOps, LimitSkips, Perturbation, TopK
from oche.methods.hypergradients import FiniteDifference, SgdStep, exact
from oche.methods.method import Stage
from oche.methods.perturbations import Adversarial
from oche.methods.recipe import SearchRecipe
from oche.methods.regularizers import BetaDecay, ZeroOne
from oche.methods.relaxations import Sigmoid
from oche.methods.stochastic_relaxations import Concrete, GumbelHard
from oche.spaces.edge_variants import AuxiliaryOperation, SkipDropout
from oche.spaces.mixed_ops import MixedOperation, set_step
from oche.training.losses import frozen_statistics
from small_searches import DOUBLE, LIGHT, finished, small, start
from tiny_images import dataset, space

pytestmark = pytest.mark.slow  # whole searches

PLAIN = Engine("cpu", fused="plain")  # whose modules can be watched
FAST = Adam(lr=0.1, init=0.1)  # logits that tell candidates apart after a few steps


def step(task, number=0, progress=0.0):
    task.begin(0, 0)
    task.step(number, progress)


def flat(tensors):
    return torch.cat([t.flatten() for t in tensors])


# --- warm-up and penalties


@pytest.mark.parametrize("name", ["pc-darts", "p-darts", "drnas-progressive"])
def test_warm_up_moves_weights_alone_in_every_stage(name):
    made = METHODS[name].make(steps=12, batch=6)
    method = replace(made, stages=tuple(replace(s, depth=1.0, width=1.0) for s in made.method.stages))
    task = start(method, small(channels=12))
    moved = {}
    for number in range(12):
        task.begin(number // 2, number % 2)
        task._advance(number / 12)  # a new stage has new logits
        logits, weights = [a.detach().clone() for a in task.logits], [w.detach().clone() for w in task.weights]
        task.step(number, number / 12)
        assert not all(torch.equal(a, b) for a, b in zip(task.weights, weights, strict=True))
        moved.setdefault(task.stage, []).append(not all(map(torch.equal, task.logits, logits)))
    expected = {
        "pc-darts": {0: (4, 8)},
        "p-darts": {i: (2, 2) for i in range(3)},
        "drnas-progressive": {0: (3, 3), 1: (3, 3)},
    }
    assert moved == {stage: [False] * still + [True] * move for stage, (still, move) in expected[name].items()}


def zero_one(a):
    """The gradient of −10 · mean of (sigmoid(a) − 1/2)² over all logits of both cells."""
    s = [1 / (1 + (-x).exp()) for x in a]
    n = sum(x.numel() for x in a)
    return [-10 * 2 * (x - 0.5) * x * (1 - x) / n for x in s]


def beta_decay(a, progress=0.5):
    """The gradient of 25 q · mean over all edges of both cells of log sum exp(a[e])."""
    n = sum(len(x) for x in a)
    return [25 * progress * x.exp() / x.exp().sum(1, keepdim=True) / n for x in a]


@pytest.mark.parametrize(
    ("relax", "penalty", "gradient"),
    [(Sigmoid(), ZeroOne(), zero_one), (None, BetaDecay(), beta_decay)],
    ids=["zero-one", "beta-decay"],
)
def test_a_penalty_adds_its_gradient_and_nothing_else(relax, penalty, gradient):
    method = SearchRecipe(batch=6, arch_optimizer=FAST, **({} if relax is None else {"relax": relax}))
    without, with_ = (start(replace(method, penalty=p), engine=DOUBLE) for p in (None, penalty))
    logits = [a.detach().clone() for a in without.logits]
    for task in (without, with_):
        step(task, 1, 0.5)
    for a, b, g in zip(without.logits, with_.logits, gradient(logits), strict=True):
        torch.testing.assert_close(b.grad - a.grad, g, rtol=1e-9, atol=1e-12)
        assert not torch.equal(a, b)


# --- GDAS, and noise that all evaluations share


def candidate_calls(task):
    """Counts the calls of each candidate: (edge of the network, candidate) → calls, from now on."""
    calls = {}

    def counting(key):
        def count(*_):
            calls[key] = calls.get(key, 0) + 1

        return count

    for e, edge in enumerate(m for m in task.net.modules() if isinstance(m, MixedOperation)):
        for o, op in enumerate(edge.candidates):
            op.register_forward_hook(counting((e, o)))
    return calls


def test_gdas_evaluates_one_candidate_an_edge():
    where = small(candidates=LIGHT[1:])  # "none" is never called
    edges = 2 * len(where.dag)  # of the two cells
    found = []
    for number in range(4):
        task = start(METHODS["gdas"].make(batch=6), where, engine=PLAIN)
        calls = candidate_calls(task)
        step(task, number)
        assert len({e for e, _ in calls}) == len(calls) == edges  # one candidate of each edge, and no other
        assert set(calls.values()) == {2}  # the validation loss and the training loss, under the same noise
        found.append(frozenset(calls))
    assert len(set(found)) == 4  # each step has noise of its own
    task = start(METHODS["darts"].make(batch=6), where, engine=PLAIN)
    calls = candidate_calls(task)
    step(task)
    assert len(calls) == 3 * edges and set(calls.values()) == {2}


class Unshared(Search):
    """A search whose evaluations draw noise each for itself."""

    drawn = 0

    def mixes(self, a, noise, progress):
        type(self).drawn += 1
        return super().mixes(a, self._noise(1000 + self.drawn), progress)


@pytest.mark.parametrize(
    "relax", [Concrete((1.0, 1.0)), GumbelHard((2.0, 2.0)), GumbelHard((2.0, 2.0), "all")], ids=str
)
def test_finite_differences_agree_with_the_exact_gradient_under_shared_noise(relax, monkeypatch):
    monkeypatch.setattr(F, "relu", lambda x, inplace=False: F.softplus(x))  # a smooth network; nn.ReLU calls it too
    errors = {}
    for cls in (Search, Unshared):
        task = start(SearchRecipe(relax=relax, batch=6, arch_optimizer=Adam(init=0.5)), space(), cls=cls, engine=DOUBLE)
        task.begin(0, 0)
        noise = task._noise(0)
        inner, outer = (task._objective(name, 0, noise, 0.0) for name in ("train", "val"))
        ahead = SgdStep(0.1, 0.9, 0.01, [torch.full_like(w, 0.01) for w in task.weights])
        with frozen_statistics(task.net), plain_form(task.net):  # the exact gradient differentiates twice
            got, want = (
                flat(f(inner, outer, task.weights, task.logits, ahead)) for f in (FiniteDifference(1e-3), exact)
            )
        errors[cls] = ((got - want).norm() / want.norm()).item()
    assert errors[Search] < 1e-3 and errors[Unshared] > 0.1


# --- P-DARTS


class Stages(Search):
    """Keeps what each stage began with, and the logits with which the one before it had ended."""

    def _build(self, stage):
        ended = [a.detach().clone() for a in self.logits] if stage else None
        super()._build(stage)
        self.__dict__.setdefault("began", []).append(
            (self.alive, ended, len(self.net.cells), [a.detach().clone() for a in self.logits])
        )


def test_p_darts_narrows_its_masks_deepens_and_limits_skips():
    where = oche.spaces.darts(channels=2, cells=3, nodes=2, classes=3, in_channels=1, image=(8, 8))
    made = METHODS["p-darts"].make(steps=6, batch=4, arch_optimizer=FAST)
    method = replace(made, stages=tuple(replace(s, depth=1 + i / 3) for i, s in enumerate(made.method.stages)))
    task = start(method, where, cls=Stages)
    finished(task)
    assert [[int(n) for n in alive["normal"].sum(1)] for alive, *_ in task.began] == [[k] * 5 for k in (8, 5, 3)]
    assert [cells for *_, cells, _ in task.began] == [3, 4, 5]
    before = {name: torch.ones(5, 8, dtype=torch.bool) for name in where.groups}
    for (alive, ended, _, fresh), n in zip(task.began[1:], (5, 3), strict=True):
        for name, logits, new in zip(alive, ended, fresh, strict=True):
            kept = logits.masked_fill(~before[name], -torch.inf).topk(n).indices
            assert torch.equal(alive[name], torch.zeros_like(alive[name]).scatter(1, kept, True))
            assert not torch.equal(new, logits)  # of the stage before only the mask remains
        before = alive
    skip = where.candidates.index("skip_connect")
    with torch.no_grad():
        task.alive = {name: torch.ones_like(alive) for name, alive in task.alive.items()}
        for logits in task.logits:
            logits[:, skip] = 3 + torch.arange(5.0)
    cells = task.genotype().cells
    assert [sum(op == "skip_connect" for op, *_ in cells[k].edges) for k in ("normal", "reduce")] == [2, 4]
    assert len(cells["normal"].edges) == 4 and method.method.select == LimitSkips(2)


def test_p_darts_stages_at_published_size():
    made = METHODS["p-darts"].make()
    where = oche.spaces.darts()
    assert [s.of(where).cells for s in made.method.stages] == [5, 11, 17]
    assert [s.edge for s in made.method.stages] == [SkipDropout(0.0), SkipDropout(0.4), SkipDropout(0.7)]
    assert [s.finish for s in made.method.stages] == [KeepOps(5), KeepOps(3), None]
    stages = METHODS["drnas-progressive"].make().method.stages
    assert [(s.of(where).cells, s.of(where).channels, s.edge.k) for s in stages] == [(20, 36, 6), (20, 36, 4)]


# --- SGAS

SEEN = []
TASK = []


@dataclass(frozen=True)
class Watched(GreedyEdge):
    """Remembers what it saw and what it left."""

    def __call__(self, view):
        alive = super().__call__(view)
        logits = dict(zip(TASK[0].groups, TASK[0].logits, strict=True))[view.group]
        SEEN.append((view, alive, logits.detach().double().softmax(1).tolist()))
        return alive


def sgas_scores(weights, over):
    """Criterion 1 of the edges ``over``, spelled out: importance and certainty, each scaled over these edges."""
    importance, certainty = {}, {}
    for e in over:
        row = weights[e][1:]
        p = [w / sum(row) for w in row]
        importance[e] = sum(row)
        certainty[e] = 1 + sum(x * math.log(x) for x in p) / math.log(len(row))

    def scaled(values):
        low, high = min(values.values()), max(values.values())
        return {e: (v - low) / (high - low) if high > low else 0.0 for e, v in values.items()}

    i, c = scaled(importance), scaled(certainty)
    return {e: i[e] * c[e] for e in over}, {e: importance[e] * certainty[e] for e in over}


def activations(task):
    """Bytes that a step's loss keeps for its backward pass, for one batch of images."""
    images, labels = task.feed.probe_batch(0, 6)
    total = 0

    def pack(tensor):
        nonlocal total
        total += tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t), frozen_statistics(task.net):
        task._loss(images, labels, dict.fromkeys(task.groups), 1.0)(task.weights, task.logits)
    return total


class Weighed(Search):
    """Notes after each epoch the size of a batch and what a step keeps in memory."""

    def report(self, progress):
        self.__dict__.setdefault("notes", [(self.batch, activations(self))])
        record = super().report(progress)
        self.notes.append((self.batch, activations(self)))
        return record


@pytest.mark.parametrize("scale", ["all", "open"])
def test_sgas_settles_edges_in_the_order_of_their_scores_as_batches_grow_and_memory_falls(scale):
    SEEN.clear()
    method = METHODS["sgas-1"].make(
        batch=2, batch_growth=1, epochs=10, arch_optimizer=FAST, decide=Watched(start=0.2, every=0.2, scale=scale)
    )
    task = start(method, small(), cls=Weighed, engine=PLAIN)
    TASK[:] = [task]
    finished(task)
    TASK.clear()
    settled = []
    for view, alive, weights in SEEN:
        if view.group != "normal":
            continue
        new = [e for e in range(5) if alive[e].sum() == 1 and view.alive[e].sum() > 1]
        open_ = [e for e in range(5) if view.alive[e].sum() > 1]
        due = round(10 * view.progress) in (2, 4, 6, 8)
        assert len(new) == due and due <= bool(open_)
        for e in new:
            # Logits of decided edges still count where scores are scaled over all edges.
            scores, raw = sgas_scores(weights, range(5) if scale == "all" else open_)
            assert e == max(open_, key=lambda e: (scores[e], raw[e]))
            assert alive[e].nonzero().item() == 1 + max(range(3), key=lambda o: weights[e][1 + o])
        settled += new
    assert len(settled) == 4 and all(
        sum(task.groups["normal"].edges[e][1] == node for e in settled) == 2 for node in (2, 3)
    )
    batches, kept = zip(*task.notes, strict=True)
    assert list(batches) == [2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 6]
    falls = [b < a for a, b in pairwise(kept)]
    assert falls == [i in (2, 4, 6, 8) for i in range(1, 11)] and kept[-1] < 0.6 * kept[0]
    assert {len(cell.edges) for cell in task.genotype().cells.values()} == {4}


# --- SDARTS


@dataclass(frozen=True)
class Observed(Adversarial):
    """Checks that the perturbation is at least as bad, and that making it moves nothing."""

    def __call__(self, objective, mixes, progress, generator):
        task = TASK[0]
        state = {k: v.clone() for k, v in task.net.state_dict().items()}
        found = super().__call__(objective, mixes, progress, generator)
        assert all(torch.equal(v, state[k]) for k, v in task.net.state_dict().items())
        with torch.no_grad():
            SEEN.append((objective(mixes).item(), objective(found).item(), [a.detach().clone() for a in task.logits]))
        return found


def test_sdarts_adv_trains_weights_where_the_loss_is_worse_and_leaves_alpha():
    SEEN.clear()
    task = start(METHODS["sdarts-adv"].make(batch=6, perturb=Observed((0.3, 0.3), steps=2)), engine=DOUBLE)
    TASK[:] = [task]
    task.begin(0, 0)
    for number in range(2):
        before = task.meters["train"].sums.clone()
        task.step(number, number / 2)
        plain, perturbed, alpha = SEEN[-1]
        loss = ((task.meters["train"].sums - before)[0] / 6).item()
        assert perturbed > plain and loss == pytest.approx(perturbed, rel=1e-12)
        assert all(map(torch.equal, task.logits, alpha))  # the weight step that followed did not move them
    TASK.clear()


# --- DARTS-PT


@dataclass(frozen=True)
class Asked(Perturbation):
    """Remembers its first questions and answers, what it decided, and how often it had weights tuned."""

    def __call__(self, view):
        asked, tuned = [], []

        def evaluate(mask):
            asked.append((mask.clone(), view.evaluate(mask), len(tuned)))
            return asked[-1][1]

        def tune(mask):
            tuned.append(mask)
            view.tune(mask)

        SEEN.append((view, asked, tuned))
        return super().__call__(replace(view, evaluate=evaluate, tune=tune))


def accuracy(task, masks):
    """Share of right answers on the validation half of the supernet whose logits outside ``masks`` are minus infinity."""
    val = task.feed.val
    images, labels = next(iter(val.walk(torch.arange(len(val)), len(val))))
    x = (images.float() / 255 - 0.3) / 0.25
    mixes = {}
    for name, logits in zip(task.groups, task.logits, strict=True):
        ops = logits.detach().masked_fill(~masks[name], -1e30).softmax(1) * masks[name].any(1, keepdim=True)
        mixes[name] = oche.core.architecture.Mix(ops, None, oche.core.architecture.alive_candidates(masks[name]))
    with torch.no_grad(), frozen_statistics(task.net):
        return (task.net(x, mixes).argmax(1) == labels).double().mean().item()


def test_darts_pt_keeps_what_costs_most_accuracy_when_it_goes():
    SEEN.clear()
    task = start(METHODS["darts-pt"].make(batch=12, steps=12, arch_optimizer=FAST, select=Asked()), data=dataset(96))
    finished(task)
    rounds = []
    task._step_weights = lambda *args, real=task._step_weights: (rounds.append(1), real(*args))
    full = dict(task.alive)
    states = {k: v.clone() for k, v in task.net.state_dict().items()}
    logits = {name: a.detach().clone() for name, a in zip(task.groups, task.logits, strict=True)}
    genotype = task.conclude()
    assert not any(torch.equal(a, logits[name]) for name, a in zip(task.groups, task.logits, strict=True))
    task._set_logits(logits)  # they moved while weights were tuned
    view, asked, tuned = SEEN[0]
    first = [(mask, found) for mask, found, round_ in asked if round_ == 0]
    assert view.group == "normal" and len(first) == 3
    task.net.load_state_dict(states)
    for mask, found in first:
        assert (full["normal"] & ~mask).sum() == 1
        assert found == pytest.approx(accuracy(task, {**full, "normal": mask}), abs=1e-9)
    gone = [(full["normal"] & ~mask).nonzero()[0].tolist() for mask, _ in first]
    worst = min(range(3), key=lambda i: first[i][1])
    assert len({found for _, found in first}) > 1  # otherwise the ranking would prove nothing
    edge, kept = gone[worst]
    assert {e for e, _ in gone} == {edge} and tuned[0][edge].nonzero().flatten().tolist() == [kept]
    # 5 edges and the one node of three inputs that has edges to lose, twice; a tenth of 12 steps each
    assert len(tuned) == 6 and len(rounds) == 2 * 6 * round(0.1 * 12)
    assert all(len(cell.edges) == 4 for cell in genotype.cells.values())


@pytest.mark.parametrize("logits", [True, False])
@pytest.mark.parametrize("restart", [True, False])
def test_tuning_trains_what_the_selection_says(logits, restart):
    task = start(METHODS["darts-pt"].make(batch=12, steps=4, arch_optimizer=FAST, finetune_share=0.5), data=dataset(48))
    finished(task)
    momentum = task.w_opt.state[task.weights[0]]["momentum_buffer"].clone()
    task.begin_tuning(logits, restart)
    kept = task.w_opt.state.get(task.weights[0], {}).get("momentum_buffer")
    assert kept is None if restart else torch.equal(kept, momentum)
    before, weight = [a.detach().clone() for a in task.logits], task.weights[0].detach().clone()
    alive = task.alive["normal"].clone()
    alive[0] = False
    alive[0, 2] = True
    task.view("normal").tune(alive)
    assert not torch.equal(task.weights[0], weight) and torch.equal(task.alive["normal"], alive)
    for old, new in zip(before, task.logits, strict=True):
        assert torch.equal(old, new) != logits
    if logits:  # the decided edge has one candidate, whose weight is 1 whatever its logit
        assert task.logits[0].grad[0].abs().max() == 0 and task.logits[0].grad[1:, 1:].abs().min() > 0
    assert task.w_opt.param_groups[0]["lr"] == pytest.approx(0.025 / 10)


def test_a_search_may_leave_none_out():
    tasks = {none: start(METHODS["beta-darts"].make(batch=6, none=none)) for none in ("in-cells", "always")}
    for none, task in tasks.items():
        mix = task.settled()["normal"]
        assert (mix.ops[:, 0] > 0).all() == (none == "always")
        assert {len(on) for on in mix.active} == ({3} if none == "in-cells" else {4})
        torch.testing.assert_close(mix.ops.sum(1), torch.ones(5))
        step(task)
        assert all(a.isfinite().all() for a in task.logits)


# --- DARTS-


def test_the_auxiliary_skip_fades_out_in_the_search_and_is_no_part_of_the_cell():
    task = start(METHODS["darts-minus"].make(batch=6, steps=4, arch_optimizer=FAST))
    aux = [m for m in task.net.modules() if isinstance(m, AuxiliaryOperation)]
    x, weights = torch.randn(2, 2, 8, 8), torch.tensor([0.1, 0.2, 0.3, 0.4])
    for number in range(4):
        task.begin(number // 2, number % 2)
        task.step(number, number / 4)
        extra = [(m(x, weights, (1, 2, 3)) - m.inner(x, weights, (1, 2, 3))) / x for m in aux[:5]]  # stride 1: x itself
        for part in extra:
            torch.testing.assert_close(part, torch.full_like(part, 1 - number / 4), rtol=1e-3, atol=1e-3)
    set_step(task.net, 1.0, None)
    called = []
    for i, m in enumerate(aux):
        m.skip.register_forward_hook(lambda *_: called.append(1))
        x = torch.randn(2, 2 if i < 5 else 4, 8, 8)  # the normal cell, then the reduction cell of twice the width
        with frozen_statistics(m):
            assert torch.equal(m(x, weights, (1, 2, 3)), m.inner(x, weights, (1, 2, 3)))
    assert not called and len(aux) == 10
    genotype = task.conclude()
    assert all(
        len(cell.edges) == 4 and {op for op, *_ in cell.edges} <= set(LIGHT[1:]) for cell in genotype.cells.values()
    )
    net = oche.build(genotype, classes=3, channels=2, cells=2, reductions=(1,), in_channels=1)
    assert not any(isinstance(m, AuxiliaryOperation) for m in net.modules())


# --- GAEA and DrNAS


def test_gaea_moves_on_the_simplices_by_the_exponentiated_gradient():
    task = start(METHODS["gaea"].make(batch=6), engine=DOUBLE)
    before = [a.detach().clone() for a in task.logits]
    assert all((a == 0).all() for a in before)  # uniform weights
    step(task)
    for a, old in zip(task.logits, before, strict=True):
        theta = old.softmax(1)
        moved = theta * (-0.1 * a.grad / theta).exp()
        torch.testing.assert_close(a.detach().softmax(1), moved / moved.sum(1, keepdim=True), rtol=1e-9, atol=0)
        assert not torch.equal(a, old)


def test_drnas_draws_a_mixture_a_step_and_decides_on_its_mean():
    task = start(METHODS["drnas"].make(batch=6, none="always"), engine=DOUBLE)
    first, again, other = (task.mixes(task.logits, task._noise(n), 0.0)["normal"].ops for n in (0, 0, 1))
    assert torch.equal(first, again) and (first - other).abs().max() > 0.01
    torch.testing.assert_close(first.sum(1), torch.ones(5, dtype=torch.float64))
    with torch.no_grad():
        task.logits[0][:] = torch.tensor([0.0, 1.0, -1.0, 2.0])
    mean = torch.tensor([1.0, 2.0, math.exp(-1), 3.0], dtype=torch.float64)
    torch.testing.assert_close(task.settled()["normal"].ops[0], mean / mean.sum())


def test_stages_without_a_decision_keep_everything_alive():
    task = start(SearchRecipe(steps=4, batch=6, stages=(Stage(), Stage()), select=TopK()), cls=Stages)
    finished(task)
    assert all(alive["normal"].all() and alive["reduce"].all() for alive, *_ in task.began) and len(task.began) == 2
