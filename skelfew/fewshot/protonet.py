"""ProtoNet (Snell et al., 2017): the class of the nearest mean exemplar, trained through."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from skelfew.fewshot.head import Head
from skelfew.fewshot.nearest import squared_distances
from skelfew.fewshot.tuning import EPS, class_means


class ProtoNet(Head):
    """Softmax over minus squared distances to the mean exemplar of each class.

    ``metric`` is ``euclidean``, the squared distance of the source, or ``cosine``, its other
    variant, to which training adds a learned scale (``episodic.scale``).
    """

    def __init__(self, width: int = 0, *, metric: Literal["euclidean", "cosine"] = "euclidean"):
        super().__init__()
        self.metric, self.cosines = metric, metric == "cosine"

    def forward(
        self, support: Tensor, query: Tensor, ways: int, classes: Tensor | None = None
    ) -> Tensor:
        """Return minus the squared distances, or the cosines, (E, M, N)."""
        rows = class_means(support, ways)
        if self.metric == "euclidean":
            return -squared_distances(query, rows)
        rows = F.normalize(rows, dim=-1, eps=EPS)
        return F.normalize(query, dim=-1, eps=EPS) @ rows.transpose(1, 2)
