"""Settings of the strategies beside the paper's own: the same in both presets, where not said.

``views`` of a configuration is how many clips a sample is for the trained encoder; a table's budget
counts each.
"""

from dataclasses import dataclass, field

from skelfew.config.fields import ConfigError
from skelfew.config.stages import OptimizerConfig, TransferConfig, check_batch, validate


def _like_transfer() -> OptimizerConfig:
    return OptimizerConfig(warmup=10.0, clip=1.0)


@dataclass(frozen=True)
class ProjectorConfig:
    """A projector from the encoder to the width of the teacher; nothing moves, nothing predicts.

    Attributes:
        epochs: Passes over the base samples.
        batch: Samples per step.
        representation: Which cached features are the target, as for the transfer.
        target_form: As for the transfer.
        head: The projector: ``mlp`` (BYOL's) or one ``linear`` layer.
        hidden_dim: Width of the hidden layer of the ``mlp``.
        collapse: Stop when the spread of the predictions falls below this share of the targets'; 0
            for never.
    """

    epochs: int = 100
    batch: int = 128
    representation: str = "auto"
    target_form: str = "unit"
    head: str = "mlp"
    hidden_dim: int = 4096
    collapse: float = 0.01
    optimizer: OptimizerConfig = field(default_factory=_like_transfer)

    def __post_init__(self) -> None:
        validate(self)
        check_batch(self.batch)


@dataclass(frozen=True)
class DirectConfig(ProjectorConfig):
    """Regression to the teacher's feature, an ablation of ours.

    Attributes:
        loss: ``cosine``: 2 - 2 cos; ``l2``: the squared Euclidean distance.
    """

    loss: str = "cosine"


@dataclass(frozen=True)
class InfoNCEConfig(ProjectorConfig):
    """Telling a sample's teacher feature from those of the batch, an ablation of ours.

    Attributes:
        temperature: Of the cosines.
        same_class: What other samples of a sample's class are to it: ``mask``: left out;
            ``positive``: as good as its own, with equal weight; ``negative``: others like all.
        symmetric: Mean of both directions, as in CLIP; else the skeleton looks for its target only.
    """

    temperature: float = 0.1
    same_class: str = "mask"
    symmetric: bool = True


@dataclass(frozen=True)
class MixedConfig(TransferConfig):
    """Transfer and classification of the base classes at once, an ablation of ours.

    Attributes:
        weight: Of the transfer's loss; the cross-entropy has the rest, so 0.5 is the mean of both.
    """

    weight: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.weight <= 1:
            raise ConfigError(f"weight is {self.weight}; it must lie in [0, 1]")


@dataclass(frozen=True)
class SkeletonBYOLConfig:
    """BYOL on two views of a skeleton (Moliner et al.); a reconstruction, see docs/training.md.

    Attributes:
        epochs: Passes over the base samples.
        batch: Samples per step.
        decay: Weight of the old target in the moving average.
        decay_schedule: ``cosine`` lets it rise to 1 over the stage, ``constant`` does not.
        hidden_dim: Width of the hidden layer of projectors and predictor.
        projection_dim: Their output width.
        multi_view: Take the second view from any camera that recorded the same performance.
        collapse: Stop when the spread of the targets falls below this share of its first value; 0
            for never.
    """

    epochs: int = 100
    batch: int = 128
    decay: float = 0.996
    decay_schedule: str = "cosine"
    hidden_dim: int = 4096
    projection_dim: int = 256
    multi_view: bool = True
    collapse: float = 0.1
    optimizer: OptimizerConfig = field(default_factory=_like_transfer)

    def __post_init__(self) -> None:
        validate(self)
        check_batch(self.batch)
        if not 0 <= self.decay <= 1:
            raise ConfigError(f"decay is {self.decay}; it must lie in [0, 1]")

    @property
    def views(self) -> int:
        """Two: both views pass through the trained encoder."""
        return 2


@dataclass(frozen=True)
class AimCLRConfig:
    """AimCLR (Guo et al., AAAI 2022), numbers of its configuration for NTU-60 but for the schedule.

    Attributes:
        epochs: Passes over the base samples.
        batch: Samples per step.
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

    epochs: int = 300
    batch: int = 128
    decay: float = 0.999
    queue: int = 32768
    temperature: float = 0.07
    projection_dim: int = 128
    keep: float = 0.7
    mining_from: float = 0.5
    time_flip: bool = False
    collapse: float = 0.1
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig("sgd", lr=0.1, weight_decay=1e-4, decay_all=True)
    )

    def __post_init__(self) -> None:
        validate(self)
        check_batch(self.batch)
        for name in ("decay", "mining_from", "keep"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must lie in [0, 1]")

    @property
    def views(self) -> int:
        """Two: the normal and the extreme view pass through the trained encoder."""
        return 2


@dataclass(frozen=True)
class MetricConfig:
    """Deep metric learning of SL-DML and Skeleton-DML, with one of their optimisers.

    Attributes:
        epochs: Passes over the base samples.
        batch: Samples per step.
        per_class: How many samples of a class come together.
        margin: Of the triplets.
        epsilon: Of the multi-similarity miner.
        triplet_weight: Of the triplet loss; the cross-entropy has the rest.
    """

    epochs: int = 100
    batch: int = 32
    per_class: int = 4
    margin: float = 0.2
    epsilon: float = 0.1
    triplet_weight: float = 0.5
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig("sgd", lr=0.01, weight_decay=0.0)
    )

    def __post_init__(self) -> None:
        validate(self)
        check_batch(self.batch)
        if not 0 <= self.triplet_weight <= 1:
            raise ConfigError(f"triplet_weight is {self.triplet_weight}; it must lie in [0, 1]")
        if not 2 <= self.per_class <= self.batch:
            raise ConfigError(
                f"per_class is {self.per_class}; it must lie in 2 to the batch, {self.batch}"
            )
