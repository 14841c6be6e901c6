"""Similarity of recordings to taught actions, and confidence."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from skelfew.encoders.features import CHANGE
from skelfew.fewshot import build_classifier
from skelfew.fewshot.dtw import DTW

_SURE = 0.9  # confidence in a copy of a single exemplar, see ``confidence_scale``
_SCALES = (1.0, 1e4)
_MEAN_POSE, _CHANGE = 0.5, 4.0

# From support features (S, *F), their actions (S,) and features (n, *F) to similarities (n, N).
Measure = Callable[[Tensor, Tensor, Tensor], Tensor]


def class_means(features: Tensor, labels: Tensor) -> Tensor:
    """Return the mean (N, D) of each class's features at length 1, the rule ``class_mean``."""
    units = F.normalize(features, dim=1)
    sums = units.new_zeros(int(labels.max()) + 1, units.shape[1]).index_add(0, labels, units)
    return sums / torch.bincount(labels)[:, None]


def cosines(prototypes: Tensor, features: Tensor) -> Tensor:
    """Return the cosines (n, N) of features (n, D) to prototypes (N, D)."""
    classifier = build_classifier("cosine", {"scale": 1.0})
    return classifier.scores(prototypes[None], features[None], len(prototypes)).logits[0]


def by_cosine(support: Tensor, labels: Tensor, features: Tensor) -> Tensor:
    """Return the cosines (n, N) of features (n, D) to the mean exemplars of support (S, D)."""
    return cosines(class_means(support, labels), features)


def by_dtw(support: Tensor, labels: Tensor, features: Tensor) -> Tensor:
    """Return the similarities (n, N) of clips (n, P, T, D) by warping: the classifier ``dtw``."""
    rule = build_classifier("dtw")
    assert isinstance(rule, DTW)
    alike = rule.similarities(support[None], features[None])[0]
    return per_class(alike, members(labels), rule.nearest)


def members(labels: Tensor) -> list[list[int]]:
    """Return the rows of each class."""
    return [(labels == c).nonzero().flatten().tolist() for c in range(int(labels.max()) + 1)]


def per_class(alike: Tensor, groups: list[list[int]], nearest: int) -> Tensor:
    """Return the mean of the nearest exemplars of each class (n, N) of similarities (n, S)."""
    best = [alike[:, g].topk(min(nearest, len(g)), dim=1).values.mean(dim=1) for g in groups]
    return torch.stack(best, dim=1)


def to_exemplars(kind: str, support: Tensor, features: Tensor) -> Tensor:
    """Return the distances (n, S), 1 - similarity, of features (n, *F) to each exemplar (S, *F).

    By warping, what changes in a clip counts four times as much as its mean pose, which counts
    half: standing about looks like most actions otherwise.
    """
    if kind == "cosine":
        return 1 - cosines(support, features)
    rule = build_classifier("dtw")
    assert isinstance(rule, DTW)
    return 1 - rule.similarities(_moving(support)[None], _moving(features)[None])[0]


def _moving(parts: Tensor) -> Tensor:
    pose = parts[:, 0]
    mean = pose.mean(dim=1, keepdim=True)
    moved = _MEAN_POSE * mean + _CHANGE / CHANGE * (pose - mean)
    length = pose.flatten(1).norm(dim=1) / moved.flatten(1).norm(dim=1).clamp(min=1e-12)
    return torch.cat([(moved * length[:, None, None])[:, None], parts[:, 1:]], dim=1)


MEASURES: dict[str, Measure] = {"cosine": by_cosine, "dtw": by_dtw}


def left_out(
    features: Tensor, labels: Tensor, measure: Measure = by_cosine
) -> tuple[Tensor, Tensor]:
    """Return similarities (L, N) of each recording to its class without it, and its class (L,).

    Recordings that are the only one of their class are not among them.
    """
    rows = (torch.bincount(labels)[labels] > 1).nonzero().flatten()
    found = []
    for row in rows.tolist():
        others = torch.arange(len(labels)) != row
        found.append(measure(features[others], labels[others], features[row : row + 1]))
    return torch.cat(found) if found else features.new_zeros(0, 1), labels[rows]


def confidence_scale(features: Tensor, labels: Tensor, measure: Measure = by_cosine) -> float:
    """Return the factor on similarities after which their softmax is a fair confidence.

    With two recordings or more of an action: the mean confidence in the left-out recordings is
    the share of them that is recognised, counted as (right + 1) / (all + 2). With one of each: a
    copy of an exemplar has confidence 0.9 if the other actions are as far away as they are from
    each other on average.
    """
    apart, truth = left_out(features, labels, measure)
    classes = int(labels.max()) + 1
    if len(truth):
        return fair_scale(apart, truth)
    between = measure(features, labels, features)[labels.argsort()]
    far = 1 - float((between.sum() - between.trace()) / (classes * (classes - 1)))
    return one_shot_scale(far, classes)


def one_shot_scale(far: float, classes: int) -> float:
    """Return the factor by which a copy has confidence 0.9 if other actions are ``far`` from it."""
    wanted = math.log(_SURE / (1 - _SURE) * (classes - 1)) / max(far, 1e-6)
    return min(max(wanted, _SCALES[0]), _SCALES[1])


def fair_scale(apart: Tensor, truth: Tensor) -> float:
    """Return the factor on similarities (L, N) of left-out recordings of the classes ``truth``."""
    right = int((apart.argmax(dim=1) == truth).sum())
    wanted = max((right + 1) / (len(truth) + 2), 1 / apart.shape[1])
    low, high = (math.log(s) for s in _SCALES)
    for _ in range(50):  # the mean confidence grows with the scale
        middle = (low + high) / 2
        confidence = (math.exp(middle) * apart.double()).softmax(dim=1).amax(dim=1).mean()
        low, high = (middle, high) if float(confidence) < wanted else (low, middle)
    return math.exp(low)
