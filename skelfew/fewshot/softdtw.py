"""Soft-DTW (Cuturi & Blondel, 2017) of many pairs of sequences at once, and a head of it.

    R_ij = D_ij + softmin_g(R_i-1,j-1, R_i-1,j, R_i,j-1),   softmin_g(a) = -g log sum exp(-a / g)

A cell depends on the two anti-diagonals before its own, so a step of the loop is one anti-diagonal
of all pairs. Pairs lie along the last axis: a diagonal of a (T, S, B) tensor is then a strided view
whose rows are contiguous.
"""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from skelfew.fewshot.head import Head
from skelfew.fewshot.tuning import EPS, class_means
from skelfew.fields import Positive

Cost = Literal["cosine", "euclidean"]
Prototype = Literal["mean", "nearest"]
_FAR = 1e30  # in place of infinity, whose differences would be no numbers
_LEAST = -115.0  # exponents; 2^-115 is nothing beside 1, and exp2 is slow where it underflows


def diagonal(x: Tensor, k: int, first: int, last: int) -> Tensor:
    """View of the cells (i, k - i), first <= i <= last, of a contiguous (T, S, B) tensor."""
    _, columns, pairs = x.shape
    offset = x.storage_offset() + (k + first * (columns - 1)) * pairs
    return x.as_strided((last - first + 1, pairs), ((columns - 1) * pairs, 1), offset)


class _SoftDTW(torch.autograd.Function):
    """Values (B,) of costs (T, S, B).

    All is computed in units of gamma * log 2, with powers of 2: on processors exp2 takes a third of
    the time of exp.
    """

    @staticmethod
    def forward(ctx: Any, given: Tensor, gamma: float) -> Tensor:
        rows, columns, pairs = given.shape
        costs, unit = given.new_empty(given.shape), gamma * math.log(2)
        torch.div(given, unit, out=costs)  # contiguous, whatever was given
        # Row i + 1 of a buffer is the cell i of a diagonal; row 0 lies outside.
        before, last, now = (costs.new_full((rows + 1, pairs), _FAR) for _ in range(3))
        before[0] = 0
        keep = ctx.needs_input_grad[0]
        # Shares of the three predecessors in the softmin of a cell.
        shares = [costs.new_zeros(rows + 1, columns + 1, pairs) for _ in range(3 * keep)]
        scratch = costs.new_empty(4, rows, pairs)
        for k in range(rows + columns - 1):
            low, high = max(0, k - columns + 1), min(rows - 1, k)
            inside, above = slice(low + 1, high + 2), slice(low, high + 1)
            three = (before[above], last[above], last[inside])  # (i-1,j-1), (i-1,j), (i,j-1)
            least, *weights = scratch[:, : high - low + 1].unbind()
            total = now[inside]
            if keep:
                torch.minimum(three[0], three[1], out=least)
                torch.minimum(least, three[2], out=least)
                for value, weight in zip(three, weights, strict=True):
                    torch.sub(least, value, out=weight).clamp_min_(_LEAST).exp2_()
                torch.add(weights[0], weights[1], out=total).add_(weights[2])
                for share, weight in zip(shares, weights, strict=True):
                    torch.div(weight, total, out=diagonal(share, k, low, high))
            else:  # which is the least does not matter, and its exponential is 1
                rest = scratch[1:3, : high - low + 1]
                torch.minimum(three[0], three[1], out=total)
                torch.maximum(three[0], three[1], out=rest[0])
                torch.minimum(total, three[2], out=least)
                torch.maximum(total, three[2], out=rest[1])
                torch.sub(least, rest, out=rest).clamp_min_(_LEAST).exp2_()
                torch.add(rest[0], rest[1], out=total).add_(1)
            torch.sub(least, total.log2_(), out=total).add_(diagonal(costs, k, low, high))
            before[0] = _FAR
            before, last, now = last, now, before
        if keep:
            ctx.save_for_backward(*shares)
        return last[rows] * unit

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        corner, up, left = ctx.saved_tensors
        rows, columns = corner.shape[0] - 1, corner.shape[1] - 1
        # How much the value changes with each cell; what lies outside changes nothing.
        change = torch.zeros_like(corner)
        change[rows - 1, columns - 1] = grads[0]
        for k in range(rows + columns - 3, -1, -1):
            low, high = max(0, k - columns + 1), min(rows - 1, k)
            here = diagonal(change, k, low, high)
            here += diagonal(change, k + 1, low + 1, high + 1) * diagonal(
                up, k + 1, low + 1, high + 1
            )
            here += diagonal(change, k + 1, low, high) * diagonal(left, k + 1, low, high)
            here += diagonal(change, k + 2, low + 1, high + 1) * diagonal(
                corner, k + 2, low + 1, high + 1
            )
        return change[:rows, :columns], None


