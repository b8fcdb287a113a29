"""A published cell as the backbone of a segmentation network, which finds the digit that each pixel belongs to.

    python examples/segmentation.py

An image (a canvas) has 24 × 24 pixels, with three of scikit-learn's handwritten digits (8 × 8) and a slanting light. Its mask
has 0 for every pixel of the background, and 1 + the digit for every pixel of a digit. Training and test canvases have
different digits.

Shapes: B canvases, C channels, H × W pixels, K classes: the digits and the background.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

import oche

SIDE, DIGIT = 24, 8


def canvases(digits: Tensor, labels: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return images (B, 1, H, W) and int64 masks (B, H, W), each with three of ``digits`` (N, 8, 8) in three of its quarters."""
    g = torch.Generator().manual_seed(seed)
    slope = torch.rand(count, 2, 1, 1, generator=g) * torch.linspace(0, 0.5, SIDE).view(1, 1, 1, SIDE)
    images = slope[:, 0] + slope[:, 1].transpose(1, 2)  # light from a corner
    masks = torch.zeros(count, SIDE, SIDE, dtype=torch.int64)
    for image, mask in zip(images, masks, strict=True):
        for quarter in torch.randperm(4, generator=g)[:3].tolist():
            i = int(torch.randint(len(digits), (), generator=g))
            y, x = torch.randint(SIDE // 2 - DIGIT + 1, (2,), generator=g).tolist()
            y, x = y + SIDE // 2 * (quarter // 2), x + SIDE // 2 * (quarter % 2)
            image[y : y + DIGIT, x : x + DIGIT] += digits[i]
            mask[y : y + DIGIT, x : x + DIGIT] = torch.where(digits[i] > 0.25, labels[i] + 1, 0)
    return images.unsqueeze(1), masks


class Segmenter(nn.Module):
    """Bring every feature map of the backbone to one width and size, add them, and classify each pixel (as in 1901.02446)."""

    def __init__(self, backbone: nn.Module, classes: int, width: int = 16) -> None:
        super().__init__()
        self.backbone = backbone
        self.narrow = nn.ModuleList(
            nn.Sequential(nn.ReLU(), nn.Conv2d(c, width, 1, bias=False), nn.BatchNorm2d(width))
            for c in backbone.feature_info.channels()
        )
        self.head = nn.Sequential(nn.ReLU(), nn.Conv2d(width, classes, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 1, H, W) → logits (B, K, H, W)."""
        maps = [narrow(m) for narrow, m in zip(self.narrow, self.backbone(x), strict=True)]
        total = sum(F.interpolate(m, maps[0].shape[2:], mode="bilinear", align_corners=False) for m in maps)
        return F.interpolate(self.head(total), x.shape[2:], mode="bilinear", align_corners=False)


def train(net: nn.Module, digits: Tensor, labels: Tensor, steps: int, batch: int = 32, lr: float = 1e-2) -> None:
    optimizer = torch.optim.AdamW(net.parameters(), lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    net.train()
    for step in range(steps):
        images, masks = canvases(digits, labels, batch, seed=step)
        loss = F.cross_entropy(net(images.contiguous(memory_format=torch.channels_last)), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def mean_iou(predicted: Tensor, masks: Tensor, classes: int) -> float:
    """Return the intersection over union, averaged over the classes."""
    counts = torch.bincount((masks * classes + predicted).flatten(), minlength=classes**2).view(classes, classes)
    both = counts.diagonal().double()
    return float((both / (counts.sum(0) + counts.sum(1) - both)).mean())


def run(steps: int = 300, kinds: int = 10) -> tuple[float, float]:
    """Train a segmenter for the digits below ``kinds``; return its mean IoU on new canvases, and that of background only."""
    torch.manual_seed(0)
    data = load_digits(n_class=kinds)
    digits, labels = torch.from_numpy(data.images).float() / 16, torch.from_numpy(data.target)
    backbone = oche.build("DARTS_V2", features=True, channels=8, cells=3, in_channels=1)
    net = Segmenter(backbone, kinds + 1).to(memory_format=torch.channels_last)
    cut = len(digits) * 4 // 5
    train(net, digits[:cut], labels[:cut], steps)
    images, masks = canvases(digits[cut:], labels[cut:], 200, seed=steps)
    with torch.no_grad():
        predicted = torch.cat([net.eval()(x).argmax(1) for x in images.split(50)])
    return mean_iou(predicted, masks, kinds + 1), mean_iou(torch.zeros_like(masks), masks, kinds + 1)


if __name__ == "__main__":
    network, background = run()
    print(f"mean IoU on 200 new canvases: {network:.3f}; predicting background only: {background:.3f}")
