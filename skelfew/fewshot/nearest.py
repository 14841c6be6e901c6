"""Classifiers by Euclidean distance: nearest exemplar (Table XI, NN) and nearest prototype."""

from dataclasses import dataclass

from torch import Tensor

from skelfew.fewshot.scores import Scores
from skelfew.fewshot.tuning import class_means


@dataclass(frozen=True)
class NearestNeighbour:
    """The class of the nearest single exemplar, on raw features."""

    def scores(self, support: Tensor, query: Tensor, ways: int) -> Scores:
        """Return minus the squared distance to the nearest exemplar of each class, (E, M, N)."""
        distances = squared_distances(query, support)
        return Scores.untuned(-distances.unflatten(-1, (ways, -1)).amin(dim=-1))


@dataclass(frozen=True)
class NearestPrototype:
    """The class of the nearest mean exemplar (Snell et al., 2017), on raw features."""

    def scores(self, support: Tensor, query: Tensor, ways: int) -> Scores:
        """Return minus the squared distance to the mean exemplar of each class, (E, M, N)."""
        return Scores.untuned(-squared_distances(query, class_means(support, ways)))


def squared_distances(query: Tensor, points: Tensor) -> Tensor:
    """Return squared Euclidean distances (E, M, P), exact for points that nearly coincide."""
    centre = points.mean(dim=1, keepdim=True)  # keeps the three terms below small
    query, points = query - centre, points - centre
    squares = (query * query).sum(dim=-1, keepdim=True) + (points * points).sum(-1).unsqueeze(1)
    return (squares - 2 * query @ points.transpose(1, 2)).clamp_min(0)
