"""Base class of training stages: model, steps and measurements.

The loop in ``skelfew.training.loop`` owns optimiser, schedule, checkpoints and progress, so a
stage is a class with these few members and a line in ``STAGES``.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from skelfew.config.stages import OptimizerConfig
from skelfew.fewshot.head import HeadClassifier
from skelfew.training.data import TrainingData


@dataclass(frozen=True)
class Batch:
    """Input of one step."""

    rows: Tensor  # rows of the training data, (B,)
    skeletons: Tensor  # network input (B, C, T, V, M)
    targets: Tensor | None = None  # teacher features (B, D), None where a stage has none
    # Further network input of the same samples, as many as the stage wants
    views: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Step:
    """Result of one forward pass; ``stats`` are averaged over the epoch."""

    loss: Tensor
    stats: dict[str, Tensor] = field(default_factory=dict)


class Stage(ABC):
    """One stage of training, made of ``(encoder, data, settings, seed)``."""

    name: ClassVar[str]  # its key in ``STAGES``
    # Dataclass of its settings, which ``skelfew.config`` shows under the stage's name. One with
    # ``representation`` and ``target_form`` asks for teacher features as targets.
    Config: ClassVar[type[object]]
    # What of it could not be checked against its source; shown by every run
    unverified: ClassVar[str] = ""
    # Whether several processes would come to other numbers than one
    one_process: ClassVar[bool] = False
    data: TrainingData
    seed: int
    # All that is learned, the encoder in it; its state dict goes into the checkpoint
    module: nn.Module
    optimizer: OptimizerConfig
    epochs: int
    memory: dict[str, float]  # plain numbers that have to survive a restart

    @property
    def scored_by(self) -> HeadClassifier | None:
        """Head by which the validation classes are scored; None for cosine prototypes."""
        return None

    @property
    def encoder(self) -> nn.Module:
        """The part of ``module`` that is kept: the first of a sequence, else its ``encoder``."""
        if isinstance(self.module, nn.Sequential):
            return self.module[0]
        return self.module.get_submodule("encoder")

    def learning_rates(self) -> list[tuple[nn.Module, float]]:
        """Parts of ``module`` with the factors on their learning rates; the first match counts."""
        return [(self.module, 1.0)]

    @abstractmethod
    def steps(self, epoch: int) -> int:
        """Number of steps of an epoch, 0-based."""

    @abstractmethod
    def samples(self, epoch: int) -> int:
        """Number of samples that an epoch passes through the encoder."""

    @abstractmethod
    def draw(self, epoch: int, step: int) -> Batch:
        """Return a batch that depends on seed, epoch and step alone; called from one thread."""

    @abstractmethod
    def forward(self, batch: Batch) -> Step:
        """Return the loss of a batch."""

    def after_step(self) -> None:  # noqa: B027 - most stages do nothing
        """Called after the optimiser has moved."""

    def end_epoch(self, epoch: int, means: dict[str, float]) -> dict[str, float]:
        """Return further values for the epoch's row; may raise SkelfewError to stop the run."""
        return {}
