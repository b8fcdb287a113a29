"""What leaves an edge, written out."""

import torch

from oche.core.architecture import Mix, alive_candidates
from oche.spaces import darts

FEW = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3")
SPACE = darts(channels=4, cells=3, nodes=2, classes=3, candidates=FEW)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mixtures(space, edges=True, alive=None):
    """Softmax mixtures of random logits, with edge weights, all leaves; ``alive`` (E, O) kills candidates."""
    out = {}
    for i, (kind, dag) in enumerate(space.groups.items()):
        ops = normal(len(dag), len(space.candidates), seed=i).softmax(1)
        mask = torch.ones_like(ops, dtype=torch.bool) if alive is None else alive[kind]
        scale = (normal(len(dag), seed=10 + i).exp()).requires_grad_() if edges else None
        out[kind] = Mix((ops * mask).requires_grad_(), scale, alive_candidates(mask))
    return out