def soft_dtw(costs: Tensor, gamma: float) -> Tensor:
    """Return the soft-DTW (B,) of costs (T, S, B); ``gamma`` towards 0 gives DTW."""
    return _SoftDTW.apply(costs, gamma)


def frame_costs(one: Tensor, other: Tensor, cost: str = "cosine") -> Tensor:
    """Return costs (T, S, E * P * Q) of frames (E, P, T, D), (E, Q, S, D): 1 - cos or squared."""
    if cost == "cosine":
        one, other = (F.normalize(x, dim=-1, eps=EPS) for x in (one, other))
    sides = one.flatten(1, 2), other.flatten(1, 2).transpose(1, 2)
    if cost == "cosine":
        start = sides[0].new_ones(())
        costs = torch.baddbmm(start, *sides, alpha=-1)
    else:
        squares = [_squares(x.flatten(1, 2)) for x in (one, other)]
        costs = torch.baddbmm(squares[1].unsqueeze(1), *sides, alpha=-2)
        costs = costs.add_(squares[0].unsqueeze(2))
    costs = costs.view(len(one), *one.shape[1:3], *other.shape[1:3])
    return costs.permute(2, 4, 0, 1, 3).flatten(2)


def _squares(x: Tensor) -> Tensor:
    """Squared lengths (...) of vectors (..., D), without a copy of them."""
    if x.requires_grad:  # the length has no gradient at 0
        return (x * x).sum(dim=-1)
    return torch.linalg.vector_norm(x, dim=-1).square()


def self_costs(x: Tensor, cost: str = "cosine") -> Tensor:
    """Return what matching frames of a sequence (E, P, T, D) with its own costs, (T, T, E * P)."""
    return frame_costs(x.flatten(0, 1)[:, None], x.flatten(0, 1)[:, None], cost)


def alignment(
    query: Tensor, rows: Tensor, gamma: float, cost: str = "cosine", divergence: bool = True
) -> Tensor:
    """Return the soft-DTW (E, M, R) of queries (E, M, T, D) with rows (E, R, S, D).

    ``divergence`` subtracts half of what each of the two is from itself (Blondel et al., 2021), so
    that it is 0 for equal ones; soft-DTW itself is below 0 there.
    """
    shape = (len(query), query.shape[1], rows.shape[1])
    values = soft_dtw(frame_costs(query, rows, cost), gamma).view(shape)
    if divergence:
        for x, dim in ((query, 2), (rows, 1)):
            own = soft_dtw(self_costs(x, cost), gamma).view(x.shape[:2])
            values = values - own.unsqueeze(dim) / 2
    return values


class SoftDTW(Head):
    """Minus the soft-DTW of a query with the exemplar of each class, frame by frame.

    Args:
        cost: Of matching two frames: ``cosine``, 1 - cos, or ``euclidean``, squared.
        divergence: Whether half the soft-DTW of each sequence with itself is subtracted.
        frame: What a frame is: ``joints``, the features of all joints one after the other, or
            ``mean``, their mean, which needs a 25th of the memory.
        prototype: What K > 1 exemplars make of a class: ``mean``, their mean before any alignment,
            as in the reference, or ``nearest``, the exemplar that is aligned best.
    """

    def __init__(
        self,
        width: int = 0,
        *,
        gamma: Positive = 0.01,
        cost: Cost = "cosine",
        divergence: bool = True,
        frame: Literal["joints", "mean"] = "joints",
        prototype: Prototype = "mean",
    ):
        super().__init__()
        self.gamma, self.cost, self.divergence, self.prototype = gamma, cost, divergence, prototype
        self.reads = "joints" if frame == "joints" else "frames"

    def forward(
        self, support: Tensor, query: Tensor, ways: int, classes: Tensor | None = None
    ) -> Tensor:
        """Return minus the soft-DTW values, (E, M, N)."""
        support, query = support.flatten(3), query.flatten(3)
        rows = class_means(support, ways) if self.prototype == "mean" else support
        values = alignment(query, rows, self.gamma, self.cost, self.divergence)
        if self.prototype == "nearest":
            values = values.unflatten(-1, (ways, -1)).amin(dim=-1)
        return -values
