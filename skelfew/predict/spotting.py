"""Windows of a long recording that show taught actions, and the choice among them.

A window of any length is compared with every exemplar. Its distance to an action is the mean over
the two nearest exemplars, in the units of the action, how far its exemplars lie apart, so that one
threshold serves all actions; it grows where window and exemplar differ in length or in how fast
the body moves, which the features, scaled to one length, do not show. The segments reported are
those windows without overlap of the greatest sum of gains, found by dynamic programming (Hoai, Lan
and De la Torre, CVPR 2011, choose likewise): how far below the threshold a window is, times the
root of its length, less a price for each. A greedy choice prefers many short windows to the long
one that holds them; by length alone, a poor long window outweighs the good short ones that it
covers. The threshold is learned from a rehearsal: the support recordings joined to a long one, each
found by means of the others. The settings were chosen on UTD-MHAD (benchmarks/segments.py,
docs/decisions/segments.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from skelfew.predict.similarity import fair_scale, one_shot_scale
from skelfew.predict.windows import Span

LONGEST_RATIO = 2.0  # between the lengths of a window and of an exemplar
FAR = 1e3
_LENGTH_WEIGHT, _SPEED_WEIGHT = 0.5, 0.3  # of the squared logarithms of the ratios
_SECOND = 1.5  # an exemplar farther than this times the nearest counts as that
_ONE_SHOT = 0.6  # spread of an action with one exemplar, as a part of the distance of others
_LEAST_SPREAD = 0.25  # likewise: of exemplars that are nearly copies; windows never fit exactly
_PRICE = 0.1  # of a segment: the gain of the median exemplar at distance 0, times this
_USUAL, _USUALLY = 1.0, 0.35  # threshold before any rehearsal, and its deviation in logarithms
_ONE_EACH = 1.25  # threshold where no action has two exemplars
_THRESHOLDS = np.geomspace(0.4, 4, 17)
_SCORE = 0.05  # F1 by which a threshold must be better to weigh e times as much
_PASSES = 3  # in each of these every third action is not taught
_LEAST = 0.5  # intersection over union


@dataclass(frozen=True)
class Spotter:
    """Thresholds learned from a support set."""

    labels: Tensor  # action of each exemplar (S,), 0 .. N - 1.
    frames: Tensor  # length of each (S,), in frames of the long recording
    moved: Tensor  # how far the body moves in each (S,), see ``windows.travelled``
    spread: Tensor  # how far exemplars of each action lie apart (N,)
    threshold: float = _ONE_EACH  # windows of a greater distance show none of the actions
    scale: float = 1.0  # factor on the distances, which makes confidences of them

    @classmethod
    def learn(cls, apart: Tensor, labels: Tensor, frames: Tensor, moved: Tensor) -> "Spotter":
        """Learn all but the threshold from the distances between exemplars (S, S)."""
        apart, frames, moved = apart.double(), frames.double(), moved.double()
        same = labels[:, None] == labels[None]
        itself = torch.eye(len(labels), dtype=torch.bool)
        own = same & ~itself
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
        found = cls(labels, frames, moved, spread)
        near = found.to_actions(torch.where(itself, FAR, apart), frames, moved)
        rows = own.any(dim=1).nonzero().flatten()
        if len(rows):
            return replace(found, scale=fair_scale(-near[rows], labels[rows]))
        others = near.scatter(1, labels[:, None], torch.inf)
        return replace(found, scale=one_shot_scale(float(others[others < FAR].mean()), classes))

    def to_actions(self, apart: Tensor, frames: Tensor, moved: Tensor) -> Tensor:
        """Return distances (n, N) of windows to the actions, by those to exemplars (n, S)."""
        apart, frames = apart.double(), frames.double()
        ratio = (frames[:, None] / self.frames[None]).log()
        way = moved.double()[:, None].clamp(min=1e-6) / self.moved[None].clamp(min=1e-6)
        speed = (way.log() - ratio).clamp(-3, 3)
        weighed = apart * (1 + _LENGTH_WEIGHT * ratio**2 + _SPEED_WEIGHT * speed**2)
        weighed = torch.where(ratio.abs() <= np.log(LONGEST_RATIO) + 1e-9, weighed, FAR)
        near = []
        for c in range(len(self.spread)):
            mine = weighed[:, self.labels == c]
            two = mine.topk(min(2, mine.shape[1]), dim=1, largest=False).values
            near.append((two[:, 0] + two[:, -1].minimum(_SECOND * two[:, 0])) / 2)
        return torch.stack(near, dim=1) / self.spread

    def worth(self, distance: Tensor, frames: Tensor) -> Tensor:
        """Return how far below the threshold windows are, times the root of their length (n,)."""
        weight = (frames * float(self.frames.median())).double().sqrt()
        return (self.threshold - distance) * weight

    def gains(self, distance: Tensor, frames: Tensor) -> Tensor:
        """Return what reporting each window would be worth (n,); below 0 nothing."""
        price = _PRICE * self.threshold * float(self.frames.median())
        return self.worth(distance, frames) - price

    def rehearsed(
        self, near: Tensor, spans: Sequence[Span], truth: Sequence[tuple[int, int, int]]
    ) -> "Spotter":
        """Return this with the threshold that finds the actions of a rehearsal.

        A threshold weighs more the higher its F1 is, once with all actions and in turn without
        every third, and the nearer it is to a usual value.

        Args:
            near: Distances of windows of the rehearsal to the actions (n, N).
            spans: Start and end of the windows (n).
            truth: Start, end and action of each recording in it.
        """
        frames = torch.tensor([end - start for start, end in spans])
        counts = np.zeros((len(_THRESHOLDS), 2))
        for first in (None, *range(_PASSES)):
            unknown = range(0) if first is None else range(first, near.shape[1], _PASSES)
            distance, action = near.index_fill(1, torch.tensor(unknown).long(), FAR).min(dim=1)
            known = [one for one in truth if one[2] not in unknown]
            for count, threshold in zip(counts, _THRESHOLDS, strict=True):
                gains = replace(self, threshold=float(threshold)).gains(distance, frames)
                rows = best_without_overlap(spans, gains.numpy())
                right = hits([(*spans[row], int(action[row])) for row in rows], known)
                count += (2 * right, len(rows) + len(known))
        f1 = counts[:, 0] / counts[:, 1].clip(1)
        logs = np.log(_THRESHOLDS)
        weight = np.exp(f1 / _SCORE - ((logs - np.log(_USUAL)) / _USUALLY) ** 2 / 2)
        return replace(self, threshold=float(np.exp((weight * logs).sum() / weight.sum())))


def hits(found: Sequence[tuple[int, int, object]], truth: Sequence[tuple[int, int, object]]) -> int:
    """Return how many found segments (start, end, label) are right.

    The label fits and the intersection over union is at least 0.5; each true one counts once.
    """
    used: set[int] = set()
    for start, end, label in found:
        for i, (first, last, name) in enumerate(truth):
            both = max(0, min(end, last) - max(start, first))
            union = max(end, last) - min(start, first)
            if i not in used and name == label and both >= _LEAST * union:
                used.add(i)
                break
    return len(used)


def best_without_overlap(spans: Sequence[Span], gains: np.ndarray) -> list[int]:
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
