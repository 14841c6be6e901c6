"""The linear classifier that the paper compares with (Table XI, LC)."""

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from skelfew.fewshot.scores import Scores
from skelfew.fewshot.tuning import EntropyOn, Tuning, class_means, fine_tune
from skelfew.fields import Limit, Positive, validate


@dataclass(frozen=True, kw_only=True)
class LinearClassifier:
    """softmax(W q + b); W starts at the mean raw support feature of each class, b at 0.

    Attributes:
        tune_steps: Steps of fine-tuning on the support set.
        lr: Of fine-tuning.
        entropy: Weight of the entropy term, as in Eq. 4.
        entropy_on: ``support``, or ``query`` (transductive).
    """

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
