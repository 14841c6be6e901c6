"""ST-GCN: graph convolution along the skeleton, every edge weighted by a learned importance.

Source: Yan et al., "Spatial Temporal Graph Convolutional Networks for Skeleton-Based Action
Recognition", AAAI 2018; layers and module names as in yysijie/st-gcn, net/st_gcn.py.
"""

from functools import partial

import torch
from torch import Tensor, nn

from skelfew.data.joints.layouts import Layout
from skelfew.encoders.backbone import SkeletonGCN
from skelfew.encoders.graph import SUBSETS, partition


class GraphConv(nn.Module):
    """Sums, over three subsets k, 1x1 convolutions of x passed along the edges A_k."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, SUBSETS * out_channels, 1)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Return (N, C_out, T, V) for x (N, C_in, T, V) and edges (3, V, V)."""
        n, c, t, v = x.shape
        assert self.conv.bias is not None
        # Passing along first, and the sum over subsets, make this one convolution of 3 * C_in.
        passed = (x.reshape(n, 1, c * t, v) @ edges).view(n, SUBSETS * c, t, v)
        weight = self.conv.weight.view(SUBSETS, -1, c).transpose(0, 1).flatten(1)
        bias = self.conv.bias.view(SUBSETS, -1).T @ edges.sum(dim=1)  # (C_out, V)
        return torch.conv2d(passed, weight[:, :, None, None]) + bias.unsqueeze(1)


class STGCNBlock(nn.Module):
    """ReLU(TCN(GCN(x)) + residual(x)); no residual and no dropout in the first block."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, residual: bool, dropout: float
    ):
        super().__init__()
        self.gcn = GraphConv(in_channels, out_channels)
        self.tcn = nn.Sequential(
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, (9, 1), (stride, 1), (4, 0)),
            nn.BatchNorm2d(out_channels),
            nn.Dropout(dropout if residual else 0.0, inplace=True),
        )
        self.residual: nn.Module | None = nn.Identity() if residual else None
        if residual and (in_channels != out_channels or stride != 1):
            self.residual = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, (stride, 1)), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Return (N, C_out, T / stride, V) for x (N, C_in, T, V) and edges (3, V, V)."""
        y = self.tcn(self.gcn(x, edges))
        return (y if self.residual is None else y + self.residual(x)).relu_()


class STGCN(SkeletonGCN):
    """Ten blocks on one graph; the input is normalised alike for all bodies.

    Args:
        body_pool: See ``SkeletonGCN``.
        dropout: After the temporal convolution of all blocks but the first.
        importance: Whether a block weights the edges; without, ``edge_importance`` is absent.
    """

    A: Tensor

    def __init__(
        self,
        name: str,
        dropout: float,
        importance: bool,
        layout: Layout,
        channels: int = 3,
        bodies: int = 2,
        width: float = 1.0,
        body_pool: str = "mean",
        feature_dim: int | None = None,
    ):
        def block(
            before: int, after: int, stride: int, layout: Layout, residual: bool
        ) -> nn.Module:
            return STGCNBlock(before, after, stride, residual, dropout)

        super().__init__(name, block, layout, channels, bodies, width, body_pool, feature_dim)
        self.register_buffer("A", partition(layout))
        self.edge_importance: nn.ParameterList | None = None
        if importance:
            ones = (nn.Parameter(torch.ones_like(self.A)) for _ in self._blocks)
            self.edge_importance = nn.ParameterList(ones)

    def _compose(self, blocks: list[nn.Module]) -> list[str]:
        self.data_bn = nn.BatchNorm1d(self.joints * self.channels)
        self.st_gcn_networks = nn.ModuleList(blocks)
        return [f"st_gcn_networks.{i}" for i in range(len(blocks))]

    def _through(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.st_gcn_networks):
            edges = self.A if self.edge_importance is None else self.A * self.edge_importance[i]
            x = block(x, edges)
        return x


# As for NTU RGB+D; of width 0.25 with feature_dim 256 it is the one of AimCLR and CrosSCLR.
stgcn = partial(STGCN, "stgcn", 0.5, True)
stgcn_dastm = partial(STGCN, "stgcn-dastm", 0.1, False)
