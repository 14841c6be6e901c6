"""Stage ``metric``: deep metric learning as SL-DML and Skeleton-DML do it.

Loss and miner are pytorch-metric-learning's own. The authors' code has no licence; settings are
written from a description of it, see docs/training.md for what is different.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelfew.config.stages import MetricConfig
from skelfew.encoders.encoder import SkeletonEncoder
from skelfew.errors import SkelfewError
from skelfew.training.data import TrainingData
from skelfew.training.seeding import generator, seeded
from skelfew.training.stages.base import Batch, Step
from skelfew.training.stages.passes import Passes


class Metric(Passes):
    """Trains an encoder by triplets of its batch and by a classifier, which is thrown away."""

    name = "metric"
    Config = MetricConfig
    config: MetricConfig

    def __init__(
        self, encoder: SkeletonEncoder, data: TrainingData, config: MetricConfig, seed: int
    ):
        super().__init__(data, config, seed)
        self._triplets, self._miner = objectives(config)
        with seeded(seed, self.name, "head"):
            head = nn.Linear(encoder.feature_dim, len(data.classes))
        self.module: nn.Sequential = nn.Sequential(encoder, head).to(data.device)

    def rows(self, epoch: int, step: int) -> Tensor:
        """Return the rows of a batch (B,): mostly ``per_class`` of each class in it."""
        if self._order[0] != epoch:
            draw = generator(self.seed, self.name, epoch)
            order = grouped(self.data.labels, self.config.per_class, draw)
            self._order = (epoch, order.tensor_split(self.steps(epoch)))
        return self._order[1][step]

    def forward(self, batch: Batch) -> Step:
        """Return the weighted mean of triplet loss and cross-entropy, and both."""
        encoder, head = self.module
        labels = self.data.labels[batch.rows].to(batch.skeletons.device)
        features = encoder(batch.skeletons)
        logits = head(features).float()
        entropy = F.cross_entropy(logits, labels)
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            triplet = self._triplets(features, labels, self._miner(features, labels))
        weight = self.config.triplet_weight
        accuracy = (logits.argmax(dim=-1) == labels).float().mean()
        return Step(
            weight * triplet + (1 - weight) * entropy,
            {"accuracy": accuracy, "triplet": triplet.detach(), "entropy": entropy.detach()},
        )


def objectives(config: MetricConfig) -> tuple[Any, Any]:
    """Return the triplet loss and the miner, objects of pytorch-metric-learning."""
    try:
        from pytorch_metric_learning.losses import TripletMarginLoss
        from pytorch_metric_learning.miners import MultiSimilarityMiner
    except ImportError:
        raise SkelfewError(
            "the metric stage needs pytorch-metric-learning; install it with "
            "pip install 'skelfew[metric]'"
        ) from None
    return TripletMarginLoss(margin=config.margin), MultiSimilarityMiner(epsilon=config.epsilon)


def grouped(labels: Tensor, per_class: int, draw: torch.Generator) -> Tensor:
    """Return all rows once (n,), those of a class in runs of ``per_class`` or less, at random."""
    shuffled = torch.randperm(len(labels), generator=draw)
    order = shuffled[labels[shuffled].argsort(stable=True)]
    counts = labels.bincount()
    place = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[labels[order]]
    run = labels[order] * (int(counts.max()) + 1) + place // per_class
    names, index = run.unique(return_inverse=True)
    return order[torch.randperm(len(names), generator=draw)[index].argsort(stable=True)]
