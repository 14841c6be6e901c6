"""Windows of a long recording that show taught actions, and the choice among them.

A window of any length is compared with every exemplar. Its distance to an action is that to the
nearest exemplar in the units of the action, how far its exemplars lie apart, so that one threshold
serves all actions; it grows where window and exemplar differ in length, and where the second
nearest action is hardly farther (the ratio of distances of Mendes Junior et al., Machine Learning
106, 2017). The segments reported are those windows without overlap of the greatest sum of gains:
length times how far below the threshold, less a price for each (Hoai, Lan and De la Torre, CVPR
2011, choose likewise), found by dynamic programming. A greedy choice prefers many short windows to
the long one that holds them. The settings were chosen on UTD-MHAD (benchmarks/segments.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from skelfew.predict.similarity import fair_scale, one_shot_scale

LONGEST_RATIO = 2.0  # between the lengths of a window and of an exemplar
_LENGTH_WEIGHT = 1.0  # of the squared logarithm of that ratio
_RATIO_POWER = 0.5  # of the distances of the nearest and the second nearest action
_RATIO = 2 / 3  # at which that changes nothing
_RATIO_LIMITS = (1 / 3, 1.5)
_USUAL = 1.25  # threshold where the support says nothing; where it says something, half of it
_ONE_SHOT = 0.6  # spread of an action with one exemplar, as a part of the distance of others
_LEAST_SPREAD = 0.25  # likewise: of exemplars that are nearly copies; windows never fit exactly
_PRICE = 0.2  # of a segment: the gain of the median exemplar at distance 0, times this
_FAR = 1e3


@dataclass(frozen=True)
class Spotter:
    """Thresholds learned from a support set."""

    labels: Tensor  # action of each exemplar (S,), 0 .. N - 1.
    frames: Tensor  # length of each (S,), in frames of the long recording
    spread: Tensor  # how far exemplars of each action lie apart (N,)
    threshold: float  # windows of a greater distance show none of the actions
    scale: float = 1.0  # factor on the distances, which makes confidences of them

    @classmethod
    def learn(cls, apart: Tensor, labels: Tensor, frames: Tensor) -> "Spotter":
        """Learn from the distances between exemplars (S, S), their actions and lengths (S,)."""
        apart, frames = apart.double(), frames.double()
        same = labels[:, None] == labels[None]
        own = same & ~torch.eye(len(labels), dtype=torch.bool)
        classes = int(labels.max()) + 1
        inside: Tensor = torch.full((classes,), torch.nan, dtype=torch.float64)
        for c in labels.unique().tolist():
            pairs = own & (labels == c)[:, None]
            if pairs.any():
                inside[c] = apart[pairs].mean()
        elsewhere = float(torch.where(same, torch.inf, apart).amin(dim=1).median())
        if inside.isnan().all():
            inside[:] = _ONE_SHOT * elsewhere
        usual = inside.nanmean()
        spread = (inside.nan_to_num(float(usual)) + usual) / 2
        spread = spread.clamp(min=max(_LEAST_SPREAD * elsewhere, 1e-9))
        found = cls(labels, frames, spread, _USUAL)
        left = torch.where(torch.eye(len(apart), dtype=torch.bool), _FAR, apart)
        near = found.to_actions(left, frames)  # each without itself
        others = near.scatter(1, labels[:, None], torch.inf)
        rows = own.any(dim=1).nonzero().flatten()
        if not len(rows):
            far = float(others[others < _FAR].mean())
            return replace(found, scale=one_shot_scale(far, classes))
        mine = near[rows, labels[rows]]
        known = mine * _crowding(mine, others[rows].amin(dim=1))
        unknown = found.nearest(others)[0] if classes > 2 else others.amin(dim=1)
        low, high = (max(float(x.std(correction=0)), 1e-3) for x in (known, unknown))
        between = (float(known.mean()) * high + float(unknown.mean()) * low) / (low + high)
        threshold = (min(between, 2 * _USUAL) + _USUAL) / 2
        return replace(found, threshold=threshold, scale=fair_scale(-near[rows], labels[rows]))

    def to_actions(self, apart: Tensor, frames: Tensor) -> Tensor:
        """Return distances (n, N) of windows to the actions, by those to exemplars."""
        apart, frames = apart.double(), frames.double()
        ratio = (frames[:, None] / self.frames[None]).log().abs()
        weighed = apart * (1 + _LENGTH_WEIGHT * ratio**2)
        weighed = torch.where(ratio <= np.log(LONGEST_RATIO) + 1e-9, weighed, _FAR)
        near = weighed.new_full((len(apart), len(self.spread)), _FAR)
        index = self.labels[None].expand_as(weighed)
        return near.scatter_reduce(1, index, weighed, "amin") / self.spread

    def nearest(self, near: Tensor) -> tuple[Tensor, Tensor]:
        """Return the distance to the nearest action (n,), and which that is (n,)."""
        if near.shape[1] == 1:
            return near[:, 0], torch.zeros(len(near), dtype=torch.int64)
        two = near.topk(2, dim=1, largest=False)
        first, second = two.values.unbind(dim=1)
        return first * _crowding(first, second), two.indices[:, 0]

    def gains(self, distance: Tensor, frames: Tensor) -> Tensor:
        """Return what reporting each window would be worth (n,); below 0 nothing."""
        price = _PRICE * self.threshold * float(self.frames.median())
        return (self.threshold - distance) * frames - price


def _crowding(first: Tensor, second: Tensor) -> Tensor:
    """Return a factor on the nearest distance: above 1 where another action is as near."""
    ratio = (first / second.clamp(min=1e-12)).clamp(*_RATIO_LIMITS)
    return (ratio / _RATIO) ** _RATIO_POWER


def best_without_overlap(spans: Sequence[tuple[int, int]], gains: np.ndarray) -> list[int]:
    """Return which spans, none overlapping another, have the greatest sum of gains (n,), in order.

    Weighted interval scheduling by dynamic programming, O(n log n); a gain of 0 is never chosen.
    """
    order = [int(i) for i in np.argsort([end for _, end in spans], kind="stable") if gains[i] > 0]
    ends = [spans[i][1] for i in order]
    before = np.searchsorted(ends, [spans[i][0] for i in order], side="right")
    best, taken = [0.0], []
    for place, i in enumerate(order):
        with_it = best[before[place]] + float(gains[i])
        taken.append(with_it > best[place])
        best.append(max(with_it, best[place]))
    chosen, place = [], len(order)
    while place:
        if taken[place - 1]:
            chosen.append(order[place - 1])
            place = int(before[place - 1])
        else:
            place -= 1
    return chosen[::-1]
