"""Episodes are what they say they are, and every sample is as likely as every other."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skelfew.data.episodes import sample_episodes
from skelfew.errors import SkelfewError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(4, 9), min_size=2, max_size=6),
    shots=st.integers(1, 2),
    queries=st.integers(1, 2),
    seed=st.integers(0, 1000),
)
def test_every_episode_is_n_way_k_shot(
    sizes: list[int], shots: int, queries: int, seed: int
) -> None:
    labels = torch.repeat_interleave(torch.arange(len(sizes)) * 7 + 3, torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=seeded(seed))]
    ways = len(sizes) - seed % 2
    support, query = sample_episodes(labels, ways, shots, queries, 20, seeded(seed))
    assert support.shape == (20, ways * shots) and query.shape == (20, ways * queries)
    for s, q in zip(support.tolist(), query.tolist(), strict=True):
        assert len({*s, *q}) == ways * (shots + queries), "a sample was drawn twice"
    by_class = labels[support].view(20, ways, shots)
    assert (by_class == by_class[..., :1]).all(), "support is class by class"
    assert (labels[query].view(20, ways, queries) == by_class[..., :1]).all()
    assert all(len(set(row)) == ways for row in by_class[..., 0].tolist())


def test_seed_decides() -> None:
    labels = torch.arange(5).repeat_interleave(30)
    one, two, three = (sample_episodes(labels, 3, 1, 5, 50, seeded(s)) for s in (1, 1, 2))
    assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
    assert not torch.equal(one[0], three[0])


@pytest.mark.parametrize(("shots", "queries"), [(1, 1), (2, 3)])
def test_uniform_over_ordered_draws(shots: int, queries: int) -> None:
    """Chi-square over all ordered draws of one class, and of class sets: nothing is favoured."""
    size, episodes = 5, 60_000
    labels = torch.arange(4).repeat_interleave(size)
    support, query = sample_episodes(labels, 2, shots, queries, episodes, seeded(5))
    first = torch.cat([support[:, :shots], query[:, :queries]], dim=1) % size
    code = (first * size ** torch.arange(shots + queries)).sum(dim=1)
    counts = code.unique(return_counts=True)[1].double()
    possible = 1
    for i in range(shots + queries):
        possible *= size - i
    assert len(counts) == possible
    expected = episodes / possible
    chi2 = float(((counts - expected) ** 2 / expected).sum())
    assert chi2 < possible - 1 + 5 * (2 * (possible - 1)) ** 0.5, "not uniform over samples"
    pairs = labels[support[:, 0]] * 4 + labels[support[:, shots]]
    counts = pairs.unique(return_counts=True)[1].double()
    assert len(counts) == 12, "ordered pairs of 4 classes"
    chi2 = float(((counts - episodes / 12) ** 2 / (episodes / 12)).sum())
    assert chi2 < 11 + 5 * 22**0.5, "not uniform over classes"


def test_unequal_class_sizes_are_uniform_within_each_class() -> None:
    labels = torch.tensor([0] * 3 + [1] * 40)
    support, _ = sample_episodes(labels, 2, 1, 2, 40_000, seeded(9))
    counts = torch.bincount(support.flatten(), minlength=43).double()
    assert counts[:3].sum() == counts[3:].sum() == 40_000
    assert (counts[:3] / 40_000 - 1 / 3).abs().max() < 0.012
    assert (counts[3:] / 40_000 - 1 / 40).abs().max() < 0.004


def test_small_classes_are_named() -> None:
    labels = torch.tensor([4] * 3 + [7] * 10 + [9] * 10)
    with pytest.raises(SkelfewError, match=r"need 6 samples a class; too few in class 4 \(3\)"):
        sample_episodes(labels, 2, 1, 5, 3, seeded())
    with pytest.raises(SkelfewError, match="4-way episodes need 4 classes, there are 3"):
        sample_episodes(labels, 4, 1, 1, 3, seeded())
    with pytest.raises(SkelfewError, match="1 or more"):
        sample_episodes(labels, 2, 0, 1, 3, seeded())
