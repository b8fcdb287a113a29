"""Every method on every kind of space: it runs, resumes to the same bits, follows its seed and gives a cell that can be built.

What only one method does is in test_family_loop.py.
"""

from dataclasses import replace

import pytest
import torch

import oche
from oche.core.blocks import choice_name
from oche.core.errors import OcheError
from oche.core.optimizers import ExponentiatedGradient
from oche.methods.catalog import METHODS
from oche.methods.discretize import GreedyEdge, KeepOps, TopK
from oche.methods.hypergradients import joint
from oche.methods.method import Method, Stage
from oche.methods.perturbations import Adversarial, RandomNoise
from oche.methods.recipe import SearchRecipe
from oche.methods.regularizers import BetaDecay, Cost, DirichletKL, ZeroOne
from oche.methods.relaxations import EdgeNormalised, Sigmoid
from oche.methods.stochastic_relaxations import Dirichlet, GumbelHard
from oche.training.loop import Interrupted, fit_loop
from published_methods import REFUSED as REFUSED_IN_SPACE
from published_methods import SPACES, run, search, shrunk, tiny
from tiny_images import Kept, plain

pytestmark = pytest.mark.slow  # every method on every space


def interrupted(method: Method, space, steps: int):
    """The state of a search that was stopped after ``steps`` steps, as a checkpoint would give it back."""
    session = Kept()
    session.stopping = lambda: len(session.states) >= steps  # each step is saved
    with pytest.raises(Interrupted):
        fit_loop(search(method, space), method.length, session)
    return session.states[-1]


def bits(task) -> list[torch.Tensor]:
    return [*task.net.state_dict().values(), *(a.detach() for a in task.logits), *task.alive.values()]


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(bits(one), bits(other), strict=True))


SIZES = {
    "darts": dict(channels=4, cells=2, reductions=(1,)), "seed": dict(channels=4, cells=2, reductions=(1,)),
    "nb201": dict(channels=4, cells=1), "chain": {},
}  # fmt: skip


@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_on_every_space(name, kind):
    method, space = tiny(name), SPACES[kind]
    if (name, kind) in REFUSED_IN_SPACE:
        with pytest.raises(OcheError, match=REFUSED_IN_SPACE[name, kind]):
            search(method, space)
        return
    whole, session = search(method, space), Kept()
    session.due = lambda: False
    genotype = run(whole, session)

    # The same seed, stopped half-way through an epoch and gone on with in a search made anew.
    again, resumed = search(method, space), Kept(interrupted(method, space, 3))
    resumed.due = lambda: False
    assert run(again, resumed) == genotype
    assert same(whole, again) and plain(resumed.history) == plain(session.history)

    # A cell of the space, from which a network can be built that maps images to logits.
    assert list(genotype.cells) == list(space.groups) and oche.Genotype.parse(str(genotype)) == genotype
    for cell, dag in zip(genotype.cells.values(), space.groups.values(), strict=True):
        searched = [op for op, *edge in cell.edges if tuple(edge) in dag.edges]
        assert all(choice_name(op) in space.candidates for op in searched)
        assert 0 < len(searched) <= dag.keep * dag.nodes and {target for *_, target in cell.edges}
    net = oche.build(genotype, classes=3, in_channels=1, image=8, **SIZES[kind])
    assert net(torch.randn(2, 1, 8, 8)).shape == (2, 3)


# --- what is refused, and why

