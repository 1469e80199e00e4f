"""Adversarial training on CIFAR-10 as in the public code of papers: the reference of `benchmark_training.py`.

Worker processes crop and flip PIL images one by one, the network uses fp32, and PGD is a plain loop.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

STEPS, EPS, STEP_SIZE = 10, 8 / 255, 2 / 255  # Rice et al. 2020, https://arxiv.org/abs/2002.11569


class Pictures(Dataset[Any]):
    """Data set of transformed PIL images and labels, like torchvision's CIFAR10.

    Args:
        x: (N, 3, H, W) uint8 pixels.
        y: (N,) int64 labels.
    """

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.images, self.labels = x.permute(0, 2, 3, 1).contiguous().numpy(), y.tolist()
        self.transform = transforms.Compose(
            [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def pgd(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return adversarial examples (B, C, H, W) of PGD-10 under linf."""
    x_adv = (x + torch.empty_like(x).uniform_(-EPS, EPS)).clamp(0, 1)
    for _ in range(STEPS):
        x_adv.requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(net(x_adv), y), x_adv)
        x_adv = x_adv.detach() + STEP_SIZE * gradient.sign()
        x_adv = torch.min(torch.max(x_adv, x - EPS), x + EPS).clamp(0, 1)
    return x_adv.detach()


def train(net: nn.Module, data: Pictures, device: torch.device, *, batch_size: int, workers: int) -> Iterator[None]:
    """Train indefinitely and yield after each step."""
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = True
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    on_gpu = device.type == "cuda"
    loader = DataLoader(data, batch_size, shuffle=True, num_workers=workers, pin_memory=on_gpu, drop_last=True)
    while True:
        for x, y in loader:
            x, y = x.to(device), y.to(device)
            net.eval()
            x_adv = pgd(net, x, y)
            net.train()
            loss = F.cross_entropy(net(x_adv), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield
