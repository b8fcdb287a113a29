"""Two candidate operations of your own: a function and a class. Nothing inside oche changes.

    oche list operations --plugins examples/my_operation.py
    oche search --plugins examples/my_operation.py --space.candidates none skip_connect conv_3x3 channel_gate

An operation is built with (channels, stride, affine) and maps (B, C, H, W) to (B, C, ceil(H / stride), ceil(W / stride)).
``affine`` says whether its BatchNorms learn scale and shift: they do in a final network, and usually not in a search.
"""

from torch import Tensor, nn

import oche


@oche.operation("conv_3x3")
def conv_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    """ordinary 3x3 convolution"""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    )


@oche.operation("channel_gate", normalised=False)  # its output is not normalised, so a search puts a BatchNorm after it
class ChannelGate(nn.Module):
    """scales each channel by a weight computed from the means of all channels (1709.01507)"""

    def __init__(self, channels: int, stride: int, affine: bool) -> None:
        super().__init__()
        narrow = max(1, channels // 4)
        self.shrink = nn.AvgPool2d(3, stride, padding=1, count_include_pad=False) if stride > 1 else nn.Identity()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, narrow, 1),
            nn.ReLU(),
            nn.Conv2d(narrow, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W)."""
        x = self.shrink(x)
        return x * self.gate(x)
