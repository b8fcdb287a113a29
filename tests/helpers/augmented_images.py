"""What these tests share."""

import torch


def smooth_images(b, c, h, w, seed=5):
    """Images with structure (so that histograms and neighbours differ), some dark, some of few values."""
    g = torch.Generator().manual_seed(seed)
    x = torch.nn.functional.interpolate(torch.rand(b, c, 5, 5, generator=g), (h, w), mode="bicubic")
    x = x * torch.linspace(60, 300, b).view(-1, 1, 1, 1) - 20 + 6 * torch.randn(b, c, h, w, generator=g)
    return x.clamp(0, 255).to(torch.uint8)
