"""Several runs as one classifier: their similarities, each by its own rule, summed in one unit.

The unit of a run is how much more similar exemplars are to their own class than to the others, on
average, so that a run whose features lie close together counts as much as any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from skelfew.fewshot import Classifier
from skelfew.fewshot.scores import Scores

_LEAST = 1e-6


@dataclass
class Joined:
    """Features of different shapes in one tensor; ``join`` notes the members' (*F)."""

    shapes: tuple[tuple[int, ...], ...] = ()

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Return features (n, *F) of the members as (n, sum of their sizes)."""
        self.shapes = tuple(tuple(part.shape[1:]) for part in parts)
        return torch.cat([part.flatten(1) for part in parts], dim=1)

    def split(self, values: Tensor) -> list[Tensor]:
        """Return the features (..., *F) of each member."""
        sizes = [torch.Size(shape).numel() for shape in self.shapes]
        parts = zip(values.split(sizes, dim=-1), self.shapes, strict=True)
        return [part.unflatten(-1, shape) for part, shape in parts]


def weighted(units: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """Return the mean of the members' values (..., n, N), each in its own unit (...)."""
    shares = torch.stack([1 / unit.clamp(min=_LEAST) for unit in units])
    shares = shares / shares.sum(dim=0)
    return (shares[..., None, None] * torch.stack([*values])).sum(dim=0)


def gap(alike: Tensor, own: Tensor) -> Tensor:
    """Return how much more similar exemplars (..., S, N) are to their own class (S,)."""
    inside = alike[..., torch.arange(len(own)), own].mean(dim=-1)
    classes = alike.shape[-1]
    return inside - (alike.mean(dim=(-2, -1)) * classes - inside) / (classes - 1)


@dataclass(frozen=True)
class Ensemble:
    """The weighted mean of the similarities of several runs, compared by ``rules``."""

    runs: tuple[str, ...]
    rules: tuple[Classifier, ...] = field(repr=False)
    joined: Joined = field(repr=False)

    reads: ClassVar[str] = "joined"

    @property
    def settings(self) -> dict[str, object]:
        """Return its description for a result document."""
        return {"runs": list(self.runs)}

    def scores(
        self, support: Tensor, query: Tensor, ways: int, classes: Tensor | None = None
    ) -> Scores:
        """Return the similarities (E, M, N) of joined features."""
        own = torch.arange(ways).repeat_interleave(support.shape[1] // ways)
        gaps, found = [], []
        for rule, s, q in zip(
            self.rules, self.joined.split(support), self.joined.split(query), strict=True
        ):
            gaps.append(gap(rule.scores(s, s, ways, classes).logits, own))
            found.append(rule.scores(s, q, ways, classes).logits)
        return Scores.untuned(weighted(gaps, found))
