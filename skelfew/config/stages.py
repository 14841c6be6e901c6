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


@dataclass(frozen=True)
class TransferConfig(TeacherConfig):
    """Representation transfer from the teacher (Sec. IV-B).

    Attributes:
        width_align: How Eq. 2 is made well-defined where encoder and teacher differ in width.
        decay: lambda of Eq. 2; 0 copies the online projector, 1 never moves the target's, which
            keeps it from shrinking (docs/paper-notes.md).
        predictor: Whether there is a predictor (Table X).
        predictor_lr: Factor on its learning rate.
        hidden_dim: Width of the hidden layer of projectors and predictor.
        projection_dim: Their output width.
        output_bias: Whether their last layers have a bias; BYOL's have none.
        collapse: Stop when the spread of the targets falls below this share of its first value;
            0 for never.
    """

    width_align: WidthAlign = "pad"
    decay: Share = 1.0
    predictor: bool = True
    predictor_lr: Positive = 10.0
    hidden_dim: HiddenWidth = 4096
    projection_dim: ProjectionWidth = 256
    output_bias: bool = True
    collapse: NotNegative = 0.1


@dataclass(frozen=True)
class ProjectorConfig(TeacherConfig):
    """A projector from the encoder to the width of the teacher; nothing moves, nothing predicts.

    Attributes:
        head: The projector: ``mlp`` (BYOL's) or one ``linear`` layer.
        hidden_dim: Width of the hidden layer of the ``mlp``.
        collapse: Stop when the spread of the predictions falls below this share of the targets'; 0
            for never.
    """

    head: Literal["mlp", "linear"] = "mlp"
    hidden_dim: HiddenWidth = 4096
    collapse: NotNegative = 0.01


@dataclass(frozen=True)
class DirectConfig(ProjectorConfig):
    """Regression to the teacher's feature, an ablation of ours.

    Attributes:
        loss: ``cosine``: 2 - 2 cos; ``l2``: the squared Euclidean distance.
    """

    loss: Literal["cosine", "l2"] = "cosine"


@dataclass(frozen=True)
class InfoNCEConfig(ProjectorConfig):
    """Settings of the contrast of a sample's teacher feature with those of the batch.

    Attributes:
        temperature: Of the cosines.
        same_class: What other samples of a sample's class are to it: ``mask``: left out;
            ``positive``: as good as its own, with equal weight; ``negative``: others like all.
        symmetric: Mean of both directions, as in CLIP; else the skeleton looks for its target only.
    """

    temperature: Positive = 0.1
    same_class: Literal["mask", "positive", "negative"] = "mask"
    symmetric: bool = True


@dataclass(frozen=True)
class MixedConfig(TransferConfig):
    """Transfer and classification of the base classes at once, an ablation of ours.

    Attributes:
        weight: Of the transfer's loss; the cross-entropy has the rest, so 0.5 is the mean of both.
    """

    weight: Share = 0.5


@dataclass(frozen=True)
class SkeletonBYOLConfig(PassesConfig):
    """BYOL on two views of a skeleton (Moliner et al.); a reconstruction, see docs/training.md.

    Attributes:
        decay: Weight of the old target in the moving average.
        decay_schedule: ``cosine`` lets it rise to 1 over the stage, ``constant`` does not.
        hidden_dim: Width of the hidden layer of projectors and predictor.
        projection_dim: Their output width.
        output_bias: Whether their last layers have a bias; BYOL's have none.
        multi_view: Take the second view from any camera that recorded the same performance.
        collapse: Stop when the spread of the targets falls below this share of its first value; 0
            for never.
    """

    decay: Share = 0.996
    decay_schedule: Literal["cosine", "constant"] = "cosine"
    hidden_dim: HiddenWidth = 4096
    projection_dim: ProjectionWidth = 256
    output_bias: bool = True
    multi_view: bool = True
    collapse: NotNegative = 0.1
    views: ClassVar[int] = 2  # both pass through the trained encoder


