"""Fine-tuning the classifiers of many episodes at once, with gradients written out.

A classifier that starts at its support features never leaves their span: every gradient is a
combination of the points it is computed at. So weights are kept as coefficients of a basis; with
the N * K support features as basis, a step costs O((N * K)^2) instead of O(N * K * D), and the
features themselves are needed only before (their inner products) and after (the queries').
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from skelfew.data.episodes import episode_labels
from skelfew.fields import Limit, Positive, validate

EPS = 1e-12
EntropyOn = Literal["support", "query"]


@dataclass(frozen=True)
class Tuning:
    """Full-batch SGD on the support set (Lu et al., Sec. IV-C and Eq. 4)."""

    steps: int = 20  # number of steps, 20 in the paper
    lr: float = 5e-4  # 5e-4 in the paper, at which hardly a prediction changes (docs/evaluation.md)
    momentum: float = 0.9  # not stated in the paper; that of its episodic training
    weight_decay: float = 1e-4  # likewise; added to the gradient
    entropy: float = 1.0  # weight of the mean entropy of the predictions, in nats; 1 in Eq. 4.
    # ``support`` (the paper), or ``query``, which makes a transductive classifier
    entropy_on: EntropyOn = "support"

    @property
    def transductive(self) -> bool:
        """Whether the unlabelled queries take part."""
        return self.steps > 0 and self.entropy != 0 and self.entropy_on == "query"


@dataclass(frozen=True, kw_only=True)
class TunedClassifier:
    """Interface of a classifier that can be fine-tuned on its support set; see ``Tuning``."""

    tune_steps: Annotated[int, Limit(least=0)] = 20
    lr: Positive = 5e-4
    entropy: float = 1.0
    entropy_on: EntropyOn = "support"

    def __post_init__(self) -> None:
        validate(self)

    @property
    def tuning(self) -> Tuning:
        """Settings of fine-tuning."""
        return Tuning(self.tune_steps, self.lr, entropy=self.entropy, entropy_on=self.entropy_on)

    @property
    def transductive(self) -> bool:
        """Whether the unlabelled queries take part in fine-tuning."""
        return self.tuning.transductive


@dataclass(frozen=True)
class Basis:
    """Points x_1..x_P that a loss is computed at, in terms of a basis b_1..b_R."""

    inner: Tensor  # (E, R, P), inner products of basis vectors and points
    # (E, P, R), the points as combinations of the basis; None if they are the basis
    points: Tensor | None
    norms: Tensor  # (E, P), lengths of the points

    @classmethod
    def of(cls, support: Tensor, query: Tensor | None) -> "Basis":
        """Basis for supports (E, S, D), and queries (E, M, D) if they take part."""
        if query is None:
            norms = support.norm(dim=-1).clamp_min(EPS)
            return cls(support @ support.transpose(1, 2), None, norms)
        points = torch.cat([support, query], dim=1)  # the basis is that of the feature space
        return cls(points.transpose(1, 2), points, points.norm(dim=-1).clamp_min(EPS))

    def squared_lengths(self, weights: Tensor, products: Tensor) -> Tensor:
        """Squared lengths (E, W) of weights given as coefficients (E, W, R)."""
        other = products if self.points is None else weights
        return (weights * other).sum(dim=-1)

    def combine(self, factors: Tensor) -> Tensor:
        """Coefficients (E, W, R) of sums of the points with factors (E, W, P)."""
        return factors if self.points is None else factors @ self.points


def tune(
    weights: Tensor,
    basis: Basis,
    labels: Tensor,
    ways: int,
    tuning: Tuning,
    scale: float | None,
) -> tuple[Tensor, Tensor]:
    """Fit weights (E, N * R, B) and biases (E, N), which start at zero, of every episode.

    Weights are coefficients, R rows a class, whose best row scores. The basis has supports first,
    of the classes ``labels`` (S,), then queries if transductive; ``scale`` None means inner
    products.
    """
    episodes, rows, _ = weights.shape
    supports, points = len(labels), basis.norms.shape[1]
    shape = (episodes, ways, rows // ways, points)
    truth = weights.new_zeros(ways, points)
    truth[labels, torch.arange(supports, device=labels.device)] = 1 / supports
    in_truth = truth.sum(dim=0)
    in_entropy = weights.new_zeros(points)
    chosen = slice(supports, None) if tuning.transductive else slice(0, supports)
    in_entropy[chosen] = tuning.entropy / len(in_entropy[chosen])

    weights = weights.clone()
    bias = weights.new_zeros(episodes, ways)
    speed, bias_speed = torch.zeros_like(weights), torch.zeros_like(bias)
    for _ in range(tuning.steps):
        products = weights @ basis.inner  # (E, W, P), w . x
        if scale is None:
            units = products
        else:
            lengths = basis.squared_lengths(weights, products).clamp_min(EPS**2).sqrt()
            cosines = products / (lengths.unsqueeze(-1) * basis.norms.unsqueeze(1))
            units = scale * cosines
        by_class = units.view(shape)
        best = by_class.amax(dim=2, keepdim=True)
        logits = best.squeeze(2) + bias.unsqueeze(-1)  # (E, N, P)
        log_p = logits.log_softmax(dim=1)
        p = log_p.exp()
        grad = p * in_truth - truth  # of the cross-entropy
        if tuning.entropy:
            entropy = -(p * log_p).sum(dim=1, keepdim=True)
            grad = grad - p * (log_p + entropy) * in_entropy
        bias_grad = grad.sum(dim=-1)
        if rows > ways:  # only the best row of a class is responsible
            grad = (grad.unsqueeze(2) * (by_class == best)).view(episodes, rows, points)
        if scale is None:
            weight_grad = basis.combine(grad)
        else:
            grad = grad * (scale / lengths.unsqueeze(-1))
            along = (grad * cosines).sum(dim=-1, keepdim=True) / lengths.unsqueeze(-1)
            weight_grad = basis.combine(grad / basis.norms.unsqueeze(1)) - along * weights
        speed.mul_(tuning.momentum).add_(weight_grad).add_(weights, alpha=tuning.weight_decay)
        bias_speed.mul_(tuning.momentum).add_(bias_grad).add_(bias, alpha=tuning.weight_decay)
        weights.sub_(speed, alpha=tuning.lr)
        bias.sub_(bias_speed, alpha=tuning.lr)
    return weights, bias


def class_means(support: Tensor, ways: int) -> Tensor:
    """Return the mean support of each class, (E, N, D)."""
    if support.shape[1] == ways:
        return support
    return support.unflatten(1, (ways, -1)).mean(dim=2)


def fine_tune(
    support: Tensor,
    query: Tensor,
    ways: int,
    tuning: Tuning,
    scale: float | None,
    per_sample: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return tuned weights (E, N, D), or (E, N * K, D) if ``per_sample``, and biases (E, N).

    Weights start at the class means of the supports (E, N * K, D), or at the supports.
    """
    shots = support.shape[1] // ways
    labels = episode_labels(ways, shots).to(support.device)
    if tuning.transductive:
        rows = support if per_sample else class_means(support, ways)
        return tune(rows, Basis.of(support, query), labels, ways, tuning, scale)
    start = torch.eye(len(labels) if per_sample else ways, dtype=support.dtype)
    if not per_sample:
        start = start.repeat_interleave(shots, dim=1) / shots
    start = start.to(support.device).expand(len(support), -1, -1)
    weights, bias = tune(start, Basis.of(support, None), labels, ways, tuning, scale)
    return weights @ support, bias
