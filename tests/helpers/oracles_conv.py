"""Convolutional networks written a second time, naively: the oracle of oche.spaces.

Functions of tensors and flat lists of weights, taken in the order in which the published code declares them (stem; cell
by cell the two input adapters, then edges by target and source, candidates in order; head), which oche keeps so that
published weights load by order; its auxiliary head comes last. Pools, shifts and norms are spelled out, not called.

Shapes: B images, C channels, H × W pixels.
"""

import torch
import torch.nn.functional as F


class Weights:
    """Hands out parameters one by one, and with ``stats`` (buffers of a network in eval mode) running statistics."""

    def __init__(self, parameters, stats=None):
        self.left = list(parameters)
        self.stats = None if stats is None else [b for b in stats if b.ndim]  # without the counters of batches

    def take(self):
        return self.left.pop(0)

    def norm(self, x, affine, eps=1e-5):
        if self.stats is None:
            mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
        else:
            mean, var = self.stats.pop(0), self.stats.pop(0)
        x = (x - mean[:, None, None]) / (var[:, None, None] + eps).sqrt()
        return x * self.take()[:, None, None] + self.take()[:, None, None] if affine else x

    def done(self):
        return not self.left and not self.stats


def windows(x, kernel, stride, fill):
    """(B, C, K·K, H', W'): the values under a window padded so that stride 1 keeps the size; ``fill`` is outside."""
    pad = kernel // 2
    h, w = ((n + stride - 1) // stride for n in x.shape[2:])
    big = F.pad(x, (pad, pad + stride, pad, pad + stride), value=fill)
    rows = [
        big[:, :, i : i + h * stride : stride, j : j + w * stride : stride]
        for i in range(kernel)
        for j in range(kernel)
    ]
    return torch.stack(rows, 2)


def max_pool(x, stride):
    return windows(x, 3, stride, -torch.inf).amax(2)


def avg_pool(x, stride):
    return windows(x, 3, stride, 0.0).sum(2) / windows(torch.ones_like(x), 3, stride, 0.0).sum(2)


def depthwise(x, weight, stride, dilation):
    """Each channel with its own kernel; output pixel (i, j) is centred on input pixel (stride·i, stride·j)."""
    c, _, k, _ = weight.shape
    reach = dilation * (k // 2)
    h, w = ((n + stride - 1) // stride for n in x.shape[2:])
    big = F.pad(x, (reach, reach + stride, reach, reach + stride))
    out = x.new_zeros(len(x), c, h, w)
    for i in range(k):
        for j in range(k):
            a, b = i * dilation, j * dilation
            out = (
                out
                + weight[:, 0, i, j, None, None] * big[:, :, a : a + h * stride : stride, b : b + w * stride : stride]
            )
    return out


def pointwise(x, weight):
    return torch.einsum("oi,bihw->bohw", weight[:, :, 0, 0], x)


def separable(x, ws, stride, dilation, affine):
    x = depthwise(x.relu(), ws.take(), stride, dilation)
    return ws.norm(pointwise(x, ws.take()), affine)


def adapt(x, ws, halve, affine):
    """Input adapter of a cell: ReLU, 1×1 convolution, norm; halving, it reads pixels (2i, 2j) and (2i + 1, 2j + 1)."""
    x = x.relu()
    if not halve:
        return ws.norm(pointwise(x, ws.take()), affine)
    h, w = ((n + 1) // 2 for n in x.shape[2:])
    shifted = F.pad(x, (0, 2, 0, 2))[:, :, 1 : 1 + 2 * h : 2, 1 : 1 + 2 * w : 2]  # zeros beyond an odd side
    both = [pointwise(x[:, :, ::2, ::2], ws.take()), pointwise(shifted, ws.take())]
    return ws.norm(torch.cat(both, 1), affine)


def operate(name, x, ws, stride, affine):
    """One published operation on (B, C, H, W)."""
    if name == "none":
        return 0 * x[:, :, ::stride, ::stride]
    if name == "skip_connect":
        return x if stride == 1 else adapt(x, ws, True, affine)
    if name in ("max_pool_3x3", "avg_pool_3x3"):
        return (max_pool if name.startswith("max") else avg_pool)(x, stride)
    if name == "conv_7x1_1x7":
        x = F.conv2d(x.relu(), ws.take(), stride=(1, stride), padding=(0, 3))
        return ws.norm(F.conv2d(x, ws.take(), stride=(stride, 1), padding=(3, 0)), affine)
    if name.startswith("dil_conv"):
        return separable(x, ws, stride, 2, affine)
    assert name.startswith("sep_conv")
    return separable(separable(x, ws, stride, 1, affine), ws, 1, 1, affine)


def mixed(x, weights, ws, stride, candidates, affine, pool_norm):
    """Sum over candidates of weight × candidate(x); pools are followed by a norm without scale and shift."""
    total = 0
    for weight, name in zip(weights, candidates, strict=True):
        out = operate(name, x, ws, stride, affine)
        total = total + weight * (ws.norm(out, False) if pool_norm and "pool" in name else out)
    return total


def stem(x, ws, kind):
    """The two inputs of the first cell, and whether the first is one halving larger."""
    conv = lambda x, stride: ws.norm(F.conv2d(x, ws.take(), stride=stride, padding=1), True)  # noqa: E731
    if kind == "none":
        return x, x, False
    if kind in ("cifar", "stride2"):
        out = conv(x, 1 if kind == "cifar" else 2)
        return out, out, False
    if kind == "stride4":
        out = conv(conv(x, 2).relu(), 2)
        return out, out, False
    first = conv(conv(x, 2).relu(), 2)
    return first, conv(first.relu(), 2), True


def head(x, ws, hidden):
    x = x.flatten(1) if hidden else x.mean((2, 3))
    for _ in range(hidden):
        x = (x @ ws.take().T + ws.take()).relu()
    return x @ ws.take().T + ws.take()


def auxiliary(x, ws):
    """The published auxiliary head, on an 8 × 8 or a 7 × 7 map."""
    x = F.avg_pool2d(x.relu(), 5, {8: 3, 7: 2}[x.shape[2]])
    x = ws.norm(pointwise(x, ws.take()), True).relu()
    x = ws.norm(F.conv2d(x, ws.take()), True).relu()
    return x.flatten(1) @ ws.take().T + ws.take()


def supernet(x, ws, mixes, *, cells, nodes, candidates, stem_kind="cifar", affine=False, pool_norm=True, hidden=0):
    """Logits of the supernet; mixes: cell kind → (E, O) weights. Channels follow from the weights."""
    s0, s1, halve = stem(x, ws, stem_kind)
    for i in range(cells):
        reduces = i in (cells // 3, 2 * cells // 3)
        states = [adapt(s0, ws, halve, affine), adapt(s1, ws, False, affine)]
        rows = iter(mixes["reduce" if reduces else "normal"])
        for _ in range(nodes):
            outs = [
                mixed(s, next(rows), ws, 2 if reduces and j < 2 else 1, candidates, affine, pool_norm)
                for j, s in enumerate(states)
            ]
            states.append(sum(outs))
        s0, s1, halve = s1, torch.cat(states[2:], 1), reduces
    return head(s1, ws, hidden)


def final(x, ws, normal, reduce, *, cells, stem_kind="cifar", aux=False, drop=0.0, hidden=0):
    """(logits, auxiliary logits or None) of a final network. normal, reduce: (pairs, concat) in the published form."""
    s0, s1, halve = stem(x, ws, stem_kind)
    aux_map = None
    for i in range(cells):
        reduces = i in (cells // 3, 2 * cells // 3)
        pairs, concat = reduce if reduces else normal
        states = [adapt(s0, ws, halve, True), adapt(s1, ws, False, True)]
        for n in range(len(pairs) // 2):
            node = 0
            for name, source in pairs[2 * n : 2 * n + 2]:
                stride = 2 if reduces and source < 2 else 1
                out = operate(name, states[source], ws, stride, True)
                if drop and not (name == "skip_connect" and stride == 1):
                    out = out * torch.bernoulli(torch.full((len(x), 1, 1, 1), 1 - drop, dtype=x.dtype)) / (1 - drop)
                node = node + out
            states.append(node)
        s0, s1, halve = s1, torch.cat([states[c] for c in concat], 1), reduces
        aux_map = s1 if i == 2 * cells // 3 else aux_map
    logits = head(s1, ws, hidden)
    return logits, auxiliary(aux_map, ws) if aux else None
