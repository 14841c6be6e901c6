"""Base class of AGCN, CTR-GCN and ST-GCN: input normalisation, ten blocks, pooling."""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from skelfew.data.joints.layouts import Layout
from skelfew.encoders.encoder import SkeletonEncoder
from skelfew.encoders.fast.channel_rows import normed_rows, pointwise_rows, temporal_rows
from skelfew.encoders.fast.processor import normalised, pays, pointwise
from skelfew.encoders.fast.temporal import temporal_convolution

# Output channels as multiples of the first block's, and temporal strides, of the ten blocks.
_MULTIPLES = (1, 1, 1, 1, 2, 2, 2, 4, 4, 4)
_STRIDES = (1, 1, 1, 1, 2, 1, 1, 2, 1, 1)

# Axes of (N, C, T, V) in the order of the faster forms, and back: with frames first or not.
_ORDERS = {True: ((2, 0, 3, 1), (1, 3, 0, 2)), False: ((1, 0, 3, 2), (1, 0, 3, 2))}

BlockBuilder = Callable[[int, int, int, Layout, bool], nn.Module]


class SkeletonGCN(SkeletonEncoder):
    """Ten graph-convolution blocks between an input BatchNorm and global average pooling.

    Modules are called as in the public checkpoints: ``data_bn``, ``l1`` ... ``l10``.

    Args:
        block: Makes one block from (in channels, out channels, stride, layout, residual).
        width: Factor on the number of channels (64 in the first block), rounded to a multiple
            of 8 and at least 8.
        body_pool: ``mean`` averages all M bodies, empty ones too, as the reference does;
            ``masked_mean`` leaves out bodies that are zero throughout the clip. Those are not
            computed at all, so they do not enter the blocks' BatchNorm statistics either. A clip
            without any body keeps its first.
        feature_dim: Width of the last block, a multiple of 8; None for the usual one.

    Attributes:
        feature_dim: D, 256 at full width.
        config: What ``skelfew.encoders.build_encoder`` needs to build this encoder again.
        fast: Whether blocks may take their faster form where they have one and it pays, equal to
            rounding; see ``skelfew.encoders.fast.processor``.
    """

    fast = True

    def __init__(
        self,
        name: str,
        block: BlockBuilder,
        layout: Layout,
        channels: int = 3,
        bodies: int = 2,
        width: float = 1.0,
        body_pool: str = "mean",
        feature_dim: int | None = None,
    ):
        super().__init__(name, layout, channels, bodies, width, body_pool, feature_dim)
        self.feature_dim = feature_dim or _MULTIPLES[-1] * self.base
        before = channels
        blocks: list[nn.Module] = []
        for i, (multiple, stride) in enumerate(zip(_MULTIPLES, _STRIDES, strict=True)):
            last = i == len(_MULTIPLES) - 1
            width_out = self.feature_dim if last else multiple * self.base
            blocks.append(block(before, width_out, stride, layout, i > 0))
            before = width_out
        self._blocks = self._compose(blocks)

    def _compose(self, blocks: list[nn.Module]) -> list[str]:
        """Add the input BatchNorm and the blocks; return the names of these."""
        self.data_bn = nn.BatchNorm1d(self.bodies * self.joints * self.channels)
        names = [f"l{i + 1}" for i in range(len(blocks))]
        for name, block in zip(names, blocks, strict=True):
            self.add_module(name, block)
        return names

    def compile(self, *args: object, **kwargs: object) -> None:
        """Hand each block, whose shapes are few, to torch.compile, in its plain form."""
        self.fast = False
        for name in self._blocks:
            self.get_submodule(name).compile(*args, **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (N, D) of skeletons x (N, C, T, V, M)."""
        self.check(x)
        present = self.present(x)
        pooled = self._run(x, present).mean(dim=(2, 3))
        if present is None:
            return pooled.unflatten(0, (len(x), self.bodies)).mean(dim=1)
        clip = present.nonzero()[:, 0]
        sums = pooled.new_zeros(len(x), self.feature_dim).index_add(0, clip, pooled)
        return sums / present.sum(dim=1, keepdim=True)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the feature maps (N, M, D, T / 4, V) of skeletons x; absent bodies are zero."""
        self.check(x)
        present = self.present(x)
        maps = self._run(x, present)
        if present is not None:
            maps = maps.new_zeros(present.numel(), *maps.shape[1:]).index_copy(
                0, present.flatten().nonzero()[:, 0], maps
            )
        return maps.unflatten(0, (len(x), self.bodies))

    def pool(self, maps: Tensor, x: Tensor) -> Tensor:
        """Return the features (N, D) of feature maps (N, M, D, T', V) of skeletons x."""
        bodies, present = maps.mean(dim=(3, 4)), self.present(x)
        if present is None:
            return bodies.mean(dim=1)
        return bodies.sum(dim=1) / present.sum(dim=1, keepdim=True)

    def forward_sequence(self, x: Tensor) -> Tensor:
        """Return the features (N, T', V, D) by frame and joint of skeletons x (N, C, T, V, M).

        The mean over bodies is that of ``forward``, which is the mean of this over T' and V.
        """
        maps = self.forward_features(x)
        present = self.present(x)
        if present is None:
            bodies = maps.mean(dim=1)
        else:
            bodies = maps.sum(dim=1) / present.sum(dim=1)[:, None, None, None]
        return bodies.permute(0, 2, 3, 1)

    def _run(self, x: Tensor, present: Tensor | None) -> Tensor:
        n, c, t, v, m = x.shape
        # data_bn has a weight for each body, joint and coordinate, the coordinate running fastest;
        # in ST-GCN bodies share theirs.
        x = self.data_bn(x.permute(0, 4, 3, 1, 2).reshape(-1, self.data_bn.num_features, t))
        x = x.view(n * m, v, c, t)
        if present is not None:
            x = x[present.flatten()]
        return self._through(x.permute(0, 2, 3, 1).contiguous())

    def _through(self, x: Tensor) -> Tensor:
        """Return what the blocks make of x (N, C, T, V)."""
        blocks: list[Any] = [self.get_submodule(name) for name in self._blocks]
        least = getattr(blocks[0], "least_width", math.inf)
        if self.fast and self.base >= least and pays(x, blocks[0].frames_first):
            there, back = _ORDERS[blocks[0].frames_first]
            x = x.permute(there).contiguous()
            for block in blocks:
                x = block.by_products(x)
            return x.permute(back)
        for block in blocks:
            x = block(x)
        return x


class EncoderWithClassifier(nn.Module):
    """An encoder of skeletons and the linear layer that the public checkpoints call ``fc``."""

    def __init__(self, encoder: SkeletonEncoder, classes: int):
        super().__init__()
        self.encoder = encoder
        self.fc = nn.Linear(encoder.feature_dim, classes)
        nn.init.normal_(self.fc.weight, 0, math.sqrt(2 / classes))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, classes) of skeletons x (N, C, T, V, M)."""
        return self.fc(self.encoder(x))


class TemporalConv(nn.Module):
    """A (kernel, 1) convolution along time and BatchNorm, (N, C_in, T, V) to (N, C_out, T', V)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, dilation: int = 1
    ):
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            (kernel, 1),
            (stride, 1),
            (dilation * (kernel - 1) // 2, 0),
            (dilation, 1),
        )
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the filtered features, not rectified."""
        return self.bn(self.conv(x))

    def rows(self, x: Tensor) -> Tensor:
        """Return (C_out, N, V, T') for x (C_in, N, V, T)."""
        if self.conv.kernel_size[0] == 1:
            (y,) = pointwise_rows(x, self.conv)
        else:
            y = temporal_rows(x, self.conv)
        return normed_rows(y, self.bn)

    def frames_first(self, x: Tensor) -> Tensor:
        """Return (T', N, V, C_out) for x (T, N, V, C_in); without dilation."""
        stride = self.conv.stride[0]
        if self.conv.kernel_size[0] == 1:
            return normalised(self.bn, pointwise(self.conv, x[::stride]))
        assert self.conv.bias is not None
        y = temporal_convolution(x, self.conv.weight, self.conv.bias, stride)
        return normalised(self.bn, y)


def initialise_convolutions(module: nn.Module) -> None:
    """Draw all 2D convolutions of ``module`` from He et al.'s normal (fan out); biases zero."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            nn.init.kaiming_normal_(child.weight, mode="fan_out")
            if child.bias is not None:
                nn.init.zeros_(child.bias)
