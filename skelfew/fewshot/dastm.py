"""DASTM (Ma et al., 2022): soft-DTW on joints that look at the other sequence's, kept diverse.

Spatial activation mixes the joints of frame i of the one sequence by how they match those of frame
i of the other, before the two are aligned; RankMax keeps the joints of a frame from becoming alike.
"""

import math
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from skelfew.fewshot.head import Head
from skelfew.fewshot.softdtw import Cost, alignment, soft_dtw
from skelfew.fewshot.tuning import EPS, class_means
from skelfew.fields import Dropout, NotNegative, Positive


class CrossAttention(nn.Module):
    """One head of attention from the elements of a set to those of another, residual and norm.

    What is mixed are the set's own elements in the reference: as element v looks at element u of
    the other set, it takes in element u of its own. Names are those of the reference. ``dense``
    comes after the mixing, which is linear too, so it is applied to the values before: once a
    sequence instead of once a pair.

    Args:
        width: D.
        dropout: Of the attention and of the output.
        values: ``own``, or ``other`` to mix what is looked at.
    """

    def __init__(self, width: int, dropout: float = 0.2, values: str = "own"):
        super().__init__()
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.dense = nn.Linear(width, width), nn.Linear(width, width)
        self.LayerNorm = nn.LayerNorm(width, eps=1e-12)
        self.dropout, self.values = dropout, values

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Return ``one`` (..., V, D) after it has attended to ``other`` (..., V, D)."""
        scores = self.query(one) @ self.key(other).transpose(-1, -2) / math.sqrt(one.shape[-1])
        weights = F.dropout(scores.softmax(dim=-1), self.dropout, self.training)
        values = self.value(one if self.values == "own" else other)
        values = F.linear(values, self.dense.weight)
        mixed = F.dropout(weights @ values + self.dense.bias, self.dropout, self.training)
        attended: Tensor = self.LayerNorm(mixed + one)
        return attended


class SpatialActivation(nn.Module):
    """The two attentions: of the query to the class, and of the class to the query."""

    def __init__(self, width: int, dropout: float, values: str):
        super().__init__()
        self.of_query = CrossAttention(width, dropout, values)
        self.of_class = CrossAttention(width, dropout, values)


def rank_penalty(joints: Tensor) -> Tensor:
    """Return minus the mean over frames of RankMax's rank, for features (..., V, D); a scalar.

    The rank of a frame's matrix S, a softmax over D for each joint, is measured by the mean of its
    min(V, D) largest column norms, a quick stand-in for the nuclear norm.
    """
    shares = joints.softmax(dim=-1)
    norms = (shares.square().sum(dim=-2) + EPS).sqrt()
    largest = norms.topk(min(joints.shape[-2:]), dim=-1).values
    return -largest.mean()


class DASTM(Head):
    """Minus the soft-DTW of activated joints.

    Args:
        width: D; any.
        gamma: Softness of the alignment.
        cost: Of matching two frames, all joints one after the other: ``cosine`` or ``euclidean``.
        spatial: Whether there is spatial activation; with it the alignment is plain soft-DTW,
            without it half the soft-DTW of each sequence with itself is subtracted.
        rank: Weight of RankMax in training.
        dropout: Of the attention.
        values: What the attention mixes: ``own`` joints, as the reference does, or those of the
            ``other`` sequence, as cross-attention mostly does.
    """

    reads = "joints"
    learns = True

    def __init__(
        self,
        width: int,
        *,
        gamma: Positive = 0.01,
        cost: Cost = "cosine",
        spatial: bool = True,
        rank: NotNegative = 0.1,
        dropout: Dropout = 0.2,
        values: Literal["own", "other"] = "own",
    ):
        super().__init__()
        self.gamma, self.cost, self.spatial, self.rank = gamma, cost, spatial, rank
        # Without spatial activation it is idle.
        self.activation = SpatialActivation(width, dropout, values)

    def forward(
        self, support: Tensor, query: Tensor, ways: int, classes: Tensor | None = None
    ) -> Tensor:
        """Return minus the soft-DTW values, (E, M, N)."""
        rows = class_means(support, ways)
        if not self.spatial:
            return -alignment(query.flatten(3), rows.flatten(3), self.gamma, self.cost)
        active = self.activation.of_query(query[:, :, None], rows[:, None])
        of_classes = self.activation.of_class(rows[:, None], query[:, :, None])
        costs = _pair_costs(active.flatten(4), of_classes.flatten(4), self.cost)
        values = soft_dtw(costs.flatten(0, 2).permute(1, 2, 0), self.gamma)
        return -values.view(costs.shape[:3])

    def penalty(self, support: Tensor, query: Tensor, ways: int) -> Tensor | None:
        """Return the weighted RankMax terms of classes and queries."""
        if not self.rank:
            return None
        return self.rank * (rank_penalty(class_means(support, ways)) + rank_penalty(query))


def _pair_costs(one: Tensor, other: Tensor, cost: str) -> Tensor:
    """Costs (..., T, S) of matching the frames of pairs (..., T, D) and (..., S, D)."""
    if cost == "cosine":
        one, other = (F.normalize(x, dim=-1, eps=EPS) for x in (one, other))
        return 1 - one @ other.transpose(-1, -2)
    squares = one.square().sum(-1).unsqueeze(-1) + other.square().sum(-1).unsqueeze(-2)
    return (squares - 2 * one @ other.transpose(-1, -2)).clamp_min(0)
