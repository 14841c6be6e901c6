"""Stage ``traditional``: plain classification of the base classes (Table VII, "traditional")."""

import torch
import torch.nn.functional as F
from torch import nn

from skelfew.config import TraditionalConfig
from skelfew.encoders.backbone import SkeletonGCN
from skelfew.pretrain.admission import TrainingData
from skelfew.pretrain.stage import Batch, Step
from skelfew.seeding import generator, seeded


class Traditional:
    """Trains encoder and a linear layer with cross-entropy; the layer is thrown away.

    Args:
        encoder: Has ``feature_dim``.
        data: Base-class samples.
        config: Settings of this stage.
        seed: Of initialisation, order and augmentation.
    """

    name = "traditional"
    scored_by = None

    def __init__(
        self, encoder: SkeletonGCN, data: TrainingData, config: TraditionalConfig, seed: int
    ):
        self.data, self.config, self.seed = data, config, seed
        self.optimizer, self.epochs = config.optimizer, config.epochs
        self.memory: dict[str, float] = {}
        with seeded(seed, self.name, "head"):
            head = nn.Linear(encoder.feature_dim, len(data.classes))
        self.module = nn.Sequential(encoder, head).to(data.device)
        self._order: tuple[int, tuple[torch.Tensor, ...]] = (-1, ())

    @property
    def encoder(self) -> nn.Module:
        """The skeleton encoder."""
        return self.module[0]

    def learning_rates(self) -> list[tuple[nn.Module, float]]:
        """One rate for all."""
        return [(self.module, 1.0)]

    def steps(self, epoch: int) -> int:
        """Number of batches; they are as equal in size as can be and none is left out."""
        return max(1, -(-len(self.data) // self.config.batch))

    def samples(self, epoch: int) -> int:
        """Every base sample once."""
        return len(self.data)

    def draw(self, epoch: int, step: int) -> Batch:
        """Return the next batch of the epoch's order."""
        if self._order[0] != epoch:
            order = torch.randperm(len(self.data), generator=generator(self.seed, self.name, epoch))
            self._order = (epoch, order.tensor_split(self.steps(epoch)))
        rows = self._order[1][step]
        draw = generator(self.seed, self.name, epoch, step)
        return Batch(rows, self.data.skeletons(rows, draw))

    def forward(self, batch: Batch) -> Step:
        """Return cross-entropy and accuracy."""
        labels = self.data.labels[batch.rows].to(batch.skeletons.device)
        logits = self.module(batch.skeletons).float()
        accuracy = (logits.argmax(dim=-1) == labels).float().mean()
        return Step(F.cross_entropy(logits, labels), {"accuracy": accuracy})

    def after_step(self) -> None:
        """Nothing to do."""

    def end_epoch(self, epoch: int, means: dict[str, float]) -> dict[str, float]:
        """Nothing to add."""
        return {}
