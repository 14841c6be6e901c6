"""Classifiers by Euclidean distance: nearest exemplar (Table XI, NN) and nearest prototype."""

from dataclasses import dataclass

import torch
from torch import Tensor

from skelfew.fewshot.scores import Scores
from skelfew.fewshot.tuning import class_means


@dataclass(frozen=True)
class NearestNeighbour:
    """The class of the nearest single exemplar, on raw features."""

    def scores(
        self, support: Tensor, query: Tensor, ways: int, classes: Tensor | None = None
    ) -> Scores:
        """Return minus the squared distance to the nearest exemplar of each class, (E, M, N)."""
        distances = squared_distances(query, support)
        return Scores.untuned(-distances.unflatten(-1, (ways, -1)).amin(dim=-1))


@dataclass(frozen=True)
class NearestPrototype:
    """The class of the nearest mean exemplar (Snell et al., 2017), on raw features."""

    def scores(
        self, support: Tensor, query: Tensor, ways: int, classes: Tensor | None = None
    ) -> Scores:
        """Return minus the squared distance to the mean exemplar of each class, (E, M, N)."""
        return Scores.untuned(-squared_distances(query, class_means(support, ways)))


def squared_distances(query: Tensor, points: Tensor) -> Tensor:
    """Return squared Euclidean distances (E, M, P); 0 may be a little less by rounding.

    Their differences are exact for points that nearly coincide: these are moved to their centre;
    the queries, of which there are many, are not copied for it.
    """
    centre = points.mean(dim=1, keepdim=True)
    points = points - centre
    products = query @ torch.cat([points, centre], dim=1).transpose(1, 2)
    to_points = products[..., :-1] - centre @ points.transpose(1, 2)
    length = torch.linalg.vector_norm(query, dim=-1, keepdim=True).square()
    to_centre = length - 2 * products[..., -1:] + centre.square().sum(dim=-1, keepdim=True)
    return to_centre + (points.square().sum(dim=-1).unsqueeze(1) - 2 * to_points)
