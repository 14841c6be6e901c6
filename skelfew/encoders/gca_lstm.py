"""GCA-LSTM with three ways to fuse parts of the body; rows of the one-shot table of NTU RGB+D 120.

Sources: Liu et al., "Skeleton-Based Human Action Recognition with Global Context-Aware Attention
LSTM Networks", TIP 2018, and Liu et al., "NTU RGB+D 120", TPAMI 2019. The layers follow the
authors' code of ST-LSTM, see there; the context, the fusions and what docs/training.md lists are a
reconstruction from descriptions, unverified.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelfew.data.joints.body_parts import body_parts
from skelfew.data.joints.layouts import Layout
from skelfew.encoders.encoder import SkeletonEncoder
from skelfew.encoders.stlstm import STLSTM, traversal, walked

Fusion = Literal["average", "fc", "attention"]
FUSIONS = get_args(Fusion)
_HIDDEN = 2  # as a multiple of ``base``: 128 at full width
_FRAMES = 3  # that a step reads
_DROPOUT = 0.5  # after each layer
_ITERATIONS = 2


class Attention(nn.Module):
    """Shares of places: softmax over them of w2 . tanh(W1 [f; context])."""

    def __init__(self, hidden: int):
        super().__init__()
        self.hidden = nn.Linear(2 * hidden, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, places: Tensor, context: Tensor) -> Tensor:
        """Return shares (N, K) that sum to 1, of places (N, K, H) in a context (N, H)."""
        both = torch.cat([places, context[:, None].expand_as(places)], dim=-1)
        return self.score(self.hidden(both).tanh())[..., 0].softmax(dim=1)


class SkeletonGCALSTM(SkeletonEncoder):
    """Two ST-LSTM layers, the second weighted twice by attention from a global context; parts.

    Sixteen joints come in the order of a walk along the bones and back, 31 steps, with three frames
    of all bodies at each. The first context is the mean of the first layer; shares of attention
    over all joints and frames depend on it and go into the second layer, whose mean gives the next
    context. A part's feature is the mean of the second layer over frames and its joints; the parts
    are fused by

    - ``average``: their mean;
    - ``fc``: a linear layer of all, side by side;
    - ``attention``: their sum weighted by ``Attention``, their mean as the context.

    What is new in a cell of the second layer counts by its share, one in a thousand or so; all
    means over that layer are therefore scaled to a mean square of 1.

    Args:
        layout: Its joints must belong to known parts, see ``skelfew.data.joints.body_parts``.
        width: Factor on the hidden width, 128.
        body_pool: Taken for the sake of the other encoders: one input has all bodies.
        feature_dim: Hidden width, a multiple of 8; None for the usual one.
        form: ``code``, or ``description`` as versions before the authors' code was followed: all
            joints, a frame a step, no dropout, and bodies one by one, joined by ``body_pool``.

    Attributes:
        feature_dim: D, 128 at full width.
        parts: Names of the parts, P of them.
    """

    part_weights: Tensor
    walk: Tensor

    def __init__(
        self,
        layout: Layout,
        channels: int = 3,
        bodies: int = 2,
        width: float = 1.0,
        body_pool: str = "mean",
        feature_dim: int | None = None,
        *,
        fusion: Fusion = "average",
        form: Literal["code", "description"] = "code",
    ):
        super().__init__(
            "gca-lstm", layout, channels, bodies, width, body_pool, feature_dim, {"fusion": fusion}
        )
        hidden = self.feature_dim = feature_dim or _HIDDEN * self.base
        self.together = form == "code"  # all bodies in one input
        walk = traversal(layout, walked(layout) if self.together else None)
        parts = {name: {*joints} & {*walk} for name, joints in body_parts(layout).items()}
        self.parts = tuple(parts)
        weights = torch.zeros(len(parts), len(walk))
        for p, joints in enumerate(parts.values()):
            for place, joint in enumerate(walk):
                if joint in joints:
                    weights[p, place] = 1 / (len(joints) * walk.count(joint))
        self.register_buffer("part_weights", weights, persistent=False)
        self.register_buffer("walk", torch.tensor(walk), persistent=False)
        inputs = _FRAMES * channels * bodies if self.together else channels
        self.first, self.second = STLSTM(inputs, hidden), STLSTM(hidden, hidden)
        self.dropout = nn.Dropout(_DROPOUT if self.together else 0.0)
        self.where = Attention(hidden)
        self.refine = nn.Linear(2 * hidden, hidden)
        self.fusion = fusion
        self.fc = nn.Linear(len(parts) * hidden, hidden) if fusion == "fc" else None
        self.which = Attention(hidden) if fusion == "attention" else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (N, D) of skeletons x (N, C, T, V, M)."""
        return self.pool(self.forward_features(x), x)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return parts by frame (N, 1, D, T / 3, P), of ``description`` those of all bodies."""
        self.check(x)
        if self.together:
            x = torch.cat([x, x[:, :, -1:].expand(-1, -1, -x.shape[2] % _FRAMES, -1, -1)], dim=2)
            x = x.unflatten(2, (-1, _FRAMES)).permute(0, 5, 3, 1, 2, 4)  # (N, M, 3, C, T', V)
            x = x.flatten(1, 3).unsqueeze(-1)
        bodies = x.permute(0, 4, 3, 2, 1)[:, :, self.walk]  # (N, M, J, T, C)
        h = self._second_layer(self.first(self.first.inputs(bodies.flatten(0, 1))))
        parts = torch.einsum("pj,njth->nhtp", self.part_weights, self.dropout(h))
        return parts.unflatten(0, bodies.shape[:2])

    def pool(self, maps: Tensor, x: Tensor) -> Tensor:
        """Return the features (N, D) of the parts by frame of skeletons x."""
        parts = _scaled(maps.mean(dim=3).transpose(2, 3))
        return self._over_bodies(self._fused(parts.flatten(0, 1)).unflatten(0, parts.shape[:2]), x)

    def forward_parts(self, x: Tensor) -> Tensor:
        """Return the parts (N, P, D), not fused."""
        maps = self.forward_features(x)
        return self._over_bodies(_scaled(maps.mean(dim=3).transpose(2, 3)), x)

    def forward_sequence(self, x: Tensor) -> Tensor:
        """Return the parts by frame (N, T', P, D), not fused."""
        return self._over_bodies(_scaled(self.forward_features(x).permute(0, 1, 3, 4, 2)), x)

    def _second_layer(self, h: Tensor) -> Tensor:
        """Return the second layer (N, J, T, H) over the first."""
        places = h.flatten(1, 2)
        context, gates = places.mean(dim=1), self.second.inputs(self.dropout(h))
        for _ in range(_ITERATIONS - 1):
            shares = self.where(places, context).view(h.shape[:3])
            seen = _scaled(self.second(gates, shares).mean(dim=(1, 2)))
            context = self.refine(torch.cat([seen, context], dim=1)).relu()
        return self.second(gates, self.where(places, context).view(h.shape[:3]))

    def _fused(self, parts: Tensor) -> Tensor:
        """Return the features (N, D) of parts (N, P, D)."""
        if self.fc is not None:
            return self.fc(parts.flatten(1))
        if self.which is not None:
            return (self.which(parts, parts.mean(dim=1))[..., None] * parts).sum(dim=1)
        return parts.mean(dim=1)

    def _over_bodies(self, values: Tensor, x: Tensor) -> Tensor:
        """Return the mean over bodies of values (N, M, ...), as ``body_pool`` has it."""
        present = None if self.together else self.present(x)
        if present is None:
            return values.mean(dim=1)
        weights = present.to(values) / present.sum(dim=1, keepdim=True)
        return torch.einsum("nm,nm...->n...", weights, values)


def _scaled(values: Tensor) -> Tensor:
    """Return values (..., D) with a mean square of 1; zeros stay zeros."""
    return F.normalize(values, dim=-1) * values.shape[-1] ** 0.5
