"""When the answer is none of these."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from skelfew.predict.rejection import learn_rejection
from skelfew.predict.similarity import class_means, cosines


def actions(shots: int, count: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features that scatter around a direction for each action."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(count, 32, generator=generator)
    labels = torch.arange(count).repeat_interleave(shots)
    return centres[labels] + 0.4 * torch.randn(len(labels), 32, generator=generator), labels


def test_the_threshold_lies_between_known_and_unknown_by_their_spreads() -> None:
    features, labels = actions(3)
    found = learn_rejection(features, labels)
    assert found.rule == "leave-one-out" and found.known == found.unknown == 12
    units = F.normalize(features.double(), dim=1)
    known, unknown = [], []
    for i, label in enumerate(labels.tolist()):
        others = [j for j in range(12) if labels[j] == label and j != i]
        known.append(torch.cosine_similarity(units[others].mean(dim=0), units[i], dim=0).acos())
        means = [units[labels == c].mean(dim=0) for c in range(4) if c != label]
        unknown.append(min(torch.cosine_similarity(m, units[i], dim=0).acos() for m in means))
    k, u = torch.stack(known), torch.stack(unknown)
    angle = torch.tensor(found.threshold).double().acos()
    above, below = (
        (angle - k.mean()) / k.std(correction=0),
        (u.mean() - angle) / u.std(correction=0),
    )
    assert float(above) == pytest.approx(float(below), rel=1e-3)
    assert found.rejected == int((k > angle).sum()) and found.accepted == int((u <= angle).sum())


def test_one_shot_lies_half_way_to_a_copy() -> None:
    features, labels = actions(1)
    found = learn_rejection(features, labels)
    nearest = cosines(features, features).fill_diagonal_(-1).amax(dim=1)
    assert found.rule == "one-shot" and found.known == 0
    assert found.threshold == pytest.approx((1 + float(nearest.mean())) / 2, abs=1e-5)


@pytest.mark.parametrize("shots", [1, 3, 5])
def test_new_recordings_are_accepted_and_new_actions_rejected(shots: int) -> None:
    features, labels = actions(20, count=6)
    taught = torch.cat([(labels == c).nonzero().flatten()[:shots] for c in range(4)])
    found = learn_rejection(features[taught], labels[taught])
    best = cosines(class_means(features[taught], labels[taught]), features).amax(dim=1)
    asked = torch.ones(len(labels), dtype=torch.bool)
    asked[taught] = False
    assert (best[asked & (labels < 4)] >= found.threshold).float().mean() > 0.8
    assert (best[labels >= 4] < found.threshold).float().mean() > 0.9


def test_copies_and_two_actions_are_no_special_case() -> None:
    features = torch.eye(2, 8).repeat_interleave(2, dim=0)
    found = learn_rejection(features, torch.tensor([0, 0, 1, 1]))
    assert math.isfinite(found.threshold) and 0 < found.threshold < 1
    assert "none of these below similarity" in str(found)