@dataclass(frozen=True)
class AimCLRConfig(PassesConfig):
    """AimCLR (Guo et al., AAAI 2022), numbers of its configuration for NTU-60 but for the schedule.

    Attributes:
        decay: Weight of the old key encoder in the moving average.
        queue: Number of keys that are remembered as negatives.
        temperature: Of the cosines.
        projection_dim: Output width of the heads.
        keep: Attention above which a part of the feature map is dropped.
        mining_from: Share of the epochs after which nearest neighbours count as positives.
        time_flip: Play half of the extreme views backwards (off in the released configuration).
        collapse: Stop when the spread of the keys falls below this share of its first value; 0 for
            never.
    """

    epochs: Count = 300
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig("sgd", lr=0.1, weight_decay=1e-4, decay_all=True)
    )
    decay: Share = 0.999
    queue: Count = 32768
    temperature: Positive = 0.07
    projection_dim: ProjectionWidth = 128
    keep: Share = 0.7
    mining_from: Share = 0.5
    time_flip: bool = False
    collapse: NotNegative = 0.1
    views: ClassVar[int] = 2  # the normal and the extreme one pass through the trained encoder


@dataclass(frozen=True)
class MetricConfig(PassesConfig):
    """Deep metric learning of SL-DML and Skeleton-DML, with one of their optimisers.

    Attributes:
        per_class: How many samples of a class come together.
        margin: Of the triplets.
        epsilon: Of the multi-similarity miner.
        triplet_weight: Of the triplet loss; the cross-entropy has the rest.
    """

    batch: Batch = 32
    per_class: Count = 4
    margin: NotNegative = 0.2
    epsilon: NotNegative = 0.1
    triplet_weight: Share = 0.5
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
    """Classification of the base classes by cosine softmax; what ``laptop`` trains.

    Attributes:
        epochs: Least number of passes over the base samples.
        clips: Least number of clips, in as many passes as it takes.
        temperature: Divides the cosines, at first; it is learned.
        mirrored: Take the mirror images of clips as further classes. An encoder of several
            branches does so anyway, and with reversed clips, in all branches but the first: what
            they learn differs more than what chance makes of one task.
        whiten: Share of the mean variance in the scatter within base classes, by which features
            are whitened at the end; 0 for no whitening.
        text_ridge: With a teacher cache: penalty of the map from texts to features, as a multiple
            of the mean squared length of the centred base texts.
    """

    epochs: Count = 5
    clips: Count = 15_000
    batch: Batch = 64
    temperature: Positive = 0.1
    mirrored: bool = False
    whiten: Share = 0.1
    text_ridge: Positive = 1.0
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(lr=3e-3, weight_decay=0.01, decay_all=True)
    )

    def passes(self, samples: int) -> int:
        """Return the number of passes over so many base samples."""
        return max(self.epochs, -(-self.clips // max(samples, 1)))


@dataclass(frozen=True)
class EpisodicConfig:
    """Episodic training on the base classes, with cosine logits in the paper (Sec. IV-C).

    Attributes:
        head: What compares queries with exemplars, a key of ``skelfew.fewshot.HEADS``.
        head_settings: Settings of the head to change, ``KEY=VALUE`` each (docs/heads.md).
        episodes: How many in all.
        epoch_episodes: After how many an epoch ends (a row of metrics, a checkpoint).
        ways: N; None for the number of novel classes, 20 at most, as far as base classes go.
        shots: K.
        queries: Q per class.
        episodes_per_step: How many share one forward pass and one step.
        scale: Of the cosines, the inverse temperature (paper: none, 1); for heads whose logits
            are cosines.
        learn_scale: Whether the scale is learned.
    """

    head: Annotated[str, OneOf(HEADS)] = "cosine"
    head_settings: tuple[str, ...] = ()
    episodes: Count = 10_000
    epoch_episodes: Count = 200
    ways: Annotated[int, Limit(above=0, most=10_000)] | None = None
    shots: Annotated[int, Limit(above=0, most=10_000)] = 1
    queries: Annotated[int, Limit(above=0, most=100_000)] = 5
    episodes_per_step: Annotated[int, Limit(above=0, most=10_000)] = 1
    scale: Positive = 10.0
    learn_scale: bool = True
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
