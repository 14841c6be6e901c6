"""Settings of the training stages and what values they may have. Standard library only."""

from dataclasses import dataclass, field, fields
from typing import Any

from skelfew.config.fields import ConfigError
from skelfew.io.files import shown

HEADS = ("cosine", "protonet", "feat", "subspace", "soft-dtw", "dastm", "smam", "jeanie", "apsr")
_REPRESENTATIONS = ("f_v+f_t", "f_v", "f_t", "auto")
_FORMS = ("raw", "unit")
_CHOICES: dict[tuple[str, str], tuple[str, ...]] = {
    ("InputConfig", "match"): ("manifest", "ids"),
    ("InputConfig", "join"): ("concat", "mean"),
    ("OptimizerConfig", "name"): ("adam", "adamw", "sgd", "lars"),
    ("OptimizerConfig", "schedule"): ("cosine", "constant"),
    ("TransferConfig", "representation"): _REPRESENTATIONS,
    ("TransferConfig", "target_form"): _FORMS,
    ("TransferConfig", "width_align"): (
        "pad",
        "teacher_reduce",
        "skip_mismatched",
        "student_adapter",
        "encoder_512",
    ),
    ("ProjectorConfig", "representation"): _REPRESENTATIONS,
    ("ProjectorConfig", "target_form"): _FORMS,
    ("ProjectorConfig", "head"): ("mlp", "linear"),
    ("DirectConfig", "loss"): ("cosine", "l2"),
    ("InfoNCEConfig", "same_class"): ("mask", "positive", "negative"),
    ("SkeletonBYOLConfig", "decay_schedule"): ("cosine", "constant"),
    ("EpisodicConfig", "head"): HEADS,
    ("EncoderConfig", "body_pool"): ("mean", "masked_mean"),
    ("EncoderConfig", "image"): ("sl-dml", "skeleton-dml"),
    ("EncoderConfig", "fusion"): ("average", "fc", "attention"),
    ("DataConfig", "stream"): ("joint", "bone", "joint_motion", "bone_motion"),
    ("DataConfig", "missing_body"): ("auto", "zeros", "duplicate", "mask"),
    ("TrainConfig", "select"): ("last", "validation"),
    ("TrainConfig", "precision"): ("float32", "bfloat16"),
}
# Most that makes sense: a configuration may be somebody else's, and must not fill the memory.
_MOST = {
    "batch": 1 << 20, "frames": 10_000, "width": 8, "hidden_dim": 1 << 17,
    "projection_dim": 1 << 16, "threads": 4096, "ways": 10_000, "shots": 10_000, "queries": 100_000,
    "bodies": 16, "episodes_per_step": 10_000, "image_size": 2048, "embedding": 8192,
}  # fmt: skip
# Values that must lie above 0, and values that must not be negative.
_POSITIVE = {
    "epochs", "batch", "frames", "width", "lr", "episodes", "epoch_episodes", "shots", "queries",
    "episodes_per_step", "hidden_dim", "projection_dim", "scale", "predictor_lr", "ways", "threads",
    "base_classes", "samples_per_class", "temperature", "queue", "image_size", "embedding",
}  # fmt: skip
_NOT_NEGATIVE = {
    "weight_decay", "warmup", "momentum", "clip", "collapse", "seed", "norm_lr", "subset_seed",
    "margin", "epsilon",
}  # fmt: skip


def validate(config: Any) -> None:
    """Raise ConfigError if a value of a configuration is not among those that it may have."""
    kinds = [kind.__name__ for kind in type(config).__mro__]
    for f in fields(config):
        value = getattr(config, f.name)
        allowed = next((_CHOICES[k, f.name] for k in kinds if (k, f.name) in _CHOICES), None)
        if allowed and value not in allowed:
            raise ConfigError(f"{f.name} is {shown(value)}; expected {', '.join(allowed)}")
        if value is None or isinstance(value, bool):
            continue
        if f.name in _POSITIVE and not value > 0:
            raise ConfigError(f"{f.name} is {value}; it must be greater than 0")
        if f.name in _NOT_NEGATIVE and not value >= 0:
            raise ConfigError(f"{f.name} is {value}; it must not be negative")
        if f.name in _MOST and not value <= _MOST[f.name]:
            raise ConfigError(f"{f.name} is {value}; it can be {_MOST[f.name]} at most")


def check_batch(batch: int) -> None:
    """Raise ConfigError if a batch is too small for BatchNorm."""
    if batch < 2:
        raise ConfigError(f"batch is {batch}; BatchNorm needs 2 samples or more")


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

    name: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 1e-2
    momentum: float = 0.9
    nesterov: bool = False
    decay_all: bool = False
    warmup: float = 0.0
    schedule: str = "cosine"
    clip: float = 0.0

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class TransferConfig:
    """Representation transfer from the teacher (Sec. IV-B).

    Attributes:
        epochs: Passes over the base samples.
        batch: Samples per step.
        representation: Which cached features are the target (Table VIII); ``auto`` is f_v+f_t, or
            f_t where the teacher saw no video.
        target_form: ``unit`` scales f_v and f_t to length one before they are added.
        width_align: How Eq. 2 is made well-defined where encoder and teacher differ in width.
        decay: lambda of Eq. 2; 0 copies the online projector, 1 never moves the target's, which
            keeps it from shrinking (docs/paper-notes.md).
        predictor: Whether there is a predictor (Table X).
        predictor_lr: Factor on its learning rate.
        hidden_dim: Width of the hidden layer of projectors and predictor.
        projection_dim: Their output width.
        collapse: Stop when the spread of the targets falls below this share of its first value;
            0 for never.
    """

    epochs: int = 100
    batch: int = 128
    representation: str = "auto"
    target_form: str = "unit"
    width_align: str = "pad"
    decay: float = 1.0
    predictor: bool = True
    predictor_lr: float = 10.0
    hidden_dim: int = 4096
    projection_dim: int = 256
    collapse: float = 0.1
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(warmup=10.0, clip=1.0)
    )

    def __post_init__(self) -> None:
        validate(self)
        if not 0 <= self.decay <= 1:
            raise ConfigError(f"decay is {self.decay}; it must lie in [0, 1]")
        check_batch(self.batch)


@dataclass(frozen=True)
class TraditionalConfig:
    """Plain classification of the base classes ("traditional training" in Table VII)."""

    epochs: int = 65
    batch: int = 64
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            "sgd", lr=0.1, weight_decay=4e-4, nesterov=True, decay_all=True, warmup=5.0
        )
    )

    def __post_init__(self) -> None:
        validate(self)
        check_batch(self.batch)


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

    head: str = "cosine"
    head_settings: tuple[str, ...] = ()
    episodes: int = 10_000
    epoch_episodes: int = 200
    ways: int | None = None
    shots: int = 1
    queries: int = 5
    episodes_per_step: int = 1
    scale: float = 10.0
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
