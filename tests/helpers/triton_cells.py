"""Cells in the Triton form, interpreted, against plain ones."""

import copy

import torch

from oche.core.architecture import Mix, Shape
from oche.kernels.triton import cell as gpu
from oche.networks.forms import node_states
from oche.spaces import ConvSpace
from oche.spaces.mixed_ops import MixedEdge

D = torch.float64


def normal(*shape, dtype=D):
    return torch.randn(*shape, dtype=dtype)


class Cell:
    """A cell of two nodes, its inputs, a mixture, and a gradient that comes back to each node."""

    def __init__(
        self, builder=None, stride=1, size=(5, 4), batch=2, channels=2, dtype=D, scale=False, nodes=2, **fields
    ):
        space = ConvSpace(channels=channels, nodes=nodes, cells=3, **fields)
        self.dag, self.stride = space.dag, stride
        builder = builder or MixedEdge()
        self.edges = torch.nn.ModuleList(
            builder(space, Shape.same(channels, stride if source < 2 else 1)) for source, _ in self.dag.edges
        ).to(dtype)
        for name, p in self.edges.named_parameters():
            if p.dim() == 1:  # scale and shift
                torch.nn.init.normal_(p, 1.0 if name.endswith("weight") else 0.0, 0.3)
        self.inputs = [normal(batch, channels, *size).to(dtype) for _ in range(2)]
        n = len(space.candidates)
        self.ops = normal(len(self.dag), n).softmax(1).to(torch.promote_types(dtype, torch.float32))
        self.scales = torch.rand(len(self.dag), dtype=self.ops.dtype) + 0.5 if scale else None
        self.active = (tuple(range(n)),) * len(self.dag)
        self.back = None

    def run(self, flow):
        """Outputs, gradients of inputs, mixture and parameters, buffers: everything by name."""
        edges = copy.deepcopy(self.edges)
        inputs = [x.clone().to(memory_format=torch.channels_last).requires_grad_() for x in self.inputs]
        ops = self.ops.clone().requires_grad_()
        scales = None if self.scales is None else self.scales.clone().requires_grad_()
        states = flow(self.dag, edges, inputs[: self.dag.inputs], Mix(ops, scales, self.active), self.stride)
        found = states[self.dag.inputs :]
        if self.back is None:
            self.back = [torch.randn_like(s) for s in found]
        reached = [(s, b) for s, b in zip(found, self.back, strict=True) if s.requires_grad]
        torch.autograd.backward(*zip(*reached, strict=True))
        given = {"ops": ops, "scales": scales, "x0": inputs[0], "x1": inputs[1], **dict(edges.named_parameters())}
        found = {f"node {i}": s.detach() for i, s in enumerate(states)}
        found |= {f"gradient of {k}": t.grad for k, t in given.items() if t is not None}
        return found | dict(edges.named_buffers())

    def check(self, tolerance=1e-9, want=None):
        want = want or self.run(node_states)
        got = self.run(gpu.node_states)
        assert want.keys() == got.keys()
        for name, w in want.items():
            g = got[name]
            assert (w is None) == (g is None), name
            if w is not None:
                assert g.isfinite().all(), name
                torch.testing.assert_close(g, w, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")
        return got
