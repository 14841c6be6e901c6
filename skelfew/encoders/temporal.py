"""Temporal convolutions over the joints of a frame as channels: small, quick, and hard to beat.

Pose and motion of all joints (and bodies) are the channels of a frame; a 1x1 convolution, two
residual blocks of kernel 5 and the mean over time make the feature. Several branches of that form,
side by side, may learn different things. Our own design, of the usual parts (Bai, Kolter & Koltun,
2018; He et al., 2016); docs/results.md has what it reaches.
"""

from typing import Annotated, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelfew.data.joints.layouts import Layout
from skelfew.encoders.encoder import SkeletonEncoder
from skelfew.errors import SkelfewError
from skelfew.fields import Limit

_KERNEL = 5


class ResidualBlock(nn.Module):
    """Two convolutions along time and the sum with what came in, (N, C, T) to (N, C', T)."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.conv1 = nn.Conv1d(before, after, _KERNEL, padding=_KERNEL // 2, bias=False)
        self.bn1 = nn.BatchNorm1d(after)
        self.conv2 = nn.Conv1d(after, after, _KERNEL, padding=_KERNEL // 2, bias=False)
        self.bn2 = nn.BatchNorm1d(after)
        self.residual = nn.Identity() if before == after else nn.Conv1d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(F(x) + x)."""
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + self.residual(x)).relu()


class Branch(nn.Module):
    """A 1x1 convolution and two residual blocks, (N, inputs, T) to (N, dim, T)."""

    def __init__(self, inputs: int, base: int, dim: int):
        super().__init__()
        self.data_bn = nn.BatchNorm1d(inputs)
        self.frame = nn.Conv1d(inputs, base, 1)
        self.block1 = ResidualBlock(base, base)
        self.block2 = ResidualBlock(base, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features by frame (N, dim, T)."""
        return self.block2(self.block1(self.frame(self.data_bn(x)).relu()))


class SkeletonTemporal(SkeletonEncoder):
    """Pose and motion through two residual blocks along time; the feature is the mean over time.

    Args:
        width: Factor on the number of channels: 64, and twice that in the second block.
        body_pool: Taken for the sake of the other encoders; bodies are channels here.
        feature_dim: Width of the second block, of all branches together; None for the usual one.
        branches: How many, side by side.

    Attributes:
        feature_dim: D, 128 a branch at full width.
        further: The branches after the first.
        centre, whitening: What ``whiten`` has learned; nothing and the identity before.
    """

    centre: Tensor
    whitening: Tensor

    def __init__(
        self,
        layout: Layout,
        channels: int = 3,
        bodies: int = 2,
        width: float = 1.0,
        body_pool: str = "mean",
        feature_dim: int | None = None,
        *,
        branches: Annotated[int, Limit(above=0), Limit(most=8)] = 1,
    ):
        super().__init__("temporal", layout, channels, bodies, width, body_pool, feature_dim)
        dim = 2 * self.base if feature_dim is None else feature_dim // branches
        if feature_dim is not None and feature_dim % branches:
            raise SkelfewError(f"feature_dim {feature_dim} is no multiple of {branches} branches")
        self.feature_dim = branches * dim
        sizes = 2 * channels * bodies * self.joints, self.base, dim
        for name, part in Branch(*sizes).named_children():  # its parts have no prefix in files
            self.add_module(name, part)
        self.further = nn.ModuleList(Branch(*sizes) for _ in range(branches - 1))
        self.register_buffer("centre", torch.zeros(self.feature_dim))
        self.register_buffer("whitening", torch.eye(self.feature_dim))

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """Return the features (N, D) of skeletons x; in training, branches may see ``other``."""
        return (self._run(x, other).mean(dim=2) - self.centre) @ self.whitening

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the features by frame (N, 1, D, T, 1) of skeletons x, not whitened."""
        return self._run(x)[:, None, :, :, None]

    def pool(self, maps: Tensor, x: Tensor) -> Tensor:
        """Return the features (N, D) of those by frame."""
        return (maps[:, 0, :, :, 0].mean(dim=2) - self.centre) @ self.whitening

    def forward_sequence(self, x: Tensor) -> Tensor:
        """Return the features by frame (N, T, 1, D); their mean is ``forward``."""
        frames = self._run(x).transpose(1, 2)
        return ((frames - self.centre) @ self.whitening)[:, :, None]

    def _run(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        parts = [Branch.forward(cast(Branch, self), self._inputs(x))]
        given = self._inputs(x if other is None else other) if self.further else x
        return torch.cat([*parts, *(branch(given) for branch in self.further)], dim=1)

    def _inputs(self, x: Tensor) -> Tensor:
        """Return pose and motion (N, 2 * C * V * M, T)."""
        self.check(x)
        pose = x.permute(0, 1, 3, 4, 2).flatten(1, 3)
        return torch.cat([pose, F.pad(pose[:, :, 1:] - pose[:, :, :-1], (1, 0))], dim=1)

    @torch.no_grad()
    def whiten(self, features: Tensor, labels: Tensor, shrinkage: float) -> None:
        """Learn the centre and the scatter within classes of features (n, D), so that none is left.

        ``shrinkage`` is the share of the mean variance in the scatter, so that it is not singular.
        """
        features = features.double()
        _, rows = labels.unique(return_inverse=True)
        counts = rows.bincount()
        sums = features.new_zeros(len(counts), features.shape[1]).index_add(0, rows, features)
        means = sums / counts[:, None]
        inside = features - means[rows]
        scatter = inside.T @ inside / max(len(features) - len(counts), 1)
        even = scatter.diagonal().mean().clamp(min=1e-12) * torch.eye(len(scatter)).to(scatter)
        values, vectors = torch.linalg.eigh((1 - shrinkage) * scatter + shrinkage * even)
        matrix = vectors @ torch.diag(values.rsqrt()) @ vectors.T
        before = self.whitening.double()
        middle = torch.linalg.lstsq(before.T, features.mean(dim=0)[:, None]).solution[:, 0]
        self.centre.copy_(self.centre.double() + middle)
        self.whitening.copy_(before @ matrix)
