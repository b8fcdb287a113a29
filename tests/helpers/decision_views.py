"""Views of a search at a moment, for decisions to look at."""

from dataclasses import replace

import torch
from hypothesis import strategies as st

from oche.core.architecture import Dag, Mix, alive_candidates, all_alive
from oche.methods.discretize import View
from oche.methods.discretize.successive import random_cell

NAMES = ("none", "skip_connect", "sep", "dil")
DAG = Dag()  # 14 edges
seeds = st.integers(0, 10_000)


def view(ops, alive=None, *, dag=DAG, names=NAMES, progress=1.0, edges=None, group="normal", **fields):
    alive = all_alive(dag, len(names)) if alive is None else alive
    return View(group, dag, names, alive, Mix(ops, edges, alive_candidates(alive)), progress, **fields)


def random_view(seed, share=0.8, **fields):
    """Softmax weights among a random mask; some edges may be without candidates."""
    g = torch.Generator().manual_seed(seed)
    alive = torch.rand(14, 4, generator=g) < share
    ops = (torch.randn(14, 4, generator=g).exp() * alive).double()
    ops = ops / ops.sum(1, keepdim=True).clamp_min(1e-30)
    edges = torch.rand(14, generator=g) if seed % 2 else None
    recent = (*(torch.rand(14, 4, generator=g) for _ in range(seed % 7)), ops)
    table = torch.rand(14, 4, generator=g)
    means = dict(
        evaluate=lambda mask: float((table * mask).sum()),
        tune=lambda mask: None,
        generator=torch.Generator().manual_seed(seed),
    )
    progress = torch.rand((), generator=g).item()
    return view(ops, alive, edges=edges, recent=recent, progress=progress, **means, **fields)


def scale(values):
    low, high = min(values.values()), max(values.values())
    return {e: (v - low) / (high - low) if high > low else 0.0 for e, v in values.items()}


class Court:
    """A search that has ended, of two groups; remembers what it was asked and told."""

    def __init__(self, seed=0, generator=None):
        self.views = {
            name: replace(random_view(seed + i), group=name, generator=generator)
            for i, name in enumerate(("normal", "reduce"))
        }
        self.groups = {name: v.dag for name, v in self.views.items()}
        self.told, self.asked = {}, []

    def view(self, group):
        return self.views[group]

    def narrow(self, group, alive):
        self.told[group] = alive

    def begin_tuning(self, logits, restart):
        self.told["tuning"] = logits, restart

    def accuracy(self, alive, images=None):
        self.asked.append(images)
        return float(
            sum((mask * view.mix.ops).sum() for mask, view in zip(alive.values(), self.views.values(), strict=True))
        )

    def random(self, generator):
        return {name: random_cell(view.usable, view.dag, generator) for name, view in self.views.items()}
