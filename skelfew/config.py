"""How a training run is configured: frozen dataclasses, two presets, JSON. Standard library only.

``paper`` holds the numbers as printed by Lu et al., also where they collapse; ``recommended``, the
default, is what trains well. docs/paper-notes.md has a line for each difference.

Every value has a dotted name, e.g. ``transfer.optimizer.lr``, by which ``override`` changes it.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from skelfew.settings import ConfigError, flatten, from_plain, override_value

STAGES = ("transfer", "traditional", "episodic")
HEADS = ("cosine", "protonet")  # of the episodic stage, see skelfew.fewshot.HEADS
_CHOICES: dict[tuple[str, str], tuple[str, ...]] = {
    ("InputConfig", "match"): ("manifest", "ids"),
    ("OptimizerConfig", "name"): ("adam", "adamw", "sgd", "lars"),
    ("OptimizerConfig", "schedule"): ("cosine", "constant"),
    ("TransferConfig", "representation"): ("f_v+f_t", "f_v", "f_t", "auto"),
    ("TransferConfig", "target_form"): ("raw", "unit"),
    ("TransferConfig", "width_align"): (
        "pad",
        "teacher_reduce",
        "skip_mismatched",
        "student_adapter",
        "encoder_512",
    ),
    ("EpisodicConfig", "head"): HEADS,
    ("EncoderConfig", "body_pool"): ("mean", "masked_mean"),
    ("DataConfig", "stream"): ("joint", "bone", "joint_motion", "bone_motion"),
    ("DataConfig", "missing_body"): ("auto", "zeros", "duplicate", "mask"),
    ("TrainConfig", "select"): ("last", "validation"),
    ("TrainConfig", "precision"): ("float32", "bfloat16"),
}
# Values that must lie above 0, and values that must not be negative.
_POSITIVE = {
    "epochs", "batch", "frames", "width", "lr", "episodes", "epoch_episodes", "shots", "queries",
    "episodes_per_step", "hidden_dim", "projection_dim", "scale", "predictor_lr", "ways", "threads",
    "base_classes", "samples_per_class",
}  # fmt: skip
_NOT_NEGATIVE = {
    "weight_decay", "warmup", "momentum", "clip", "collapse", "seed", "norm_lr", "subset_seed",
}  # fmt: skip


def _validate(config: Any) -> None:
    kind = type(config).__name__
    for f in fields(config):
        value = getattr(config, f.name)
        allowed = _CHOICES.get((kind, f.name))
        if allowed and value not in allowed:
            raise ConfigError(f"{f.name} is {value!r}; expected {', '.join(allowed)}")
        if value is None or isinstance(value, bool):
            continue
        if f.name in _POSITIVE and not value > 0:
            raise ConfigError(f"{f.name} is {value}; it must be greater than 0")
        if f.name in _NOT_NEGATIVE and not value >= 0:
            raise ConfigError(f"{f.name} is {value}; it must not be negative")


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
        _validate(self)


@dataclass(frozen=True)
class EncoderConfig:
    """The skeleton encoder.

    Attributes:
        name: A key of ``skelfew.encoders.ENCODERS``.
        width: Factor on the number of channels; 0.25 suits a laptop.
        body_pool: ``mean`` over all body slots (paper), ``masked_mean`` over those present.
    """

    name: str = "agcn"
    width: float = 1.0
    body_pool: str = "mean"

    def __post_init__(self) -> None:
        _validate(self)


@dataclass(frozen=True)
class DataConfig:
    """How skeletons become network input; the rest follows from the dataset.

    Attributes:
        frames: T after resampling, None for the dataset's own (64; 52 for NW-UCLA).
        stream: ``joint`` (paper), ``bone``, or the motion of one of them.
        missing_body: What stands in the slot of an absent second body; ``auto`` follows the
            reference preparation: zeros for NTU-60, else a copy of the first body.
        bodies: M, None for the largest number in the dataset (2 at most).
        base_classes: Train on this many of the base classes only; None for all. Smaller choices
            are parts of larger ones.
        samples_per_class: Train on this many samples of each base class only; None for all.
        subset_seed: Of both choices.
    """

    frames: int | None = None
    stream: str = "joint"
    missing_body: str = "duplicate"
    bodies: int | None = None
    base_classes: int | None = None
    samples_per_class: int | None = None
    subset_seed: int = 0

    def __post_init__(self) -> None:
        _validate(self)


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
        _validate(self)
        if not 0 <= self.decay <= 1:
            raise ConfigError(f"decay is {self.decay}; it must lie in [0, 1]")
        if self.batch < 2:
            raise ConfigError(f"batch is {self.batch}; BatchNorm needs 2 samples or more")


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
        _validate(self)
        if self.batch < 2:
            raise ConfigError(f"batch is {self.batch}; BatchNorm needs 2 samples or more")


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
        _validate(self)
        for pair in self.head_settings:
            if "=" not in pair:
                raise ConfigError(f"head_settings has {pair!r}; expected KEY=VALUE")

    @property
    def epochs(self) -> int:
        """Number of epochs; the last one may be shorter."""
        return -(-self.episodes // self.epoch_episodes)


@dataclass(frozen=True)
class InputConfig:
    """Where the inputs are; what is None is found through the cache or the dataset's name.

    Attributes:
        match: ``manifest`` wants the cache's manifest and skeletons by hash; ``ids`` is content
            with the sample IDs and classes, for features that were computed elsewhere.
        rename_ids: How the IDs of the cache become those of the manifest (PATTERN=REPLACEMENT);
            implies ``match`` = ``ids``.
    """

    dataset: str | None = None
    cache: str | None = None
    manifest: str | None = None
    store: str | None = None
    init: str | None = None
    match: str = "manifest"
    rename_ids: str | None = None

    def __post_init__(self) -> None:
        _validate(self)


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
        preset: The preset that the other values started from.
        stages: In this order, any of ``STAGES``.
        protocol: Name or file of the few-shot protocol, None for the dataset's default.
        split: Which split of a protocol with several.
        train_on_validation: Train on the validation classes too, as a paper's final run does.
        select: ``last`` keeps the last epoch of every stage, ``validation`` the one with the best
            one-shot accuracy on the validation classes. Novel classes never take part.
        seed: Of everything random.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1`` ...
        threads: Of the processor, None for PyTorch's choice.
        precision: ``bfloat16`` runs the encoder in autocast.
        checkpoint_minutes: Longest time between two checkpoints; each epoch ends with one.
    """

    preset: str = "recommended"
    stages: tuple[str, ...] = ("transfer", "episodic")
    inputs: InputConfig = field(default_factory=InputConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    data: DataConfig = field(default_factory=DataConfig)
    transfer: TransferConfig = field(default_factory=TransferConfig)
    traditional: TraditionalConfig = field(default_factory=TraditionalConfig)
    episodic: EpisodicConfig = field(default_factory=EpisodicConfig)
    protocol: str | None = None
    split: str | None = None
    train_on_validation: bool = False
    select: str = "last"
    seed: int = 0
    device: str = "auto"
    threads: int | None = None
    precision: str = "float32"
    checkpoint_minutes: float = 10.0

    def __post_init__(self) -> None:
        _validate(self)
        if not self.stages or len(set(self.stages)) < len(self.stages):
            raise ConfigError(f"stages are {self.stages}; name one or more, each once")
        for stage in self.stages:
            if stage not in STAGES:
                raise ConfigError(f"no stage {stage!r}; there are {', '.join(STAGES)}")

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain values, the content of a run's config.json."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """Build the configuration from what ``to_dict`` returned; unknown keys are errors."""
        return from_plain(cls, values)

    def flat(self) -> dict[str, Any]:
        """Return all values by dotted name."""
        return flatten(self.to_dict())

    def changed(self) -> dict[str, list[Any]]:
        """Return what differs from the preset: {dotted name: [preset's value, own value]}."""
        own, base = self.flat(), preset(self.preset).flat()
        return {k: [base[k], own[k]] for k in own if own[k] != base[k]}


def preset(name: str) -> TrainConfig:
    """Return the preset called ``name``."""
    if name not in PRESETS:
        raise ConfigError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]


def override(config: TrainConfig, key: str, value: object) -> TrainConfig:
    """Return ``config`` with one value changed.

    Args:
        config: What to start from.
        key: Dotted name, e.g. ``transfer.optimizer.lr``.
        value: The new value, or its text: ``0.01``, ``true``, ``none``, ``transfer,episodic``.

    Raises:
        ConfigError: No such key, or not a value of its type.
    """
    return override_value(config, key.split("."), value, key)


_PAPER = TrainConfig(
    preset="paper",
    data=DataConfig(missing_body="auto"),
    transfer=TransferConfig(
        target_form="raw",
        decay=0.99,
        optimizer=OptimizerConfig(
            "adam", lr=0.1, weight_decay=0.01, decay_all=True, schedule="constant"
        ),
    ),
    episodic=EpisodicConfig(
        scale=1.0,
        learn_scale=False,
        optimizer=OptimizerConfig("sgd", lr=1e-3, weight_decay=1e-4, decay_all=True),
    ),
    train_on_validation=True,
)
PRESETS: dict[str, TrainConfig] = {"recommended": TrainConfig(), "paper": _PAPER}
