"""Settings that training stages have in common. Standard library only.

A stage's own settings are in its module, e.g. ``skelfew.training.stages.transfer.TransferConfig``.
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from skelfew.fields import Count, Limit, NotNegative, Positive, validate

Batch = Annotated[int, Limit(least=2, why="BatchNorm needs 2 samples or more"), Limit(most=1 << 20)]
HiddenWidth = Annotated[int, Limit(above=0, most=1 << 17)]
WidthAlign = Literal["pad", "teacher_reduce", "skip_mismatched", "student_adapter", "encoder_512"]
ProjectionWidth = Annotated[int, Limit(above=0, most=1 << 16)]


@dataclass(frozen=True)
class OptimizerConfig:
    """An optimiser and its schedule, which moves per step.

    Attributes:
        name: ``adam`` couples the decay with the gradient (L2), ``adamw`` does not.
        lr: Peak learning rate.
        weight_decay: Decay per unit of learning rate.
        momentum: Of sgd and lars.
        nesterov: Nesterov's momentum (sgd).
        decay_all: Decay BatchNorm weights and biases too.
        warmup: Epochs of linear rise from 0.
        schedule: ``cosine`` falls to 0 at the last step.
        clip: Largest norm of the gradient, 0 for no limit.
    """

    name: Literal["adam", "adamw", "sgd", "lars"] = "adamw"
    lr: Positive = 1e-3
    weight_decay: NotNegative = 1e-2
    momentum: NotNegative = 0.9
    nesterov: bool = False
    decay_all: bool = False
    warmup: NotNegative = 0.0
    schedule: Literal["cosine", "constant"] = "cosine"
    clip: NotNegative = 0.0

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class PassesConfig:
    """Settings of a stage that passes over all base samples.

    Attributes:
        epochs: Passes over the base samples.
        batch: Samples per step.
    """

    epochs: Count = 100
    batch: Batch = 128
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(warmup=10.0, clip=1.0)
    )
    # How many clips a sample is for the trained encoder; a table's budget counts each.
    views: ClassVar[int] = 1

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class TeacherConfig(PassesConfig):
    """Settings of a stage that learns from cached teacher features.

    Attributes:
        representation: Which cached features are the target (Table VIII); ``auto`` is f_v+f_t, or
            f_t where the teacher saw no video.
        target_form: ``unit`` scales f_v and f_t to length one before they are added.
    """

    representation: Literal["f_v+f_t", "f_v", "f_t", "auto"] = "auto"
    target_form: Literal["raw", "unit"] = "unit"
