"""Random N-way K-shot episodes, drawn all at once."""

import torch
from torch import Tensor

from skelfew.errors import SkelfewError

_BLOCK = 2**22


def episode_labels(ways: int, each: int) -> Tensor:
    """Return the labels 0..N-1 of an episode's samples, (N * each,): episodes are class-major."""
    return torch.arange(ways).repeat_interleave(each)


def sample_episodes(
    labels: Tensor,
    ways: int,
    shots: int,
    queries: int,
    episodes: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Draw episodes: N classes, then K + Q different samples of each, all uniformly.

    Args:
        labels: Class of every sample, (n,) int64; any integers.
        ways: N, classes per episode.
        shots: K, support samples per class.
        queries: Q, query samples per class.
        episodes: E, how many.
        generator: Source of randomness, on the CPU.

    Returns:
        Indices into ``labels``: support (E, N * K) and query (E, N * Q), class by class, so that
        ``episode_labels`` are their labels. No sample is in both.

    Raises:
        SkelfewError: If there are fewer than N classes, or a class has fewer than K + Q samples.
    """
    each = shots + queries
    classes, inverse, counts = labels.unique(return_inverse=True, return_counts=True)
    if min(ways, shots, queries, episodes) < 1:
        raise SkelfewError(
            "ways, shots, queries and episodes must be 1 or more, got "
            f"{ways}, {shots}, {queries} and {episodes}"
        )
    if len(classes) < ways:
        raise SkelfewError(f"{ways}-way episodes need {ways} classes, there are {len(classes)}")
    if (counts < each).any():
        small = [f"{c} ({n})" for c, n in zip(classes.tolist(), counts.tolist(), strict=True)]
        names = [s for s, n in zip(small, counts.tolist(), strict=True) if n < each]
        raise SkelfewError(
            f"episodes with {shots} exemplars and {queries} queries need {each} samples a class; "
            f"too few in class {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}: "
            "use fewer --queries or leave the class out"
        )
    drawn = _distinct(
        torch.full((episodes,), len(classes)), ways, generator
    )  # (E, N): which classes
    sizes = counts[drawn].flatten()
    within = _distinct(sizes, each, generator).view(episodes, ways, each)
    order = inverse.argsort(stable=True)  # samples of class c begin at start[c]
    start = counts.cumsum(0) - counts
    index = order[start[drawn].unsqueeze(-1) + within]
    return index[..., :shots].flatten(1), index[..., shots:].flatten(1)


def _distinct(sizes: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Draw ``draws`` different numbers below each of ``sizes`` (R,), uniformly: (R, draws).

    A Fisher-Yates shuffle cut after ``draws`` steps; row r only remembers the places it has
    swapped.
    """
    rows = len(sizes)
    uniform = torch.rand(draws, rows, generator=generator, dtype=torch.float64)
    steps = torch.arange(draws, dtype=torch.float64).unsqueeze(1)
    place = (steps + (uniform * (sizes - steps))).long()  # j of every step
    place = torch.minimum(place, sizes - 1)
    taken = torch.empty(draws, rows, dtype=torch.long)
    moved = torch.empty(draws, rows, dtype=torch.long)
    for i in range(draws):
        here = torch.full((rows,), i)
        there = place[i].clone()
        for k in range(i):  # the latest step that wrote to a place counts
            here = torch.where(place[k] == i, moved[k], here)
            there = torch.where(place[k] == place[i], moved[k], there)
        taken[i], moved[i] = there, here
    return taken.T
