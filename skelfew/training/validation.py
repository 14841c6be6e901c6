"""Validation: one-shot accuracy on classes that the encoder was not trained on."""

import torch
from torch import nn

from skelfew.data.episodes import sample_episodes
from skelfew.data.store import SkeletonStore
from skelfew.encoders.features import encode, raw_features
from skelfew.evaluation.scoring import episode_hits
from skelfew.fewshot import build_classifier
from skelfew.fewshot.dtw import DTW
from skelfew.fewshot.head import HeadClassifier
from skelfew.training.data import TrainingData
from skelfew.training.seeding import generator

_LEAST_SHARE, _MOST_WAYS = 0.025, 20


class Validation:
    """One-shot accuracy on fixed episodes of the validation classes.

    Args:
        seed: Of the episodes, the same ones every time.
        queries: Q at most; fewer if a class is small.
    """

    def __init__(self, data: TrainingData, seed: int, queries: int = 15, episodes: int = 200):
        counts = data.labels.bincount()
        large = counts >= 2
        self.ways = min(_MOST_WAYS, int(large.sum()))
        self.data = data
        self.queries = min(queries, int(counts[large].min()) - 1) if self.ways > 1 else 0
        if self.ways < 2:
            return
        rows = large[data.labels].nonzero().flatten()
        draw = generator(seed, "validation")
        support, query = sample_episodes(
            data.labels[rows], self.ways, 1, self.queries, episodes, draw
        )
        self.support, self.query = rows[support], rows[query]

    @property
    def possible(self) -> bool:
        """Whether there are two classes with two samples."""
        return self.ways > 1

    def accuracy(self, encoder: nn.Module, head: HeadClassifier | None = None) -> float:
        """Return the share of queries classified correctly, mean over the episodes.

        Args:
            head: By which it is scored; None for cosine prototypes.
        """
        rule = head or build_classifier("cosine")
        output, device = (head.reads if head else "pooled"), self.data.device
        values = encode(encoder, self.data.bank, output, shown=False).to(device)
        support, query = self.support.to(device), self.query.to(device)
        numbers = self.data.numbers.to(device)
        module = head.head if head else nn.Module()
        training = module.training
        module.eval()
        hits, _ = episode_hits(values, support, query, self.ways, rule, numbers)
        module.train(training)
        return float(hits.double().mean())


def encoders_share(data: TrainingData, store: SkeletonStore, seed: int) -> float:
    """Return the share of an encoder beside matching without training: half of what that errs.

    That is one minus the one-shot accuracy of aligned joints on episodes of the base classes, which
    no training has flattered, 0 for all right and 1 for chance; 0.025 at least. docs/training.md
    has how that was chosen.
    """
    drawn = Validation(data, seed, queries=5, episodes=50)
    if not drawn.possible:
        return 0.5
    rows, place = torch.cat([drawn.support, drawn.query], dim=1).unique(return_inverse=True)
    clips = raw_features(store, [data.ids[i] for i in rows], "clips", aligned=True)
    support, query = place.split([drawn.ways, drawn.query.shape[1]], dim=1)
    hits, _ = episode_hits(clips, support, query, drawn.ways, DTW())
    wrong = 1 - hits.double().mean().item()
    return min(1.0, max(_LEAST_SHARE, round(wrong / (1 - 1 / drawn.ways) / 2, 3)))
