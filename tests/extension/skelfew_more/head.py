"""Head ``manhattan``: the class whose mean exemplar is nearest, with a weight for every channel."""

import torch
from torch import Tensor, nn

from skelfew.fewshot.head import Head
from skelfew.fewshot.tuning import class_means
from skelfew.fields import Positive


class Manhattan(Head):
    """Minus the weighted sum of absolute differences, over a temperature."""

    learns = True

    def __init__(self, width: int, *, temperature: Positive = 1.0):
        super().__init__()
        self.temperature = temperature
        self.weight = nn.Parameter(torch.ones(width))

    def forward(
        self, support: Tensor, query: Tensor, ways: int, classes: Tensor | None = None
    ) -> Tensor:
        """Return the logits (E, M, N)."""
        rows = class_means(support, ways)
        return -torch.cdist(query * self.weight, rows * self.weight, p=1) / self.temperature
