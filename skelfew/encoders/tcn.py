"""TCN-Oneshot: dilated causal convolutions over features of a body; its last frame is the feature.

Sources: Sabater et al., "One-shot action recognition in challenging therapy scenarios", CVPR
Workshops 2021, and Bai, Kolter and Koltun, "An Empirical Evaluation of Generic Convolutional and
Recurrent Networks for Sequence Modeling", 2018, in the form that the package keras-tcn gives the
network. Written from descriptions.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelfew.data.joints.layouts import Layout
from skelfew.encoders.body_features import BodyFeatures
from skelfew.encoders.encoder import SkeletonEncoder
from skelfew.errors import SkelfewError

_KERNEL, _DROPOUT = 4, 0.2
_DILATIONS = (1, 2, 4) * 2  # two stacks
_FILTERS = 4  # as a multiple of ``base``


class CausalBlock(nn.Module):
    """Two dilated causal convolutions, each rectified, and the sum with what came in."""

    def __init__(self, before: int, after: int, dilation: int):
        super().__init__()
        self.padding = (_KERNEL - 1) * dilation
        self.conv1 = nn.Conv1d(before, after, _KERNEL, dilation=dilation)
        self.conv2 = nn.Conv1d(after, after, _KERNEL, dilation=dilation)
        self.dropout = nn.Dropout1d(_DROPOUT)  # drops whole channels
        self.residual: nn.Module = nn.Identity()
        if before != after:
            self.residual = nn.Conv1d(before, after, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (N, after, T) for the next block, and for the sum over all blocks."""
        y = x
        for conv in (self.conv1, self.conv2):
            y = self.dropout(conv(F.pad(y, (self.padding, 0))).relu())
        return (y + self.residual(x)).relu(), y


class SkeletonTCN(SkeletonEncoder):
    """One body's features by frame through six causal blocks; their outputs are added up.

    The feature is the sum at the last frame in which the body is there, scaled to length one.
    Nothing after that frame takes part; frames in which the body is absent count as zeros.

    Of several bodies one is read: of those that are there in most frames the one whose coordinates
    vary most; in training one at random of those that are there at all.

    Args:
        layout: Names the joints that ``BodyFeatures`` needs.
        channels: C, 3.
        width: Factor on the number of filters, 256.
        body_pool: Taken for the sake of the other encoders; one body is read either way.
        feature_dim: Number of filters, a multiple of 8; None for the usual one.
        axes: How a body is measured: see ``BodyFeatures``.

    Attributes:
        feature_dim: D, 256 at full width.
    """

    def __init__(
        self,
        layout: Layout,
        channels: int = 3,
        bodies: int = 2,
        width: float = 1.0,
        body_pool: str = "mean",
        feature_dim: int | None = None,
        *,
        axes: Literal["inverse", "unit"] = "inverse",
    ):
        super().__init__("tcn", layout, channels, bodies, width, body_pool, feature_dim)
        if channels != 3:
            raise SkelfewError(
                f"tcn measures bodies in space, but joints have {channels} values instead of x, y "
                "and z; use agcn or ctrgcn"
            )
        self.feature_dim = feature_dim or _FILTERS * self.base
        self.measure = BodyFeatures(layout, axes)
        before = [self.measure.size] + [self.feature_dim] * (len(_DILATIONS) - 1)
        self.blocks = nn.ModuleList(
            CausalBlock(channels_in, self.feature_dim, dilation)
            for channels_in, dilation in zip(before, _DILATIONS, strict=True)
        )
        for module in self.blocks.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (N, D), of length one, of skeletons x (N, 3, T, V, M)."""
        body = self._body(x, at_random=self.training)
        return _last(self._run(body), body)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the sums by frame (N, 1, D, T, 1) of skeletons x, of the body that tests read."""
        return self._run(self._body(x, at_random=False))[:, None, :, :, None]

    def pool(self, maps: Tensor, x: Tensor) -> Tensor:
        """Return the features (N, D) of the sums by frame of skeletons x."""
        return _last(maps[:, 0, :, :, 0], self._body(x, at_random=False))

    def forward_sequence(self, x: Tensor) -> Tensor:
        """Return the sums by frame (N, T, 1, D), of length one; a frame knows none after it."""
        sums = self._run(self._body(x, at_random=False))
        return F.normalize(sums, dim=1).transpose(1, 2)[:, :, None]

    def _body(self, x: Tensor, at_random: bool) -> Tensor:
        """Return the body that is read (N, T, V, 3)."""
        self.check(x)
        bodies = x.permute(0, 4, 2, 3, 1)  # (N, M, T, V, C)
        there = (bodies != 0).flatten(3).any(dim=3)  # (N, M, T)
        frames = there.sum(dim=2)
        if at_random:
            rank = torch.rand(frames.shape, device=x.device).masked_fill(frames == 0, -1)
        else:
            rank = _spread(bodies, there).masked_fill(frames < frames.amax(dim=1, keepdim=True), -1)
        return bodies[torch.arange(len(x), device=x.device), rank.argmax(dim=1)]

    def _run(self, body: Tensor) -> Tensor:
        """Return the sum of all blocks' outputs (N, D, T)."""
        y = self.measure(body).transpose(1, 2)
        total = y.new_zeros(())
        for block in self.blocks:
            y, output = block(y)
            total = total + output
        return total


def _spread(bodies: Tensor, there: Tensor) -> Tensor:
    """Return the variance of all coordinates of each body (N, M), absent frames left out."""
    weight = there[..., None, None].to(bodies)
    count = (there.sum(dim=2) * bodies[0, 0, 0].numel()).clamp(min=1)
    mean = (bodies * weight).sum(dim=(2, 3, 4)) / count
    return ((bodies - mean[..., None, None, None]).square() * weight).sum(dim=(2, 3, 4)) / count


def _last(sums: Tensor, body: Tensor) -> Tensor:
    """Return sums (N, D, T) at the last frame that a body (N, T, V, 3) is there, of length one."""
    there = (body != 0).flatten(2).any(dim=2)
    frame = torch.arange(there.shape[1], device=there.device)
    last = (frame * there).amax(dim=1)
    return F.normalize(sums[torch.arange(len(sums), device=sums.device), :, last], dim=1)
