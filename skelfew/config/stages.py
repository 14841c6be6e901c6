"""The settings of our training stages, read without torch; other packages' stand with the stage.

Those of the stage class ``Transfer`` are called ``TransferConfig`` (``skelfew.config.config_of``).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from skelfew.fewshot import HEADS
from skelfew.fields import (
    ConfigError,
    Count,
    Limit,
    NotNegative,
    OneOf,
    Positive,
    Share,
    validate,
)

Batch = Annotated[int, Limit(least=2, why="BatchNorm needs 2 samples or more"), Limit(most=1 << 20)]
HiddenWidth = Annotated[int, Limit(above=0, most=1 << 17)]
WidthAlign = Literal["pad", "teacher_reduce", "skip_mismatched", "student_adapter", "encoder_512"]
ProjectionWidth = Annotated[int, Limit(above=0, most=1 << 16)]


@dataclass(frozen=True)
class OptimizerConfig:
    """An optimiser and its schedule, which moves per step."""

    # ``adam`` couples the decay with the gradient (L2), ``adamw`` does not
    name: Literal["adam", "adamw", "sgd", "lars"] = "adamw"
    lr: Positive = 1e-3  # peak learning rate
    weight_decay: NotNegative = 1e-2  # decay per unit of learning rate
    momentum: NotNegative = 0.9  # of sgd and lars
    nesterov: bool = False  # nesterov's momentum (sgd)
    decay_all: bool = False  # decay BatchNorm weights and biases too
    warmup: NotNegative = 0.0  # epochs of linear rise from 0
    schedule: Literal["cosine", "constant"] = "cosine"  # ``cosine`` falls to 0 at the last step
    clip: NotNegative = 0.0  # largest norm of the gradient, 0 for no limit

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class PassesConfig:
    """Settings of a stage that passes over all base samples."""

    epochs: Count = 100  # passes over the base samples
    batch: Batch = 128  # samples per step
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(warmup=10.0, clip=1.0)
    )
    # How many clips a sample is for the trained encoder; a table's budget counts each.
    views: ClassVar[int] = 1

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class TeacherConfig(PassesConfig):
    """Settings of a stage that learns from cached teacher features."""

    # Which cached features are the target (Table VIII); ``auto`` is f_v+f_t, or f_t where the
    # teacher saw no video
    representation: Literal["f_v+f_t", "f_v", "f_t", "auto"] = "auto"
    # ``unit`` scales f_v and f_t to length one before they are added
    target_form: Literal["raw", "unit"] = "unit"


@dataclass(frozen=True)
class TransferConfig(TeacherConfig):
    """Representation transfer from the teacher (Sec. IV-B)."""

    # How Eq. 2 is made well-defined where encoder and teacher differ in width.
    width_align: WidthAlign = "pad"
    # Lambda of Eq. 2; 0 copies the online projector, 1 never moves the target's, which keeps it
    # from shrinking (docs/paper-notes.md).
    decay: Share = 1.0
    predictor: bool = True  # whether there is a predictor (Table X)
    predictor_lr: Positive = 10.0  # factor on its learning rate
    hidden_dim: HiddenWidth = 4096  # width of the hidden layer of projectors and predictor
    projection_dim: ProjectionWidth = 256  # their output width
    output_bias: bool = True  # whether their last layers have a bias; BYOL's have none
    # Stop when the spread of the targets falls below this share of its first value; 0 for never
    collapse: NotNegative = 0.1


@dataclass(frozen=True)
class ProjectorConfig(TeacherConfig):
    """A projector from the encoder to the width of the teacher; nothing moves, nothing predicts."""

    # The projector: ``mlp`` (BYOL's) or one ``linear`` layer
    head: Literal["mlp", "linear"] = "mlp"
    hidden_dim: HiddenWidth = 4096  # width of the hidden layer of the ``mlp``
    # Stop when the spread of the predictions falls below this share of the targets'; 0 for never
    collapse: NotNegative = 0.01


@dataclass(frozen=True)
class DirectConfig(ProjectorConfig):
    """Regression to the teacher's feature, an ablation of ours."""

    # ``cosine``: 2 - 2 cos; ``l2``: the squared Euclidean distance
    loss: Literal["cosine", "l2"] = "cosine"


@dataclass(frozen=True)
class InfoNCEConfig(ProjectorConfig):
    """Settings of the contrast of a sample's teacher feature with those of the batch."""

    temperature: Positive = 0.1  # of the cosines
    # What other samples of a sample's class are to it: ``mask``: left out; ``positive``: as good as
    # its own, with equal weight; ``negative``: others like all
    same_class: Literal["mask", "positive", "negative"] = "mask"
    # Mean of both directions, as in CLIP; else the skeleton looks for its target only
    symmetric: bool = True


@dataclass(frozen=True)
class MixedConfig(TransferConfig):
    """Transfer and classification of the base classes at once, an ablation of ours."""

    # Of the transfer's loss; the cross-entropy has the rest, so 0.5 is the mean of both
    weight: Share = 0.5


