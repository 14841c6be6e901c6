"""Stage ``traditional``: plain classification of the base classes (Table VII, "traditional")."""

import torch.nn.functional as F
from torch import nn

from skelfew.config.stages import TraditionalConfig
from skelfew.encoders.encoder import SkeletonEncoder
from skelfew.training.data import TrainingData
from skelfew.training.seeding import seeded
from skelfew.training.stages.base import Batch, Step
from skelfew.training.stages.passes import Passes


class Traditional(Passes):
    """Trains encoder and a linear layer with cross-entropy; the layer is thrown away."""

    name = "traditional"
    Config = TraditionalConfig

    def __init__(
        self, encoder: SkeletonEncoder, data: TrainingData, config: TraditionalConfig, seed: int
    ):
        super().__init__(data, config, seed)
        with seeded(seed, self.name, "head"):
            head = nn.Linear(encoder.feature_dim, len(data.classes))
        self.module: nn.Sequential = nn.Sequential(encoder, head).to(data.device)

    def forward(self, batch: Batch) -> Step:
        """Return cross-entropy and accuracy."""
        labels = self.data.labels[batch.rows].to(batch.skeletons.device)
        logits = self.module(batch.skeletons).float()
        accuracy = (logits.argmax(dim=-1) == labels).float().mean()
        return Step(F.cross_entropy(logits, labels), {"accuracy": accuracy})
