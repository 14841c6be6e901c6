"""Result of a few-shot classifier."""

from typing import NamedTuple

import torch
from torch import Tensor


class Scores(NamedTuple):
    """Logits (E, M, N) of queries; ``changed`` (E,) verdicts were others before tuning."""

    logits: Tensor
    changed: Tensor

    @classmethod
    def untuned(cls, logits: Tensor) -> "Scores":
        """Scores of a classifier that was not fine-tuned."""
        return cls(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))

    @classmethod
    def tuned(cls, before: Tensor, after: Tensor) -> "Scores":
        """Scores after fine-tuning, with the number of predictions it changed."""
        return cls(after, (before.argmax(dim=-1) != after.argmax(dim=-1)).sum(dim=-1))
