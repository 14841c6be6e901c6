"""Stage ``follow``: a linear layer from the encoder to the teacher's feature, squared error."""

from dataclasses import dataclass

from torch import nn

from skelfew.config.stages import TeacherConfig
from skelfew.encoders.encoder import SkeletonEncoder
from skelfew.fields import Positive
from skelfew.training.data import TrainingData
from skelfew.training.seeding import seeded
from skelfew.training.stages.base import Batch, Step
from skelfew.training.stages.passes import Passes


@dataclass(frozen=True)
class FollowConfig(TeacherConfig):
    """Settings of the stage.

    Attributes:
        weight: Factor on the loss.
    """

    weight: Positive = 1.0


class Follow(Passes):
    """Trains an encoder to give, through a linear layer, the teacher's feature."""

    name = "follow"
    Config = FollowConfig

    def __init__(
        self, encoder: SkeletonEncoder, data: TrainingData, config: FollowConfig, seed: int
    ):
        super().__init__(data, config, seed)
        self.weight = config.weight
        assert data.targets is not None
        with seeded(seed, self.name, "layer"):
            layer = nn.Linear(encoder.feature_dim, data.targets.shape[-1])
        self.module = nn.Sequential(encoder, layer).to(data.device)

    def forward(self, batch: Batch) -> Step:
        """Return the mean squared error."""
        assert batch.targets is not None
        error = (self.module(batch.skeletons).float() - batch.targets).square().sum(dim=-1)
        return Step(self.weight * error.mean())
