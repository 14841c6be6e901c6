"""Stage ``transfer``: BYOL from cached teacher features to the encoder (Sec. IV-B)."""

import torch
from torch import Tensor, nn

from skelfew.config.stages import TransferConfig
from skelfew.encoders.encoder import SkeletonEncoder
from skelfew.training.data import TrainingData
from skelfew.training.seeding import seeded
from skelfew.training.stages.base import Batch, Step
from skelfew.training.stages.byol import CrossModalBYOL, byol_loss
from skelfew.training.stages.passes import Bootstrap


class Transfer(Bootstrap):
    """Trains an encoder to predict the projected teacher features of base-class samples."""

    name = "transfer"
    Config = TransferConfig
    config: TransferConfig
    module: CrossModalBYOL

    def __init__(
        self, encoder: SkeletonEncoder, data: TrainingData, config: TransferConfig, seed: int
    ):
        if data.targets is None:
            raise ValueError(f"the {self.name} stage needs targets")
        super().__init__(data, config, seed)
        with seeded(seed, self.name, "heads"):
            self.module = CrossModalBYOL(
                encoder,
                feature_dim=encoder.feature_dim,
                teacher_dim=data.targets.shape[-1],
                decay=config.decay,
                width_align=config.width_align,
                predictor=config.predictor,
                hidden_dim=config.hidden_dim,
                projection_dim=config.projection_dim,
                output_bias=config.output_bias,
            ).to(data.device)

    def bridge(self) -> tuple[nn.Module, nn.Module]:
        """Return the maps of encoder features and of targets to the space of the loss."""
        return self.module.bridge()

    def learning_rates(self) -> list[tuple[nn.Module, float]]:
        """The predictor learns faster than the rest."""
        return [(self.module.predictor, self.config.predictor_lr), (self.module, 1.0)]

    def forward(self, batch: Batch) -> Step:
        """Return the loss and the spreads that the collapse monitor looks at."""
        return self._step(*self.module(batch.skeletons, batch.targets))

    def _step(self, prediction: Tensor, projection: Tensor) -> Step:
        stats = self.watched(prediction=prediction, target=projection)
        return Step(byol_loss(prediction, projection).mean(), stats)

    def after_step(self) -> None:
        """Move the target projector."""
        self.module.update_target()

    def end_epoch(self, epoch: int, means: dict[str, float]) -> dict[str, float]:
        """Return rank and norm; raise CollapseError if the targets have become the same."""
        norms = [p.detach().norm() for p in self.module.projector.parameters()]
        return {"theta_norm": float(torch.stack(norms).norm()), **super().end_epoch(epoch, means)}