@dataclass(frozen=True)
class SkeletonBYOLConfig(PassesConfig):
    """BYOL on two views of a skeleton (Moliner et al.); a reconstruction, see docs/training.md."""

    decay: Share = 0.996  # weight of the old target in the moving average
    # ``cosine`` lets it rise to 1 over the stage, ``constant`` does not
    decay_schedule: Literal["cosine", "constant"] = "cosine"
    hidden_dim: HiddenWidth = 4096  # width of the hidden layer of projectors and predictor
    projection_dim: ProjectionWidth = 256  # their output width
    output_bias: bool = True  # whether their last layers have a bias; BYOL's have none
    # Take the second view from any camera that recorded the same performance
    multi_view: bool = True
    # Stop when the spread of the targets falls below this share of its first value; 0 for never
    collapse: NotNegative = 0.1
    views: ClassVar[int] = 2  # both pass through the trained encoder


@dataclass(frozen=True)
class AimCLRConfig(PassesConfig):
    """AimCLR (Guo et al., AAAI 2022), numbers of its configuration for NTU-60; not the schedule."""

    epochs: Count = 300
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig("sgd", lr=0.1, weight_decay=1e-4, decay_all=True)
    )
    decay: Share = 0.999  # weight of the old key encoder in the moving average
    queue: Count = 32768  # number of keys that are remembered as negatives
    temperature: Positive = 0.07  # of the cosines
    projection_dim: ProjectionWidth = 128  # output width of the heads
    keep: Share = 0.7  # attention above which a part of the feature map is dropped
    # Share of the epochs after which nearest neighbours count as positives
    mining_from: Share = 0.5
    # Play half of the extreme views backwards (off in the released configuration)
    time_flip: bool = False
    # Stop when the spread of the keys falls below this share of its first value; 0 for never
    collapse: NotNegative = 0.1
    views: ClassVar[int] = 2  # the normal and the extreme one pass through the trained encoder


@dataclass(frozen=True)
class MetricConfig(PassesConfig):
    """Deep metric learning of SL-DML and Skeleton-DML, with one of their optimisers."""

    batch: Batch = 32
    per_class: Count = 4  # how many samples of a class come together
    margin: NotNegative = 0.2  # of the triplets
    epsilon: NotNegative = 0.1  # of the multi-similarity miner
    triplet_weight: Share = 0.5  # of the triplet loss; the cross-entropy has the rest
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig("sgd", lr=0.01, weight_decay=0.0)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.per_class <= self.batch:
            raise ConfigError(
                f"per_class is {self.per_class}; it must lie in 2 to the batch, {self.batch}"
            )


@dataclass(frozen=True)
class TraditionalConfig(PassesConfig):
    """Plain classification of the base classes ("traditional training" in Table VII)."""

    epochs: Count = 65
    batch: Batch = 64
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            "sgd", lr=0.1, weight_decay=4e-4, nesterov=True, decay_all=True, warmup=5.0
        )
    )


@dataclass(frozen=True)
class ClassifyConfig(PassesConfig):
    """Classification of the base classes by cosine softmax; what ``laptop`` trains."""

    epochs: Count = 5  # least number of passes over the base samples
    clips: Count = 15_000  # least number of clips, in as many passes as it takes
    batch: Batch = 64
    temperature: Positive = 0.1  # divides the cosines, at first; it is learned
    # Take the mirror images of clips as further classes. An encoder of several branches does so
    # anyway, and with reversed clips, in all branches but the first: what they learn differs more
    # than what chance makes of one task.
    mirrored: bool = False
    # Share of the mean variance in the scatter within base classes, by which features are whitened
    # at the end; 0 for no whitening
    whiten: Share = 0.1
    # With a teacher cache: penalty of the map from texts to features, as a multiple of the mean
    # squared length of the centred base texts
    text_ridge: Positive = 1.0
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(lr=3e-3, weight_decay=0.01, decay_all=True)
    )

    def passes(self, samples: int) -> int:
        """Return the number of passes over so many base samples."""
        return max(self.epochs, -(-self.clips // max(samples, 1)))


@dataclass(frozen=True)
class EpisodicConfig:
    """Episodic training on the base classes, with cosine logits in the paper (Sec. IV-C)."""

    # What compares queries with exemplars, a key of ``skelfew.fewshot.HEADS``
    head: Annotated[str, OneOf(HEADS)] = "cosine"
    # Settings of the head to change, ``KEY=VALUE`` each (docs/heads.md)
    head_settings: tuple[str, ...] = ()
    episodes: Count = 10_000  # how many in all
    epoch_episodes: Count = 200  # after how many an epoch ends (a row of metrics, a checkpoint)
    # N; None for the number of novel classes, 20 at most, as far as base classes go
    ways: Annotated[int, Limit(above=0, most=10_000)] | None = None
    shots: Annotated[int, Limit(above=0, most=10_000)] = 1  # K
    queries: Annotated[int, Limit(above=0, most=100_000)] = 5  # Q per class
    # How many share one forward pass and one step
    episodes_per_step: Annotated[int, Limit(above=0, most=10_000)] = 1
    # Of the cosines, the inverse temperature (paper: none, 1); for heads whose logits are cosines
    scale: Positive = 10.0
    learn_scale: bool = True  # whether the scale is learned
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig("sgd", lr=1e-2, weight_decay=1e-4, decay_all=True)
    )

    def __post_init__(self) -> None:
        validate(self)
        for pair in self.head_settings:
            if "=" not in pair:
                raise ConfigError(f"head_settings has {pair!r}; expected KEY=VALUE")

    @property
    def epochs(self) -> int:
        """Number of epochs; the last one may be shorter."""
        return -(-self.episodes // self.epoch_episodes)
