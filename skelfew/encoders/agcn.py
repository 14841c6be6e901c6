"""AGCN: graph convolution whose edges are learned and depend on the input.

Source: Shi et al., "Two-Stream Adaptive Graph Convolutional Networks for Skeleton-Based Action
Recognition", CVPR 2019; layer by layer as lshiwjx/2s-AGCN, model/agcn.py.
"""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from skelfew.data.joints.layouts import Layout
from skelfew.encoders.backbone import SkeletonGCN, TemporalConv, initialise_convolutions
from skelfew.encoders.fast.processor import normalised, on_processor, pointwise, product, stacked
from skelfew.encoders.graph import SUBSETS, adjacency


class AdaptiveGraphConv(nn.Module):
    """Sums, over three subsets k, features passed along the edges A_k + PA_k + C_k(x).

    A_k is the skeleton, PA_k is learned, C_k(x) compares the joints of one clip.
    """

    A: Tensor

    def __init__(self, in_channels: int, out_channels: int, layout: Layout):
        super().__init__()
        skeleton = adjacency(layout)
        self.register_buffer("A", skeleton, persistent=False)
        self.PA = nn.Parameter(torch.full_like(skeleton, 1e-6))
        self.embedding = out_channels // 4

        def branches(channels: int) -> nn.ModuleList:
            return nn.ModuleList(nn.Conv2d(in_channels, channels, 1) for _ in range(SUBSETS))

        self.conv_a, self.conv_b = branches(self.embedding), branches(self.embedding)
        self.conv_d = branches(out_channels)
        self.bn = nn.BatchNorm2d(out_channels)
        self.down: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.down = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels)
            )
        initialise_convolutions(self)
        for name, weight in self.conv_d.named_parameters():
            if name.endswith("weight"):
                spread = math.sqrt(2 / (out_channels * in_channels * SUBSETS))
                nn.init.normal_(weight, 0, spread)
        nn.init.constant_(self.bn.weight, 1e-6)  # the unit starts as its residual path

    def edges(self, x: Tensor) -> Tensor:
        """Return A_k + PA_k + C_k (N, 3, V, V) for x (N, C_in, T, V)."""
        # One convolution for all six embeddings; each joint's is a column of length e * T.
        embedded = self._pointwise(x, *stacked((*self.conv_a, *self.conv_b)))
        theta_phi = embedded.view(len(x), 2, SUBSETS, -1, x.shape[-1])
        theta, phi = theta_phi.unbind(dim=1)
        likeness = theta.transpose(-1, -2) @ phi / theta.shape[-2]
        return likeness.softmax(dim=-2) + (self.A + self.PA)

    @staticmethod
    def _pointwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return (product if on_processor(x) else torch.conv2d)(x, weight, bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C_out, T, V) for x (N, C_in, T, V)."""
        n, c, t, v = x.shape
        passed = x.reshape(n, 1, c * t, v) @ self.edges(x)
        # conv_d of the three subsets and their sum are one convolution over 3 * C_in channels.
        passed = passed.view(n, SUBSETS * c, t, v)
        mixed = self._pointwise(passed, *stacked(self.conv_d, dim=1))
        return (self.bn(mixed) + self.down(x)).relu_()

    def frames_first(self, x: Tensor) -> Tensor:
        """Return (T, N, V, C_out) for x (T, N, V, C_in): ``forward`` in matrix products."""
        t, n, v, c = x.shape
        weight, bias = stacked((*self.conv_a, *self.conv_b))
        embedded = torch.addmm(bias, x.view(-1, c), weight.flatten(1).T)
        # Each joint's embedding over all frames is a row (theta or phi, k, n, v).
        rows = embedded.view(t, n, v, 2 * SUBSETS, -1).permute(3, 1, 2, 0, 4)
        rows = rows.reshape(2, SUBSETS * n, v, -1)
        likeness: Tensor = _Likeness.apply(rows)
        edges = likeness.view(SUBSETS, n, v, v).softmax(dim=-2) + (self.A + self.PA).unsqueeze(1)
        # Row (w, k) of the left matrix has the weights of what joint w gets from the others, so the
        # product is already what conv_d of the three subsets, as one matrix, wants.
        left = edges.permute(1, 3, 0, 2).flatten(1, 2).expand(t, -1, -1, -1).flatten(0, 1)
        passed = torch.bmm(left, x.view(t * n, v, c)).view(-1, SUBSETS * c)
        weight, bias = stacked(self.conv_d, dim=1)
        mixed = torch.addmm(bias, passed, weight.flatten(1).T).view(t, n, v, -1)
        if isinstance(self.down, nn.Sequential):
            convolution, norm = self.down
            x = normalised(norm, pointwise(convolution, x))
        return (normalised(self.bn, mixed) + x).relu_()


class _Likeness(torch.autograd.Function):
    """theta phi^T / size of rows (2, B, V, size): by autograd, slices would be copied."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        return torch.bmm(rows[0], rows[1].transpose(1, 2)).div_(rows.shape[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (rows,) = ctx.saved_tensors
        found = torch.empty_like(rows)
        gradient = gradient / rows.shape[-1]
        torch.bmm(gradient, rows[1], out=found[0])
        torch.bmm(gradient.transpose(1, 2), rows[0], out=found[1])
        return found


class AGCNBlock(nn.Module):
    """ReLU(TCN(GCN(x)) + residual(x)); no residual in the first block."""

    frames_first = True  # see skelfew.encoders.fast.processor
    least_width = 64  # channels of the first block from which on that form is faster

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, layout: Layout, residual: bool
    ):
        super().__init__()
        self.gcn1 = AdaptiveGraphConv(in_channels, out_channels, layout)
        self.tcn1 = TemporalConv(out_channels, out_channels, 9, stride)
        initialise_convolutions(self.tcn1)
        self.residual: nn.Module | None = nn.Identity() if residual else None
        if residual and (in_channels != out_channels or stride != 1):
            self.residual = TemporalConv(in_channels, out_channels, 1, stride)
            initialise_convolutions(self.residual)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C_out, T / stride, V) for x (N, C_in, T, V)."""
        y = self.tcn1(self.gcn1(x))
        return (y if self.residual is None else y + self.residual(x)).relu_()

    def by_products(self, x: Tensor) -> Tensor:
        """Return (T / stride, N, V, C_out) for x (T, N, V, C_in)."""
        y = self.tcn1.frames_first(self.gcn1.frames_first(x))
        if self.residual is None:
            return y.relu()
        if isinstance(self.residual, TemporalConv):
            x = self.residual.frames_first(x)
        return (y + x).relu_()


agcn = partial(SkeletonGCN, "agcn", AGCNBlock)
