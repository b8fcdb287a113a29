"""Spaces whose costs are known."""

import oche

SIZE = dict(classes=3, in_channels=1, image=(9, 9))
OPS = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_5x5")
SPACES = {
    "darts": oche.spaces.darts(channels=4, cells=4, nodes=3, candidates=OPS, **SIZE),
    "imagenet": oche.spaces.darts(
        channels=4, cells=3, nodes=2, stem="imagenet", candidates=OPS, **{**SIZE, "image": (33, 33)}
    ),
    "seed": oche.spaces.seed(channels=4, cells=4, nodes=3, candidates=OPS, head=(6,), **SIZE),
    "nb201": oche.spaces.nb201(channels=4, cells=2, **SIZE),
}
# Operation at C channels, stride s, on H x W pixels out: (weights, multiply-adds), on paper.
BY_HAND = {
    "none": lambda c, s, n: (0, 0),
    "max_pool_3x3": lambda c, s, n: (0, 0),
    "avg_pool_3x3": lambda c, s, n: (0, 0),
    "skip_connect": lambda c, s, n: (0, 0) if s == 1 else (c * c + 2 * c, n * c * c),
    "sep_conv_3x3": lambda c, s, n: (2 * (9 * c + c * c + 2 * c), 2 * n * (9 * c + c * c)),
    "sep_conv_5x5": lambda c, s, n: (2 * (25 * c + c * c + 2 * c), 2 * n * (25 * c + c * c)),
    "dil_conv_3x3": lambda c, s, n: (9 * c + c * c + 2 * c, n * (9 * c + c * c)),
    "dil_conv_5x5": lambda c, s, n: (25 * c + c * c + 2 * c, n * (25 * c + c * c)),
}
