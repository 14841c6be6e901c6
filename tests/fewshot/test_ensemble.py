"""An ensemble: each run by its own rule and in its own unit."""

import torch

from skelfew.fewshot import build_classifier
from skelfew.fewshot.ensemble import Ensemble, Joined, gap, weighted


def test_similarities_are_summed_each_in_its_own_unit() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(4).repeat_interleave(3)
    pooled = torch.randn(4, 6, generator=generator)[labels] + torch.randn(
        12, 6, generator=generator
    )
    clips = torch.randn(12, 2, 5, 3, generator=generator) + 3  # alike: a small unit
    cosine, dtw = (build_classifier(name) for name in ("cosine", "dtw"))
    joined = Joined()
    values = joined.join([pooled, clips])
    rule = Ensemble(("a", "b"), (cosine, dtw), joined)
    support, query = torch.arange(12)[::3], torch.tensor([i for i in range(12) if i % 3])
    found = rule.scores(values[support][None], values[query][None], 4).logits[0]
    expected = torch.zeros(8, 4)
    shares = []
    for classifier, own in ((cosine, pooled), (dtw, clips)):
        alike = classifier.scores(own[support][None], own[support][None], 4).logits[0]
        others = (alike.sum() - alike.trace()) / 12
        shares.append(1 / (alike.trace() / 4 - others))
        scores = classifier.scores(own[support][None], own[query][None], 4).logits[0]
        expected += shares[-1] * scores
    torch.testing.assert_close(found, expected / sum(shares))
    assert rule.settings == {"runs": ["a", "b"]} and values.shape == (12, 6 + 30)


def test_the_mean_stays_between_its_members_and_a_flat_one_does_no_harm() -> None:
    alike = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    assert torch.isclose(gap(alike, torch.tensor([0, 1])), torch.tensor(0.7))
    flat = torch.full((2, 2), 0.5)
    mean = weighted([torch.tensor(0.7), gap(flat, torch.tensor([0, 1]))], [alike, flat])
    assert torch.equal(mean.argmax(dim=1), torch.tensor([0, 1]))
    assert ((mean - flat) * (alike - flat) > 0).all()
