"""AGCN and CTR-GCN equation by equation, to be measured beside skelfew's.

One line of code an equation, a loop over the three subsets, every body of every clip computed,
no two convolutions joined. The state dict is that of skelfew's encoders.

Sources: Shi et al., CVPR 2019 (AGCN); Chen et al., ICCV 2021 (CTR-GCN).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelfew.data.joints.layouts import Layout
from skelfew.encoders.graph import SUBSETS, adjacency

# Input channels, output channels and temporal stride of the ten blocks.
BLOCKS = (
    (3, 64, 1), (64, 64, 1), (64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 128, 1),
    (128, 256, 2), (256, 256, 1), (256, 256, 1),
)  # fmt: skip


def conv_bn(before: int, after: int, stride: int = 1) -> nn.Sequential:
    """Return a 1x1 convolution and BatchNorm."""
    return nn.Sequential(nn.Conv2d(before, after, 1, (stride, 1)), nn.BatchNorm2d(after))


class PlainTemporalConv(nn.Module):
    """A convolution of ``kernel`` frames and BatchNorm."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, dilation: int = 1):
        super().__init__()
        pad = dilation * (kernel - 1) // 2
        self.conv = nn.Conv2d(
            before, after, (kernel, 1), (stride, 1), (pad, 0), dilation=(dilation, 1)
        )
        self.bn = nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) to (N, C', T', V)."""
        return self.bn(self.conv(x))


class AGCNUnit(nn.Module):
    """ReLU(BN(sum_k conv_d_k(x (A_k + PA_k + C_k))) + down(x))."""

    A: Tensor

    def __init__(self, before: int, after: int, skeleton: Tensor):
        super().__init__()
        self.register_buffer("A", skeleton, persistent=False)
        self.PA = nn.Parameter(torch.full_like(skeleton, 1e-6))
        embedded = after // 4
        self.conv_a = nn.ModuleList(nn.Conv2d(before, embedded, 1) for _ in range(SUBSETS))
        self.conv_b = nn.ModuleList(nn.Conv2d(before, embedded, 1) for _ in range(SUBSETS))
        self.conv_d = nn.ModuleList(nn.Conv2d(before, after, 1) for _ in range(SUBSETS))
        self.bn = nn.BatchNorm2d(after)
        self.down = nn.Identity() if before == after else conv_bn(before, after)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) to (N, C', T, V)."""
        total = torch.zeros(())
        for k in range(SUBSETS):
            theta, phi = self.conv_a[k](x), self.conv_b[k](x)
            size = theta.shape[1] * theta.shape[2]  # e * T
            likeness = torch.einsum("netv,netw->nvw", theta, phi) / size
            edges = self.A[k] + self.PA[k] + likeness.softmax(dim=1)
            total = total + self.conv_d[k](torch.einsum("nctv,nvw->nctw", x, edges))
        return F.relu(self.bn(total) + self.down(x))


class RefinedSubset(nn.Module):
    """z = sum_v (alpha conv4(tanh(p_u - q_v)) + PA_uv) conv3(x)_v."""

    def __init__(self, before: int, after: int, relations: int):
        super().__init__()
        self.conv1 = nn.Conv2d(before, relations, 1)
        self.conv2 = nn.Conv2d(before, relations, 1)
        self.conv3 = nn.Conv2d(before, after, 1)
        self.conv4 = nn.Conv2d(relations, after, 1)

    def forward(self, x: Tensor, shared: Tensor, alpha: Tensor) -> Tensor:
        """(N, C, T, V) to (N, C', T, V)."""
        p, q = self.conv1(x).mean(dim=2), self.conv2(x).mean(dim=2)
        differences = torch.tanh(p[:, :, :, None] - q[:, :, None, :])
        edges = alpha * self.conv4(differences) + shared
        return torch.einsum("ncuv,nctv->nctu", edges, self.conv3(x))


class CTRGCNUnit(nn.Module):
    """ReLU(BN(sum_k z_k) + down(x))."""

    def __init__(self, before: int, after: int, skeleton: Tensor):
        super().__init__()
        relations = 8 if before == 3 else before // 8
        self.PA, self.alpha = nn.Parameter(skeleton), nn.Parameter(torch.zeros(1))
        self.convs = nn.ModuleList(RefinedSubset(before, after, relations) for _ in range(SUBSETS))
        self.bn = nn.BatchNorm2d(after)
        self.down = nn.Identity() if before == after else conv_bn(before, after)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) to (N, C', T, V)."""
        total = torch.zeros(())
        for k in range(SUBSETS):
            total = total + self.convs[k](x, self.PA[k], self.alpha)
        return F.relu(self.bn(total) + self.down(x))


class MultiScale(nn.Module):
    """Four temporal branches side by side."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        part = after // 4
        pool = nn.MaxPool2d((3, 1), (stride, 1), (1, 0))
        self.branches = nn.ModuleList(
            (
                nn.Sequential(
                    *conv_bn(before, part), nn.ReLU(), PlainTemporalConv(part, part, 5, stride)
                ),
                nn.Sequential(
                    *conv_bn(before, part), nn.ReLU(), PlainTemporalConv(part, part, 5, stride, 2)
                ),
                nn.Sequential(*conv_bn(before, part), nn.ReLU(), pool, nn.BatchNorm2d(part)),
                conv_bn(before, part, stride),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) to (N, C', T', V)."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class PlainBlock(nn.Module):
    """ReLU(TCN(GCN(x)) + residual(x)); no residual in the first block."""

    def __init__(self, name: str, before: int, after: int, stride: int, skeleton: Tensor):
        super().__init__()
        if name == "agcn":
            self.gcn1: nn.Module = AGCNUnit(before, after, skeleton)
            self.tcn1: nn.Module = PlainTemporalConv(after, after, 9, stride)
        else:
            self.gcn1 = CTRGCNUnit(before, after, skeleton)
            self.tcn1 = MultiScale(after, after, stride)
        self.first = before == 3
        if not self.first:
            same = before == after and stride == 1
            self.residual = nn.Identity() if same else PlainTemporalConv(before, after, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) to (N, C', T', V)."""
        y = self.tcn1(self.gcn1(x))
        return F.relu(y if self.first else y + self.residual(x))


class Textbook(nn.Module):
    """Maps skeletons (N, 3, T, V, M) to features (N, 256), the mean over all M bodies."""

    def __init__(self, name: str, layout: Layout, bodies: int = 2):
        super().__init__()
        self.data_bn = nn.BatchNorm1d(bodies * len(layout) * 3)
        for i, (before, after, stride) in enumerate(BLOCKS, start=1):
            self.add_module(f"l{i}", PlainBlock(name, before, after, stride, adjacency(layout)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the features."""
        n, c, t, v, m = x.shape
        x = self.data_bn(x.permute(0, 4, 3, 1, 2).reshape(n, m * v * c, t))
        x = x.view(n, m, v, c, t).permute(0, 1, 3, 4, 2).reshape(n * m, c, t, v)
        for i in range(1, len(BLOCKS) + 1):
            x = self.get_submodule(f"l{i}")(x)
        return x.mean(dim=(2, 3)).view(n, m, -1).mean(dim=1)
