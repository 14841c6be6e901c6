"""Encoder ``moments``: mean and spread of each joint over time, and a small network."""

from itertools import pairwise
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from skelfew.data.joints.layouts import Layout
from skelfew.encoders.encoder import SkeletonEncoder
from skelfew.fields import Limit


class Moments(SkeletonEncoder):
    """Two layers on the moments of all joints; ``depth`` and ``activation`` are its settings."""

    def __init__(
        self,
        layout: Layout,
        channels: int,
        bodies: int,
        width: float,
        body_pool: str,
        feature_dim: int | None,
        *,
        depth: Annotated[int, Limit(least=1, most=8)] = 2,
        activation: Literal["relu", "tanh"] = "relu",
    ):
        super().__init__("moments", layout, channels, bodies, width, body_pool, feature_dim)
        self.feature_dim = feature_dim or 2 * self.base
        wide = [2 * channels * len(layout) * bodies] + [self.feature_dim] * depth
        layers: list[nn.Module] = []
        for before, after in pairwise(wide):
            layers += [nn.Linear(before, after), nn.ReLU() if activation == "relu" else nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return mean and spread over time (N, 2, C, V, M)."""
        self.check(x)
        return torch.stack([x.mean(dim=2), x.std(dim=2)], dim=1)

    def pool(self, maps: Tensor, x: Tensor) -> Tensor:
        """Return the features (N, D)."""
        return self.layers(maps.flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (N, D) of skeletons x (N, C, T, V, M)."""
        return self.pool(self.forward_features(x), x)

    def forward_sequence(self, x: Tensor) -> Tensor:
        """Return the features as the only place there is, (N, 1, 1, D)."""
        return self(x)[:, None, None]
