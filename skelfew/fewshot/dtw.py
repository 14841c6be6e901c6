"""Dynamic time warping of many pairs of clips at once: the classifier that needs no training.

A cell of the table depends on two anti-diagonals, as in ``skelfew.fewshot.softdtw``; only cells in
a band around the diagonal are visited (Sakoe & Chiba, 1978).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from skelfew.fewshot.scores import Scores
from skelfew.fewshot.softdtw import diagonal, frame_costs
from skelfew.fields import Count, Share, validate

_FAR = 1e30
_BLOCK_VALUES = 1 << 23  # costs that are kept at once
_ROWS = 64  # clips that are compared with all later ones at once


def dtw(costs: Tensor, band: int) -> Tensor:
    """Return the least cost (B,) of a path through costs (T, S, B), ``band`` frames apart."""
    rows, columns, pairs = costs.shape
    band = max(band, abs(rows - columns), 1)
    costs = costs.contiguous()
    # Row i + 1 of a buffer is the cell i of an anti-diagonal; row 0 lies outside.
    before, last, now = (costs.new_full((rows + 2, pairs), _FAR) for _ in range(3))
    before[0] = 0
    for k in range(rows + columns - 1):
        low = max(0, k - columns + 1, (k - band + 1) // 2)
        high = min(rows - 1, k, (k + band) // 2)
        inside, above = slice(low + 1, high + 2), slice(low, high + 1)
        total = now[inside]
        torch.minimum(before[above], last[above], out=total)
        torch.minimum(total, last[inside], out=total)
        total += diagonal(costs, k, low, high)
        now[low] = now[high + 2] = before[0] = _FAR
        before, last, now = last, now, before
    return last[rows]


def plain_dtw(costs: Tensor, band: int) -> Tensor:
    """Return what ``dtw`` does, cell by cell without writing in place: for exported graphs."""
    rows, columns = costs.shape[:2]
    band = max(band, abs(rows - columns), 1)
    cells: dict[tuple[int, int], Tensor] = {}
    for i in range(rows):
        for j in range(max(0, i - band), min(columns, i + band + 1)):
            earlier = [cells[c] for c in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if c in cells]
            total = costs[i, j]
            if earlier:
                least = earlier[0]
                for other in earlier[1:]:
                    least = torch.minimum(least, other)
                total = total + least
            cells[i, j] = total
    return cells[rows - 1, columns - 1]


@dataclass(frozen=True, kw_only=True)
class DTW:
    """The class of the nearest exemplars, by dynamic time warping of clips scaled to length one.

    The similarity of two clips is 1 - d / 2, d the squared distance along the best path; without
    warping it would be their cosine.
    """

    band: Share = 0.25  # how far frames that are matched may be apart, as a share of the clip
    # Over how many of the K exemplars of a class, the nearest, the mean is taken
    nearest: Count = 2

    reads: ClassVar[str] = "clips"

    def __post_init__(self) -> None:
        validate(self)

    def scores(
        self, support: Tensor, query: Tensor, ways: int, classes: Tensor | None = None
    ) -> Scores:
        """Return the similarities of queries (E, M, P, T, D) to the classes, (E, M, N)."""
        return self.to_classes(self.similarities(support, query), ways)

    def to_classes(self, alike: Tensor, ways: int) -> Scores:
        """Return the similarities to classes, from those to their exemplars (E, M, N * K)."""
        alike = alike.unflatten(-1, (ways, -1))
        best = alike.topk(min(self.nearest, alike.shape[-1]), dim=-1).values
        return Scores.untuned(best.mean(dim=-1))

    def of_pairs(self, clips: Tensor) -> Tensor:
        """Return the similarities (n, n) of clips (n, P, T, D) to each other, each pair once."""
        alike = clips.new_empty(len(clips), len(clips))
        for rows in torch.arange(len(clips)).split(_ROWS):
            start, end = int(rows[0]), int(rows[-1]) + 1
            some = self.similarities(clips[None, rows], clips[None, start:])[0]
            alike[start:, start:end], alike[start:end, start:] = some, some.T
        return alike

    def similarities(self, support: Tensor, query: Tensor, plain: bool = False) -> Tensor:
        """Return the similarity (E, M, R) of queries (E, M, P, T, D) and exemplars (E, R, P, T, D).

        Each of the P parts is warped by itself; ``plain`` is the form that can be exported.
        """
        support, query = (_unit(x) for x in (support, query))
        e, r, parts, frames, _ = support.shape
        band, run = int(self.band * frames), plain_dtw if plain else dtw
        block = max(1, _BLOCK_VALUES // (e * r * frames * query.shape[3]))
        found = []
        for some in query.split(block, dim=1):
            total = sum(
                run(frame_costs(some[:, :, p], support[:, :, p], "euclidean"), band)
                for p in range(parts)
            )
            assert isinstance(total, Tensor)
            found.append(1 - total.view(e, some.shape[1], r) / 2)
        return torch.cat(found, dim=1)


def _unit(x: Tensor) -> Tensor:
    """Return clips (E, M, P, T, D) of length one."""
    return F.normalize(x.flatten(2), dim=-1).view(x.shape)
