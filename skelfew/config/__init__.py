"""How a training run is configured: frozen dataclasses, two presets, JSON. Standard library only.

``paper`` holds the numbers as printed by Lu et al., also where they collapse; ``recommended``, the
default, is what trains well. docs/paper-notes.md has a line for each difference.

Every value has a dotted name, e.g. ``transfer.optimizer.lr``, by which ``override`` changes it.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from skelfew.config.fields import ConfigError, flatten, from_plain, override_value
from skelfew.config.stages import (
    HEADS,
    EpisodicConfig,
    OptimizerConfig,
    TraditionalConfig,
    TransferConfig,
    validate,
)
from skelfew.config.strategies import (
    AimCLRConfig,
    DirectConfig,
    InfoNCEConfig,
    MetricConfig,
    MixedConfig,
    SkeletonBYOLConfig,
)
from skelfew.encoders import OWN_SETTINGS

__all__ = [
    "HEADS",
    "PRESETS",
    "STAGES",
    "TEACHER_STAGES",
    "AimCLRConfig",
    "ConfigError",
    "DataConfig",
    "DirectConfig",
    "EncoderConfig",
    "EpisodicConfig",
    "InfoNCEConfig",
    "InputConfig",
    "MetricConfig",
    "MixedConfig",
    "OptimizerConfig",
    "SkeletonBYOLConfig",
    "TraditionalConfig",
    "TrainConfig",
    "TransferConfig",
    "override",
    "preset",
]

STAGES = (
    "transfer",
    "direct",
    "infonce",
    "mixed",
    "skeleton_byol",
    "aimclr",
    "metric",
    "traditional",
    "episodic",
)
# Those that learn from cached teacher features.
TEACHER_STAGES = ("transfer", "direct", "infonce", "mixed")


@dataclass(frozen=True)
class EncoderConfig:
    """The skeleton encoder.

    Attributes:
        name: A key of ``skelfew.encoders.ENCODERS``.
        width: Factor on the number of channels; 0.25 suits a laptop.
        body_pool: ``mean`` over all body slots (paper), ``masked_mean`` over those present.
        image: What ``resnet18`` looks at: the ``sl-dml`` or the ``skeleton-dml`` image.
        image_size: Its height and width.
        embedding: Width of a linear layer that ends ``resnet18``, None for none.
        fusion: How ``gca-lstm`` fuses parts of the body: ``average``, ``fc`` or ``attention``.
    """

    name: str = "agcn"
    width: float = 1.0
    body_pool: str = "mean"
    image: str = "sl-dml"
    image_size: int = 256
    embedding: int | None = None
    fusion: str = "average"

    def __post_init__(self) -> None:
        validate(self)

    @property
    def own(self) -> dict[str, Any]:
        """Settings that this encoder has and others do not, those that are None left out."""
        values = {key: getattr(self, key) for key in OWN_SETTINGS.get(self.name, ())}
        return {key: value for key, value in values.items() if value is not None}


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
        validate(self)


@dataclass(frozen=True)
class InputConfig:
    """Where the inputs are; what is None is found through the cache or the dataset's name.

    Attributes:
        match: ``manifest`` wants the cache's manifest and skeletons by hash; ``ids`` is content
            with the sample IDs and classes, for features that were computed elsewhere.
        rename_ids: How the IDs of the cache become those of the manifest (PATTERN=REPLACEMENT);
            implies ``match`` = ``ids``.
        more_caches: Caches of other teachers, joined with the first by sample ID.
        join: ``concat`` or ``mean`` of their targets, each scaled to length one.
    """

    dataset: str | None = None
    cache: str | None = None
    manifest: str | None = None
    store: str | None = None
    init: str | None = None
    match: str = "manifest"
    rename_ids: str | None = None
    more_caches: tuple[str, ...] = ()
    join: str = "concat"

    def __post_init__(self) -> None:
        validate(self)


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
        compile: Hand the encoder to torch.compile, which takes a minute or more before the first
            step. Meant for GPUs, not measured there; a processor has skelfew's own faster forms.
        checkpoint_minutes: Longest time between two checkpoints; each epoch ends with one.
    """

    preset: str = "recommended"
    stages: tuple[str, ...] = ("transfer", "episodic")
    inputs: InputConfig = field(default_factory=InputConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    data: DataConfig = field(default_factory=DataConfig)
    transfer: TransferConfig = field(default_factory=TransferConfig)
    direct: DirectConfig = field(default_factory=DirectConfig)
    infonce: InfoNCEConfig = field(default_factory=InfoNCEConfig)
    mixed: MixedConfig = field(default_factory=MixedConfig)
    skeleton_byol: SkeletonBYOLConfig = field(default_factory=SkeletonBYOLConfig)
    aimclr: AimCLRConfig = field(default_factory=AimCLRConfig)
    metric: MetricConfig = field(default_factory=MetricConfig)
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
    compile: bool = False
    checkpoint_minutes: float = 10.0

    def __post_init__(self) -> None:
        validate(self)
        if not self.stages or len(set(self.stages)) < len(self.stages):
            raise ConfigError(f"stages are {self.stages}; name one or more, each once")
        for stage in self.stages:
            if stage not in STAGES:
                raise ConfigError(f"no stage {stage!r}; there are {', '.join(STAGES)}")

    @property
    def teacher_stages(self) -> tuple[str, ...]:
        """The stages of this run that learn from a teacher."""
        return tuple(s for s in self.stages if s in TEACHER_STAGES)

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
