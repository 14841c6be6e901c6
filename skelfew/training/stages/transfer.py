"""Stage ``transfer``: BYOL from cached teacher features to the encoder (Sec. IV-B)."""

import torch
from torch import Tensor, nn

from skelfew.config.stages import TransferConfig
from skelfew.encoders.encoder import SkeletonEncoder
from skelfew.training.data import TrainingData
from skelfew.training.seeding import seeded
from skelfew.training.stages.base import Batch, Step
from skelfew.training.stages.byol import CrossModalBYOL, byol_loss
from skelfew.training.stages.collapse import check_collapse, effective_rank, spread
from skelfew.training.stages.passes import Passes


class Transfer(Passes):
    """Trains an encoder to predict the projected teacher features of base-class samples."""

    name = "transfer"
    Config = TransferConfig
    module: CrossModalBYOL

    def __init__(
        self, encoder: SkeletonEncoder, data: TrainingData, config: TransferConfig, seed: int
    ):
        if data.targets is None:
            raise ValueError(f"the {self.name} stage needs targets")
        super().__init__(data, config, seed)
        self.config = config
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
        self._last: tuple[Tensor, Tensor] | None = None

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
        self._last = (prediction.detach(), projection)
        stats = {"prediction_spread": spread(prediction), "target_spread": spread(projection)}
        if "initial_target_spread" not in self.memory:
            self.memory["initial_target_spread"] = float(stats["target_spread"])
        return Step(byol_loss(prediction, projection).mean(), stats)

    def after_step(self) -> None:
        """Move the target projector."""
        self.module.update_target()

    def end_epoch(self, epoch: int, means: dict[str, float]) -> dict[str, float]:
        """Return rank and norm; raise CollapseError if the targets have become the same."""
        initial = self.memory["initial_target_spread"]
        extra = {
            "theta_norm": float(
                torch.stack([p.detach().norm() for p in self.module.projector.parameters()]).norm()
            )
        }
        if self._last is not None:
            extra["prediction_rank"] = effective_rank(self._last[0])
            extra["target_rank"] = effective_rank(self._last[1])
        check_collapse(means["target_spread"], initial, self.config.collapse, epoch + 1, self.name)
        return extra
