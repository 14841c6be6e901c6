"""JEANIE (Wang & Koniusz, 2022): a query is aligned with a class over time and over viewpoints.

The query is turned to a grid of views n; the exemplar is not. With d the cost of matching frame t
of view n with frame t' of the exemplar, a path moves on in time as in soft-DTW and at every step
to a neighbouring view or none:

    r_n,t,t' = d_n,t,t' + softmin_g{ r_n-i,t-j,t'-k : i in -1..1, (j, k) in (0, 1), (1, 0), (1, 1) }

A path may start and end in any view. The authors' code has no licence and was not run: this is
written from a description of it, so the head is UNVERIFIED against it.
"""

from typing import Annotated

import torch
from torch import Tensor

from skelfew.encoders.outputs import MOST_VIEWS, views_output
from skelfew.fewshot.head import Head
from skelfew.fewshot.softdtw import Cost, Prototype, frame_costs
from skelfew.fewshot.tuning import class_means
from skelfew.fields import Limit, Odd, Positive

_FAR = 1e30  # in place of infinity


def view_alignment(costs: Tensor, gamma: float) -> Tensor:
    """Return the soft minimum (*P) over all paths through time and views, of all pairs at once.

    Costs (T, S, A, B, *P): frame of the query, of the exemplar, two axes of views, pairs. With a
    single view it is ``soft_dtw``.
    """
    rows, columns = costs.shape[:2]
    x = costs / gamma
    outside = x.new_full((1, *x.shape[2:]), _FAR)
    # Row i + 1 of a diagonal is its cell i; what lies around it is far.
    before = last = torch.cat([outside] * (rows + 1))
    now = last
    for k in range(rows + columns - 1):
        low, high = max(0, k - columns + 1), min(rows - 1, k)
        i = torch.arange(low, high + 1, device=x.device)
        cells = x[i, k - i]
        if k:
            inside, above = slice(low + 1, high + 2), slice(low, high + 1)
            three = torch.stack((before[above], last[above], last[inside]))
            reached = torch.logsumexp(-three, dim=0)
            for dim in (1, 2):
                reached = _with_neighbours(reached, dim)
            cells = cells - reached
        now = torch.cat([outside] * (low + 1) + [cells] + [outside] * (rows - 1 - high))
        before, last = last, now
    return -gamma * torch.logsumexp(-now[rows], dim=(0, 1))


def _with_neighbours(x: Tensor, dim: int) -> Tensor:
    """Return the logarithm of the sum of exponentials of each entry and its two neighbours."""
    if x.shape[dim] == 1:
        return x
    edge = torch.full_like(x.narrow(dim, 0, 1), -_FAR)
    size = x.shape[dim]
    padded = torch.cat([edge, x, edge], dim=dim)
    return torch.stack([padded.narrow(dim, i, size) for i in range(3)]).logsumexp(dim=0)


Views = Annotated[int, Odd(MOST_VIEWS)]


class JEANIE(Head):
    """Minus the cost of aligning a query with the exemplar of each class over time and views.

    Args:
        yaws: Views about the vertical axis, an odd number; ``pitches`` about the horizontal one.
        degrees: Between neighbouring views; the middle view is the skeleton itself.
        cost: Of matching two frames: ``cosine``, 1 - cos, or ``euclidean``, squared.
        prototype: What K > 1 exemplars make of a class: their ``mean`` before any alignment, or
            the ``nearest``, the one that is aligned best.
    """

    def __init__(
        self,
        width: int = 0,
        *,
        yaws: Views = 5,
        pitches: Views = 1,
        degrees: Annotated[float, Limit(above=0, most=90, why="it must lie in (0, 90]")] = 15.0,
        gamma: Positive = 0.01,
        cost: Cost = "cosine",
        prototype: Prototype = "mean",
    ):
        super().__init__()
        self.yaws, self.pitches, self.gamma = yaws, pitches, gamma
        self.cost, self.prototype = cost, prototype
        self.reads = views_output(yaws, pitches, degrees)

    def forward(
        self, support: Tensor, query: Tensor, ways: int, classes: Tensor | None = None
    ) -> Tensor:
        """Return minus the costs over the number of frames, (E, M, N)."""
        episodes, count, views, frames, _ = query.shape
        rows = support[:, :, views // 2]  # exemplars are not turned
        if self.prototype == "mean":
            rows = class_means(rows, ways)
        costs = frame_costs(query.flatten(1, 2), rows, self.cost)  # (T, S, E * M * A * B * R)
        grid = (self.yaws, self.pitches)
        costs = costs.view(*costs.shape[:2], episodes * count, *grid, rows.shape[1])
        values = view_alignment(costs.permute(0, 1, 3, 4, 2, 5), self.gamma)
        values = values.view(episodes, count, -1) / frames
        if self.prototype == "nearest":
            values = values.unflatten(-1, (ways, -1)).amin(dim=-1)
        return -values
