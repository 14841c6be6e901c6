"""Stage ``direct``: regression of the projected feature to the teacher's, an ablation of ours.

What is left of the transfer without its moving average, its target projector and its predictor.
The paper does not run it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelfew.config import DirectConfig
from skelfew.encoders.backbone import SkeletonGCN
from skelfew.pretrain.admission import TrainingData
from skelfew.pretrain.byol import byol_loss, byol_mlp
from skelfew.pretrain.collapse import check_predictions, effective_rank, spread
from skelfew.pretrain.passes import Passes
from skelfew.pretrain.stage import Batch, Step
from skelfew.seeding import seeded


def regression_loss(prediction: Tensor, target: Tensor, kind: str) -> Tensor:
    """Return the loss of every sample (N,) for predictions and targets (N, D).

    Args:
        prediction: Of any length.
        target: The teacher's features.
        kind: ``cosine``: 2 - 2 cos, whatever their lengths; ``l2``: the squared distance.
    """
    if kind == "cosine":
        return byol_loss(F.normalize(prediction, dim=-1), F.normalize(target, dim=-1))
    return (prediction - target).square().sum(dim=-1)


class Direct(Passes):
    """Trains an encoder to give the teacher features of base-class samples through a projector.

    Args:
        encoder: Has ``feature_dim``.
        data: With targets (n, V, D); a random view of the V is taken each time.
        config: Settings of this stage.
        seed: Of initialisation, order, augmentation and views.
    """

    name = "direct"

    def __init__(self, encoder: SkeletonGCN, data: TrainingData, config: DirectConfig, seed: int):
        if data.targets is None:
            raise ValueError(f"the {self.name} stage needs targets")
        super().__init__(data, config, seed)
        self.config = config
        width = data.targets.shape[-1]
        with seeded(seed, self.name, "heads"):
            projector: nn.Module = (
                nn.Linear(encoder.feature_dim, width)
                if config.head == "linear"
                else byol_mlp(encoder.feature_dim, config.hidden_dim, width)
            )
        self.module: nn.Sequential = nn.Sequential(encoder, projector).to(data.device)
        self._last: Tensor | None = None

    @property
    def encoder(self) -> nn.Module:
        """The skeleton encoder."""
        return self.module[0]

    def bridge(self) -> tuple[nn.Module, nn.Module]:
        """Return the projector, and what leaves targets as they are."""
        return self.module[1], nn.Identity()

    def forward(self, batch: Batch) -> Step:
        """Return the loss and the spreads of predictions and targets as unit vectors."""
        assert batch.targets is not None
        prediction = self.module(batch.skeletons).float()
        unit = F.normalize(prediction.detach(), dim=-1)
        target = F.normalize(batch.targets, dim=-1)
        self._last = unit
        return Step(
            regression_loss(prediction, batch.targets, self.config.loss).mean(),
            {
                "prediction_spread": spread(unit),
                "target_spread": spread(target),
                "cosine": torch.mean((unit * target).sum(dim=-1)),
            },
        )

    def end_epoch(self, epoch: int, means: dict[str, float]) -> dict[str, float]:
        """Return the predictions' rank; raise CollapseError if they have become the same."""
        rank = {} if self._last is None else {"prediction_rank": effective_rank(self._last)}
        check_predictions(
            means["prediction_spread"],
            means["target_spread"],
            self.config.collapse,
            epoch + 1,
            self.name,
        )
        return rank
