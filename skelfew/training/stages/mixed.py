"""Stage ``mixed``: the mean of transfer loss and batch cross-entropy, an ablation of ours.

It asks whether the teacher adds to the base labels where both may be used. The paper does not run
it.
"""

import torch.nn.functional as F
from torch import nn

from skelfew.config.stages import MixedConfig
from skelfew.encoders.encoder import SkeletonEncoder
from skelfew.training.data import TrainingData
from skelfew.training.seeding import seeded
from skelfew.training.stages.base import Batch, Step
from skelfew.training.stages.transfer import Transfer


class Mixed(Transfer):
    """Trains an encoder on ``weight`` x transfer + (1 - ``weight``) x cross-entropy.

    Both come from one forward pass; the classifier is a linear layer on the encoder's features, as
    in the stage ``traditional``, and is thrown away.
    """

    name = "mixed"
    Config = MixedConfig
    config: MixedConfig

    def __init__(
        self, encoder: SkeletonEncoder, data: TrainingData, config: MixedConfig, seed: int
    ):
        super().__init__(encoder, data, config, seed)
        with seeded(seed, self.name, "classifier"):
            classifier = nn.Linear(encoder.feature_dim, len(data.classes))
        self.classifier = classifier.to(data.device)
        self.module.add_module("classifier", self.classifier)

    def forward(self, batch: Batch) -> Step:
        """Return the weighted mean, both losses, accuracy and the spreads."""
        assert batch.targets is not None
        features = self.module.encoder(batch.skeletons)
        transfer = self._step(*self.module.compare(features, batch.targets))
        labels = self.data.labels[batch.rows].to(batch.skeletons.device)
        logits = self.classifier(features).float()
        entropy = F.cross_entropy(logits, labels)
        stats = {
            **transfer.stats,
            "transfer_loss": transfer.loss.detach(),
            "cross_entropy": entropy.detach(),
            "accuracy": (logits.argmax(dim=-1) == labels).float().mean(),
        }
        weight = self.config.weight
        return Step(weight * transfer.loss + (1 - weight) * entropy, stats)
