"""CTR-GCN: a graph of its own for every channel, refined from one that all channels share.

Source: Chen et al., "Channel-wise Topology Refinement Graph Convolution for Skeleton-Based
Action Recognition", ICCV 2021; layer by layer as Uason-Chen/CTR-GCN, model/ctrgcn.py.
"""

from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from skelfew.data.joints.layouts import Layout
from skelfew.encoders.backbone import SkeletonGCN, TemporalConv, initialise_convolutions
from skelfew.encoders.fast.channel_rows import (
    joined_rows,
    largest_of_three,
    normed_rows,
    pointwise_rows,
    refined_rows,
)
from skelfew.encoders.fast.processor import stacked
from skelfew.encoders.graph import SUBSETS, adjacency

_BRANCHES = 4


class RefinedGraphConv(nn.Module):
    """One subset: features passed along alpha * conv4(tanh(conv1(x)_u - conv2(x)_v)) + A_uv."""

    def __init__(self, in_channels: int, out_channels: int, relations: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, relations, 1)
        self.conv2 = nn.Conv2d(in_channels, relations, 1)
        self.conv3 = nn.Conv2d(in_channels, out_channels, 1)
        self.conv4 = nn.Conv2d(relations, out_channels, 1)

    def edges(self, mean: Tensor, shared: Tensor, alpha: Tensor) -> Tensor:
        """Return the edges (N, C_out, V, V) from x's mean over time (N, C_in, 1, V)."""
        # conv1 and conv2 are linear, so averaging over time first gives the same at 1/T the cost.
        p, q = self.conv1(mean).squeeze(2), self.conv2(mean).squeeze(2)
        differences = torch.tanh(p.unsqueeze(-1) - q.unsqueeze(-2))
        return alpha * self.conv4(differences) + shared

    def left(self, alpha: Tensor) -> Tensor:
        """Return (C_out, r + 2): times differences, ones and A it is alpha * conv4 + A."""
        assert self.conv4.bias is not None
        own = torch.cat([self.conv4.weight.flatten(1), self.conv4.bias[:, None]], dim=1)
        return torch.cat([alpha * own, own.new_ones(len(own), 1)], dim=1)

    def forward(self, x: Tensor, mean: Tensor, shared: Tensor, alpha: Tensor) -> Tensor:
        """Return (N, C_out, T, V): joint u gathers from all v (in AGCN it sends to all)."""
        return self.conv3(x) @ self.edges(mean, shared, alpha).transpose(-1, -2)


