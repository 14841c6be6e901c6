"""The cosine classifier (Lu et al., Eqs. 3 and 4): cosine prototypes, optionally fine-tuned."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from skelfew.fewshot.head import Head
from skelfew.fewshot.scores import Scores
from skelfew.fewshot.tuning import EPS, TunedClassifier, class_means, fine_tune
from skelfew.fields import Limit, Positive

Rule = Literal["class_mean", "mean_raw", "per_sample"]


@dataclass(frozen=True, kw_only=True)
class CosineClassifier(TunedClassifier):
    """Softmax over scaled cosines between a query and the weights of each class."""

    # Factor on the cosines; the paper has none (1). It matters only to fine-tuning.
    scale: Positive = 10.0
    # What K > 1 exemplars make of a class: ``class_mean`` the mean of the features scaled to length
    # 1, ``mean_raw`` the plain mean, ``per_sample`` K rows of which the best counts. The paper
    # defines K = 1 only.
    rule: Rule = "class_mean"
    tune_steps: Annotated[int, Limit(least=0)] = 0
    entropy: float = 0.0

    def scores(
        self, support: Tensor, query: Tensor, ways: int, classes: Tensor | None = None
    ) -> Scores:
        """Return scale * cos(w, query) + b, (E, M, N)."""
        if self.rule == "class_mean":
            support = F.normalize(support, dim=-1, eps=EPS)
        rows = support if self.rule == "per_sample" else class_means(support, ways)
        before = self._logits(rows, query, ways)
        if not self.tune_steps:
            return Scores.untuned(before)
        weights, bias = fine_tune(
            support, query, ways, self.tuning, self.scale, self.rule == "per_sample"
        )
        after = self._logits(weights, query, ways) + bias.unsqueeze(1)
        return Scores.tuned(before, after)

    def _logits(self, weights: Tensor, query: Tensor, ways: int) -> Tensor:
        products = query @ F.normalize(weights, dim=-1, eps=EPS).transpose(1, 2)
        lengths = torch.linalg.vector_norm(query, dim=-1, keepdim=True).clamp_min(EPS)
        products = products * (self.scale / lengths)
        if weights.shape[1] == ways:
            return products
        return products.unflatten(-1, (ways, -1)).amax(dim=-1)


@dataclass(frozen=True, kw_only=True)
class PrintedCosineClassifier(CosineClassifier):
    """The classifier with the numbers as printed."""

    scale: Positive = 1.0
    rule: Rule = "mean_raw"
    tune_steps: Annotated[int, Limit(least=0)] = 20
    entropy: float = 1.0


def episode_cosines(support: Tensor, query: Tensor, ways: int) -> Tensor:
    """Return the cosine (E, N * Q, N) of each query with each class of its episode, in [-1, 1].

    Features are (E, N * K, D) and (E, N * Q, D), class by class. The class weight is the mean of
    the normalised support features (with K = 1 it is the paper's W up to its length).
    """
    unit = F.normalize(support, dim=-1)
    prototypes = unit.unflatten(1, (ways, -1)).mean(dim=2)
    return F.normalize(query, dim=-1) @ F.normalize(prototypes, dim=-1).transpose(1, 2)


class CosineHead(Head):
    """The head that the paper trains with: ``episode_cosines``, to which training adds a scale."""

    cosines = True

    def forward(
        self, support: Tensor, query: Tensor, ways: int, classes: Tensor | None = None
    ) -> Tensor:
        """Return the cosines, (E, M, N)."""
        return episode_cosines(support, query, ways)
