"""Collapse monitor: has the target become the same for everyone?

A collapsed BYOL has a perfect loss, so the loss cannot tell. What tells is the spread of the
normalised projections over a batch: 1 / sqrt(D) per dimension when they point everywhere, 0
when they all agree.
"""

import math

import torch
from torch import Tensor

from skelfew.errors import SkelfewError


class CollapseError(SkelfewError):
    """Training stopped because the targets no longer differ."""


def spread(vectors: Tensor) -> Tensor:
    """Return the standard deviation over the batch of unit vectors (N, D), mean over D: scalar."""
    return vectors.detach().float().std(dim=0).mean()


def effective_rank(vectors: Tensor) -> float:
    """Return exp(entropy) of the covariance spectrum of vectors (N, D): 1 to min(N - 1, D).

    Source: Roy and Vetterli, "The Effective Rank", EUSIPCO 2007. Identical vectors give 0.
    """
    centred = vectors.detach().double() - vectors.detach().double().mean(dim=0)
    power = torch.linalg.svdvals(centred).square()
    total = float(power.sum())
    if total <= 1e-20:
        return 0.0
    p = power[power > 0] / total
    return math.exp(float(-(p * p.log()).sum()))


def check_collapse(
    target_spread: float, initial: float, share: float, epoch: int, stage: str = "transfer"
) -> None:
    """Raise CollapseError if the targets' spread fell below ``share`` of ``initial``."""
    if target_spread < share * initial:
        raise CollapseError(
            f"{stage} collapsed in epoch {epoch}: the spread of the targets fell from "
            f"{initial:.4f} to {target_spread:.6f}, below {share:g} of its first value. Nearly "
            "all targets are the same now, so a small loss says nothing. Use --preset "
            "recommended, a smaller --lr, or adamw or sgd instead of adam with weight decay "
            "(docs/paper-notes.md says why)"
        )


def check_predictions(
    prediction_spread: float, target_spread: float, share: float, epoch: int, stage: str
) -> None:
    """Raise CollapseError if predictions of targets that do not move have become the same.

    Spreads are those of normalised vectors, mean of the epoch's batches; a share of 0 never raises.
    """
    if prediction_spread < share * target_spread:
        raise CollapseError(
            f"{stage} collapsed in epoch {epoch}: the spread of the predictions is "
            f"{prediction_spread:.6f}, below {share:g} of the targets' {target_spread:.4f}. Every "
            "sample gets nearly the same prediction, so the encoder has learned nothing of the "
            f"teacher. Use a smaller or larger --lr, or let it go on with --set {stage}.collapse=0"
        )
