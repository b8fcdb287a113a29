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
