"""Common code of ``direct`` and ``infonce``: a projector to the teacher's width, fixed targets."""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelfew.config.stages import ProjectorConfig
from skelfew.encoders.encoder import SkeletonEncoder
from skelfew.training.data import TrainingData
from skelfew.training.seeding import seeded
from skelfew.training.stages.base import Batch, Step
from skelfew.training.stages.byol import byol_mlp
from skelfew.training.stages.collapse import check_predictions, effective_rank, spread
from skelfew.training.stages.passes import Passes


class Projected(Passes, ABC):
    """Trains an encoder through a projector, compared with the teacher's feature by ``loss``."""

    config: ProjectorConfig

    def __init__(
        self, encoder: SkeletonEncoder, data: TrainingData, config: ProjectorConfig, seed: int
    ):
        if data.targets is None:
            raise ValueError(f"the {self.name} stage needs targets")
        super().__init__(data, config, seed)
        width = data.targets.shape[-1]
        with seeded(seed, self.name, "heads"):
            projector: nn.Module = (
                nn.Linear(encoder.feature_dim, width)
                if config.head == "linear"
                else byol_mlp(encoder.feature_dim, config.hidden_dim, width)
            )
        self.module: nn.Sequential = nn.Sequential(encoder, projector).to(data.device)
        self._last: Tensor | None = None

    def bridge(self) -> tuple[nn.Module, nn.Module]:
        """Return the projector, and what leaves targets as they are."""
        return self.module[1], nn.Identity()

    @abstractmethod
    def loss(self, prediction: Tensor, batch: Batch) -> Step:
        """Return the loss of projections (B, D) and what else is to be averaged."""

    def forward(self, batch: Batch) -> Step:
        """Return the loss and the spreads of predictions and targets as unit vectors."""
        assert batch.targets is not None
        prediction = self.module(batch.skeletons).float()
        unit = F.normalize(prediction.detach(), dim=-1)
        target = F.normalize(batch.targets, dim=-1)
        self._last = unit
        step = self.loss(prediction, batch)
        stats = {
            "prediction_spread": spread(unit),
            "target_spread": spread(target),
            "cosine": torch.mean((unit * target).sum(dim=-1)),
        }
        return Step(step.loss, {**stats, **step.stats})

    def end_epoch(self, epoch: int, means: dict[str, float]) -> dict[str, float]:
        """Return the predictions' rank; raise CollapseError if they have become the same."""
        rank = {} if self._last is None else {"prediction_rank": effective_rank(self._last)}
        spreads = means["prediction_spread"], means["target_spread"]
        check_predictions(*spreads, self.config.collapse, epoch + 1, self.name)
        return rank