REFUSED = {
    "pc-darts-channels": (METHODS["pc-darts"].make(), dict(channels=2), "k=4 does not divide; use channels that are a"),
    "pc-darts-one-channel": (
        METHODS["pc-darts"].make(), dict(channels=4, widen="after"), "k=4 leaves cell 1 .reduce. one channel of 4"
    ),
    "drnas-progressive-channels": (METHODS["drnas-progressive"].make(), dict(channels=4), "k=6 does not divide"),
    "darts-minus-without-skip": (
        METHODS["darts-minus"].make(), dict(candidates=("none", "conv_7x1_1x7")), "'skip_connect', which is not among"
    ),
    "p-darts-without-skip": (
        METHODS["p-darts"].make(), dict(candidates=("none", "conv_7x1_1x7"), cells=8, reductions=None), "add it"
    ),
    "p-darts-too-shallow": (
        METHODS["p-darts"].make(), dict(cells=3, reductions=None), "stage 1 of 3 .* has no 'normal' cell; use a space of more"
    ),
    "cost-of-other-candidates": (
        METHODS["snas"].make(penalty=Cost((1.0, 2.0))), {}, "costs has 2 numbers, but the space 4 candidates"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_methods_that_a_space_has_no_room_for_are_refused_before_anything_is_built(case):
    method, fields, words = REFUSED[case]
    with pytest.raises(OcheError, match=words):
        method.check(replace(SPACES["darts"], **fields))


IMPOSSIBLE = {
    "sigmoid-eg": (
        dict(relax=Sigmoid(), arch_optimizer=ExponentiatedGradient()),
        "the weights of Sigmoid lie on no simplex; use arch_optimizer=Adam",
    ),
    "dirichlet-eg": (
        dict(relax=Dirichlet(), arch_optimizer=ExponentiatedGradient()),
        "the weights of Dirichlet lie on no simplex",
    ),
    "zero-one-softmax": (dict(penalty=ZeroOne()), "ZeroOne is about the weights of Sigmoid, not of Softmax; use relax"),
    "kl-softmax": (dict(penalty=BetaDecay() + DirichletKL()), "DirichletKL is about the weights of Dirichlet"),
    "kl-inside": (dict(relax=EdgeNormalised(Sigmoid()), penalty=DirichletKL()), "not of Sigmoid"),
    "perturbed-one-level": (dict(hypergrad=joint, perturb=RandomNoise()), "one-level search takes one step of both"),
    "perturbed-choice": (dict(relax=GumbelHard(), perturb=Adversarial()), "GumbelHard evaluates one alone"),
    "curvature-one-level": (dict(hypergrad=joint, hessian_every=1), "no validation half; use hessian_every=0"),
    "grow-alone": (dict(batch_growth=8), "no decision settles edges; use decide=GreedyEdge"),
    "last-finish": (dict(stages=(Stage(finish=KeepOps(3)),)), "KeepOps finishes stage 1 of 1, and no stage follows"),
    "no-stages": (dict(stages=()), "leaves nothing to do"),
    "short-stages": (
        dict(stages=(Stage(), Stage()), warmup=0.4, steps=3), "leaves stage 2 of 2 no step .* use steps >= 4, a shorter"
    ),
    "short-warm-up": (dict(warmup=0.9, steps=5), "leaves stage 1 of 1 no step .* use steps >= 10"),
    "empty-stage": (dict(stages=(Stage(share=0.1), Stage(), Stage()), steps=2), "leaves stage"),
}  # fmt: skip


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_parts_that_do_not_go_together_are_refused_at_construction(case):
    fields, words = IMPOSSIBLE[case]
    with pytest.raises(OcheError, match=words):
        SearchRecipe(**fields)


def test_parts_that_do_go_together():
    """The neighbours of what is refused above."""
    SearchRecipe(relax=EdgeNormalised(Sigmoid()), penalty=ZeroOne() + BetaDecay())
    SearchRecipe(relax=EdgeNormalised(Dirichlet()), penalty=DirichletKL())
    SearchRecipe(relax=GumbelHard(evaluate="all"), perturb=Adversarial())
    SearchRecipe(relax=GumbelHard(), arch_optimizer=ExponentiatedGradient(), hessian_every=1)
    SearchRecipe(stages=(Stage(finish=KeepOps(1)), Stage()), batch_growth=8)
    SearchRecipe(batch_growth=8, decide=GreedyEdge())
    SearchRecipe(stages=(Stage(), Stage()), warmup=0.4, steps=4)
    SearchRecipe(warmup=0.9, steps=10)
    METHODS["pc-darts"].make().check(replace(SPACES["darts"], channels=4))


@pytest.mark.parametrize("name", ["pc-darts", "sgas-2"])
def test_batches_of_published_size_on_a_handful_of_images(name):
    """A batch larger than a half is all of it, and goes on being that as it grows."""
    method = replace(
        shrunk(METHODS[name].make(epochs=5)), decide=METHODS[name].make().method.decide and GreedyEdge(2, 0.2, 0.2)
    )
    task, session = search(method, SPACES["darts"]), Kept()
    assert method.batch > 12 and task.per_epoch() == 1
    run(task, session)
    assert [r["step"] for r in session.history] == list(range(6)) and task.meters["val"].sums[2] in (0, 12)
    assert (task.batch > method.batch) == (name == "sgas-2")


def test_methods_are_taken_apart_and_put_together():
    method = replace(
        tiny("pc-darts"),
        hypergrad=oche.methods.darts(2).method.hypergrad,
        select=METHODS["darts-pt"].make().method.select,
    )
    assert run(search(method, SPACES["darts"]), Kept()).cells.keys() == {"normal", "reduce"}
    assert METHODS["sgas-2"].make(select=TopK()).method.decide == GreedyEdge(2)


# --- the command line and config.yaml

CHANGED = {
    "gdas": ("--search.relax.tau 5 0.5 --search.relax.evaluate all", lambda m: m.relax == GumbelHard((5.0, 0.5), "all")),
    "p-darts": (
        "--search.stages.0.share 2 --search.stages.1.edge.start 0.3 --search.stages.1.finish.n 4 --search.select.most 3",
        lambda m: (m.stages[0].share, m.stages[1].edge.start, m.stages[1].finish.n, m.select.most) == (2.0, 0.3, 4, 3)
        and m.stages[2] == METHODS["p-darts"].make().method.stages[2],
    ),
    "fair-darts": ("--search.select.at 0.7 --search.penalty.weight 5", lambda m: (m.select.at, m.penalty.weight) == (0.7, 5.0)),
    "darts": (
        "--search.relax Sigmoid --search.penalty ZeroOne --search.edge PartialEdge --search.edge.k 2 "
        "--search.edge.of AuxiliarySkip --search.edge.of.beta 0.5 0 --search.curvature 2 --search.stop.k 3",
        lambda m: m.penalty == ZeroOne() and m.edge.k == 2 and m.edge.of.beta == (0.5, 0.0) and m.eigenvalue_stop.k == 3,
    ),
    "sgas-2": (
        "--search.decide.every 0.05 --search.grow 4",
        lambda m: (m.decide.every, m.decide.criterion, m.batch_growth) == (0.05, 2, 4),
    ),
    "sdarts-adv": ("--search.perturb.eps 0 0.1 --search.perturb.steps 3", lambda m: m.perturb == Adversarial((0.0, 0.1), 3)),
    "pc-darts": ("--search.relax.ops Sigmoid --search.edge.k 8", lambda m: m.relax == EdgeNormalised(Sigmoid())),
    "gaea": (
        "--search.a.lr 0.05 --search.select Perturbation --search.tune 0.2",
        lambda m: (m.arch_optimizer.lr, m.finetune_share) == (0.05, 0.2),
    ),
    "drnas-progressive": (
        "--search.stages.1.width 1 --search.penalty None", lambda m: m.stages[1].width == 1 and m.penalty is None
    ),
    "beta-darts": ("--search.penalty.weight 0 50 --search.on_collapse stop", lambda m: m.penalty == BetaDecay((0.0, 50.0))),
}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_every_recipe_value_is_changed_from_the_command_line_and_goes_through_its_file(name, tmp_path, monkeypatch):
    from oche.cli import main as cli
    from oche.core.config.yaml_files import dump_yaml, load_yaml
    from oche.runs.config import SearchConfig

    found = []

    def caught(config, **kwargs):
        found.append(config)
        raise OcheError("stopped before its work")

    monkeypatch.setattr("oche.cli.search.run_search", caught)
    options, holds = CHANGED.get(name, ("--search.batch 7", None))
    assert cli.main(["search", "--method", name]) == cli.main(["search", "--method", name, *options.split()]) == 2
    plain_, changed = found
    assert plain_.search == METHODS[name].make() and plain_.method == name
    assert holds(changed.search.method) if holds else changed.search.batch == 7
    assert changed.search != plain_.search
    for config in tuple(found):
        (tmp_path / "config.yaml").write_text(dump_yaml(config))
        assert load_yaml(tmp_path / "config.yaml", SearchConfig) == config
        assert cli.main(["search", "--config", str(tmp_path / "config.yaml")]) == 2 and found.pop() == config