class ChannelGraphConv(nn.Module):
    """Three refined subsets summed, BatchNorm, residual, ReLU; ``first`` of coordinates: r = 8."""

    def __init__(self, in_channels: int, out_channels: int, layout: Layout, first: bool):
        super().__init__()
        relations = 8 if first else in_channels // 8
        self.PA = nn.Parameter(adjacency(layout))
        self.alpha = nn.Parameter(torch.zeros(1))
        self.convs = nn.ModuleList(
            RefinedGraphConv(in_channels, out_channels, relations) for _ in range(SUBSETS)
        )
        self.bn = nn.BatchNorm2d(out_channels)
        self.down: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.down = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels)
            )
        initialise_convolutions(self)
        nn.init.constant_(self.bn.weight, 1e-6)  # the unit starts as its residual path

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C_out, T, V) for x (N, C_in, T, V)."""
        mean = x.mean(dim=2, keepdim=True)
        total: Tensor | None = None
        for conv, shared in zip(self.convs, self.PA, strict=True):
            passed = conv(x, mean, shared, self.alpha)
            total = passed if total is None else total + passed
        return (self.bn(total) + self.down(x)).relu_()

    def rows(self, x: Tensor) -> Tensor:
        """Return (C_out, N, V, T) for x (C_in, N, V, T): ``forward`` in matrix products."""
        c, n, v, _ = x.shape
        convs = [cast(RefinedGraphConv, conv) for conv in self.convs]
        weight, bias = stacked([conv.conv1 for conv in convs] + [conv.conv2 for conv in convs])
        compared = torch.addmm(bias[:, None], weight.flatten(1), x.mean(dim=3).view(c, -1))
        p, q = compared.view(2, SUBSETS, -1, n, v)
        differences = torch.tanh(p.unsqueeze(-2) - q.unsqueeze(-1))  # (k, r, n, v, u)
        shared = self.PA.transpose(1, 2)[:, None, None].expand(-1, -1, n, -1, -1)
        right = torch.cat([differences, torch.ones_like(shared), shared], dim=1)
        left = torch.stack([conv.left(self.alpha) for conv in convs])
        weight, bias = stacked([conv.conv3 for conv in convs])
        y = refined_rows(x, weight.view(SUBSETS, -1, c), bias.view(SUBSETS, -1), left, right)
        if isinstance(self.down, nn.Sequential):
            convolution, norm = self.down
            (x,) = pointwise_rows(x, convolution)
            x = normed_rows(x, norm)
        return joined_rows([normed_rows(y, self.bn)], x)


class MultiScaleTemporalConv(nn.Module):
    """Four branches of C_out / 4 channels; ``rectify`` ends it by a ReLU, as PYSKL's does."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, rectify: bool = False):
        super().__init__()
        self.rectify = rectify
        part = out_channels // _BRANCHES

        def reduce(stride: int = 1) -> list[nn.Module]:
            return [nn.Conv2d(in_channels, part, 1, (stride, 1)), nn.BatchNorm2d(part)]

        pool = nn.MaxPool2d((3, 1), (stride, 1), (1, 0))
        self.branches = nn.ModuleList(
            nn.Sequential(*modules)
            for modules in (
                [*reduce(), nn.ReLU(inplace=True), TemporalConv(part, part, 5, stride, dilation=1)],
                [*reduce(), nn.ReLU(inplace=True), TemporalConv(part, part, 5, stride, dilation=2)],
                [*reduce(), nn.ReLU(inplace=True), pool, nn.BatchNorm2d(part)],
                reduce(stride),
            )
        )
        initialise_convolutions(self)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C_out, T / stride, V) for x (N, C_in, T, V)."""
        y = torch.cat([branch(x) for branch in self.branches], dim=1)
        return y.relu_() if self.rectify else y

    def rows(self, x: Tensor) -> list[Tensor]:
        """Return what the branches make of x (C_in, N, V, T): (C_out / 4, N, V, T / stride)."""
        narrow, wide, pooled, plain = (cast(Any, branch) for branch in self.branches)
        firsts = [narrow[0], wide[0], pooled[0]]
        if plain[0].stride == narrow[0].stride:
            a, b, c, d = pointwise_rows(x, *firsts, plain[0])
        else:
            (a, b, c), (d,) = pointwise_rows(x, *firsts), pointwise_rows(x, plain[0])
        a = narrow[3].rows(normed_rows(a, narrow[1], rectify=True))
        b = wide[3].rows(normed_rows(b, wide[1], rectify=True))
        c = normed_rows(c, pooled[1], rectify=True)
        c = normed_rows(largest_of_three(c, pooled[3].stride[0]), pooled[4])
        parts = [a, b, c, normed_rows(d, plain[1])]
        return [part.relu() for part in parts] if self.rectify else parts


class CTRGCNBlock(nn.Module):
    """ReLU(MS-TCN(GCN(x)) + residual(x)); no residual in the first block."""

    frames_first = False
    least_width = 0

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        layout: Layout,
        residual: bool,
        rectify: bool = False,
    ):
        super().__init__()
        self.gcn1 = ChannelGraphConv(in_channels, out_channels, layout, first=not residual)
        self.tcn1 = MultiScaleTemporalConv(out_channels, out_channels, stride, rectify)
        self.residual: nn.Module | None = nn.Identity() if residual else None
        if residual and (in_channels != out_channels or stride != 1):
            self.residual = TemporalConv(in_channels, out_channels, 1, stride)
            initialise_convolutions(self.residual)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C_out, T / stride, V) for x (N, C_in, T, V)."""
        y = self.tcn1(self.gcn1(x))
        return y.relu() if self.residual is None else (y + self.residual(x)).relu_()

    def by_products(self, x: Tensor) -> Tensor:
        """Return (C_out, N, V, T / stride) for x (C_in, N, V, T)."""
        parts = self.tcn1.rows(self.gcn1.rows(x))
        if isinstance(self.residual, TemporalConv):
            return joined_rows(parts, self.residual.rows(x))
        return joined_rows(parts, None if self.residual is None else x)


ctrgcn = partial(SkeletonGCN, "ctrgcn", CTRGCNBlock)
# That of PYSKL, whose temporal units end in a ReLU, for its checkpoints.
ctrgcn_pyskl = partial(SkeletonGCN, "ctrgcn-pyskl", partial(CTRGCNBlock, rectify=True))
