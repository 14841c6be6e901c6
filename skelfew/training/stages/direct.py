"""Stage ``direct``: regression of the projected feature to the teacher's, an ablation of ours.

What is left of the transfer without its moving average, its target projector and its predictor.
The paper does not run it.
"""

import torch.nn.functional as F
from torch import Tensor

from skelfew.config.stages import DirectConfig
from skelfew.training.stages.base import Batch, Step
from skelfew.training.stages.byol import byol_loss
from skelfew.training.stages.projected import Projected


def regression_loss(prediction: Tensor, target: Tensor, kind: str) -> Tensor:
    """Return the loss (N,) of predictions and targets (N, D), ``cosine`` or ``l2`` squared."""
    if kind == "cosine":
        return byol_loss(F.normalize(prediction, dim=-1), F.normalize(target, dim=-1))
    return (prediction - target).square().sum(dim=-1)


class Direct(Projected):
    """Trains an encoder to give the teacher features of base-class samples through a projector."""

    name = "direct"
    Config = DirectConfig
    config: DirectConfig

    def loss(self, prediction: Tensor, batch: Batch) -> Step:
        """Return the mean regression loss."""
        assert batch.targets is not None
        return Step(regression_loss(prediction, batch.targets, self.config.loss).mean())
