"""The linear classifier that the paper compares with (Table XI, LC)."""

from dataclasses import dataclass

from torch import Tensor

from skelfew.fewshot.scores import Scores
from skelfew.fewshot.tuning import TunedClassifier, class_means, fine_tune


@dataclass(frozen=True, kw_only=True)
class LinearClassifier(TunedClassifier):
    """softmax(W q + b); W starts at the mean raw support feature of each class, b at 0."""

    def scores(
        self, support: Tensor, query: Tensor, ways: int, classes: Tensor | None = None
    ) -> Scores:
        """Return W q + b, (E, M, N)."""
        rows = class_means(support, ways)
        before = query @ rows.transpose(1, 2)
        if not self.tune_steps:
            return Scores.untuned(before)
        weights, bias = fine_tune(support, query, ways, self.tuning, scale=None)
        return Scores.tuned(before, query @ weights.transpose(1, 2) + bias.unsqueeze(1))
