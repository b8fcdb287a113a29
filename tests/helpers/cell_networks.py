"""Networks of cells with weights away from their start, for oracles to compute too."""

import torch
from torch import nn

import oracles_conv as oracle
from oche.networks.operations import SEED_CANDIDATES


def normal(*shape, seed=0, **kwargs):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64, **kwargs)


def shaken(net, seed=0):
    """``net`` in float64, with scales, shifts and running statistics that are not 1 and 0."""
    net = net.double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                for t in (module.weight, module.bias, module.running_mean, module.running_var):
                    if t is not None:
                        t.copy_(torch.rand(t.shape, generator=generator, dtype=torch.float64) + 0.5)
    return net


def weights(net):
    return oracle.Weights(net.parameters(), None if net.training else net.buffers())


def count(make):
    with torch.device("meta"):
        return sum(p.numel() for p in make().parameters())


def setting(space):
    is_seed = space.candidates == SEED_CANDIDATES
    return dict(
        cells=space.cells, nodes=space.nodes, candidates=space.candidates, stem_kind=space.stem,
        affine=is_seed, pool_norm=not is_seed, hidden=len(space.head),
    )  # fmt: skip
