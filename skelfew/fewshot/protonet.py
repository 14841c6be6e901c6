"""ProtoNet (Snell et al., 2017): the class of the nearest mean exemplar, trained through."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from skelfew.errors import SkelfewError
from skelfew.fewshot.head import Head
from skelfew.fewshot.nearest import squared_distances
from skelfew.fewshot.tuning import EPS, class_means

METRICS = ("euclidean", "cosine")


@dataclass(frozen=True)
class ProtoNet(Head):
    """Softmax over minus squared distances to the mean exemplar of each class.

    Attributes:
        metric: ``euclidean``, the squared distance of the source, or ``cosine``, its other
            variant, to which training adds a learned scale (``episodic.scale``).
    """

    metric: str = "euclidean"

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise SkelfewError(f"metric is {self.metric!r}; expected {', '.join(METRICS)}")

    @property
    def cosines(self) -> bool:
        """Whether the logits are cosines, which training has to scale."""
        return self.metric == "cosine"

    def logits(
        self,
        support: Tensor,
        query: Tensor,
        ways: int,
        learned: nn.Module | None = None,
        classes: Tensor | None = None,
    ) -> Tensor:
        """Return minus the squared distances, or the cosines, (E, M, N)."""
        rows = class_means(support, ways)
        if self.metric == "euclidean":
            return -squared_distances(query, rows)
        rows = F.normalize(rows, dim=-1, eps=EPS)
        return F.normalize(query, dim=-1, eps=EPS) @ rows.transpose(1, 2)
