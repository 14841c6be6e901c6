"""DASTM (Ma et al., 2022): soft-DTW on joints that look at the other sequence's, kept diverse.

Spatial activation mixes the joints of frame i of the one sequence by how they match those of frame
i of the other, before the two are aligned; RankMax keeps the joints of a frame from becoming alike.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelfew.fewshot.head import Head
from skelfew.fewshot.softdtw import Cost, alignment, soft_dtw
from skelfew.fewshot.tuning import EPS, class_means
from skelfew.fields import Dropout, NotNegative, Positive


class CrossAttention(nn.Module):
    """One head of attention from the elements of a set to those of another, residual and norm.

    What is mixed are the set's own elements in the reference: as element v looks at element u of
    the other set, it takes in element u of its own; ``values`` ``other`` mixes what is looked at.
    Names are those of the reference. Whatever is linear is applied where it costs least: ``dense``
    to the values before they are mixed, once a sequence instead of once a pair, and of the products
    of queries and keys both matrices to the side that has fewer sequences.
    """

    def __init__(self, width: int, dropout: float = 0.2, values: str = "own"):
        super().__init__()
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.dense = nn.Linear(width, width), nn.Linear(width, width)
        self.LayerNorm = nn.LayerNorm(width, eps=1e-12)
        self.dropout, self.own = dropout, values == "own"

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Return ``one`` (T, V, D) after it has attended to ``other`` (T, V, D)."""
        weights = self.weights(one[None], other[None])[:, 0, :, 0]
        values = self.values(one if self.own else other)
        return self.mix(weights[:, None], values[:, None], self.residual(one)[:, None])[:, 0]

    def weights(self, one: Tensor, other: Tensor) -> Tensor:
        """Return how each of P sequences (P, T, V, D) looks at each of R, (T, P, V, R, V)."""
        constant = None  # the key's bias adds the same to all that an element looks at
        if len(one) > len(other):
            product, bias = self.query.weight.T @ self.key.weight, self.key.bias @ self.query.weight
            left, right = one, F.linear(other, product, bias)
            constant = other @ (self.query.bias @ self.key.weight)
        else:
            product, bias = self.key.weight.T @ self.query.weight, self.query.bias @ self.key.weight
            left, right = F.linear(one, product, bias), other
        left, right = (x.transpose(0, 1).flatten(1, 2) for x in (left, right))
        if constant is None:
            scores = left @ right.mT
        else:
            scores = torch.baddbmm(constant.transpose(0, 1).flatten(1)[:, None], left, right.mT)
        joints = one.shape[2]
        scores = scores.unflatten(2, (-1, joints)).unflatten(1, (-1, joints))
        weights = (scores / math.sqrt(one.shape[-1])).softmax(dim=-1)
        return F.dropout(weights, self.dropout, self.training)

    def values(self, x: Tensor) -> Tensor:
        """Return what is mixed of elements (..., D); after training less its mean over D."""
        weight = self.dense.weight @ self.value.weight, self.dense.weight @ self.value.bias
        return F.linear(x, *(w if self.training else w - w.mean(dim=0) for w in weight))

    def residual(self, x: Tensor) -> Tensor:
        """Return what is added to it (..., D), likewise; after training with the bias of both."""
        if self.training:
            return x
        x = x + self.dense.bias
        return x - x.mean(dim=-1, keepdim=True)

    def mix(
        self, weights: Tensor, values: Tensor, one: Tensor, out: Tensor | None = None
    ) -> Tensor:
        """Return the elements after attention, (T, N, V, D).

        ``weights`` (T, N, V, V) of N pairs weigh ``values`` (T, N or 1, V, D); ``one`` is
        ``residual`` of the elements, likewise; ``out``, without gradients, is where to write it:
        new memory is slow.
        """
        sides = [weights.flatten(0, 1), values.flatten(0, 1)]
        if values.shape[1] == 1:
            sides[0] = weights.flatten(1, 2)
        place = None if out is None else out.view(len(sides[0]), -1, out.shape[-1])
        mixed = torch.bmm(*sides, out=place).view(*weights.shape[:3], -1)
        norm = self.LayerNorm
        if self.training:
            out = F.dropout(mixed + self.dense.bias, self.dropout) + one
        else:
            out = mixed.add_(one)
        if self.training or torch.is_grad_enabled():
            return norm(out)
        # The mean is 0: the rest in place takes a third of the time of torch's LayerNorm.
        variance = torch.linalg.vector_norm(out, dim=-1, keepdim=True).square_() / out.shape[-1]
        out *= (variance + norm.eps).rsqrt_()
        return torch.addcmul(norm.bias, out, norm.weight, out=out)


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
        cost: Of matching two frames, all joints one after the other: ``cosine`` or ``euclidean``.
        spatial: Whether there is spatial activation; with it the alignment is plain soft-DTW,
            without it half the soft-DTW of each sequence with itself is subtracted.
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
        values = [self._align(*pair) for pair in zip(query, rows, strict=True)]
        return -torch.stack(values)

    def _align(self, query: Tensor, rows: Tensor) -> Tensor:
        """Soft-DTW (M, N) of queries (M, T, V, D) with the classes (N, T, V, D) of one episode."""
        of_query, of_class = self.activation.of_query, self.activation.of_class
        looks = of_query.weights(query, rows).permute(1, 0, 3, 2, 4)  # (M, T, N, V, V)
        looked = of_class.weights(rows, query).permute(3, 0, 1, 2, 4)
        own = of_query.own
        of_each = (of_query if own else of_class).values(query)
        of_all = (of_class if own else of_query).values(rows).transpose(0, 1).contiguous()
        beside, costs = of_class.residual(rows).transpose(0, 1).contiguous(), []
        spare = [None if torch.is_grad_enabled() else beside.new_empty(beside.shape) for _ in "12"]
        for m, joints in enumerate(query):
            values = (of_each[m][:, None], of_all)[:: 1 if own else -1]
            one = of_query.mix(looks[m], values[0], of_query.residual(joints)[:, None], spare[0])
            other = of_class.mix(looked[m], values[1], beside, spare[1])
            one, other = (x.transpose(0, 1).flatten(2) for x in (one, other))
            costs.append(_pair_costs(one, other, self.cost))
        together = torch.stack(costs, dim=-1).permute(1, 2, 3, 0).flatten(2)
        return soft_dtw(together, self.gamma).view(len(query), len(rows))

    def penalty(self, support: Tensor, query: Tensor, ways: int) -> Tensor | None:
        """Return the weighted RankMax terms of classes and queries."""
        if not self.rank:
            return None
        return self.rank * (rank_penalty(class_means(support, ways)) + rank_penalty(query))


def _pair_costs(one: Tensor, other: Tensor, cost: str) -> Tensor:
    """Costs (..., T, S) of matching the frames of pairs (..., T, D) and (..., S, D)."""
    products = one @ other.transpose(-1, -2)
    lengths = [torch.linalg.vector_norm(x, dim=-1) for x in (one, other)]
    if cost == "cosine":
        sides = [x.clamp_min(EPS) for x in lengths]
        return 1 - products / sides[0].unsqueeze(-1) / sides[1].unsqueeze(-2)
    squares = lengths[0].square().unsqueeze(-1) + lengths[1].square().unsqueeze(-2)
    return (squares - 2 * products).clamp_min(0)
