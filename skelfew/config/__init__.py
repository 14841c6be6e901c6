"""Settings of a training run: frozen dataclasses, three presets, JSON. Standard library only.

``paper`` holds the numbers as printed by Lu et al., also where they collapse; ``recommended``, the
default, is what trains well; ``laptop`` takes seconds to minutes on a processor.
docs/paper-notes.md has a line for each difference from the paper.

Every value has a dotted name, e.g. ``transfer.optimizer.lr``, by which ``override`` changes it. The
settings of our stages are in ``skelfew.config.stages``, those of other packages with the stage.
"""

import dataclasses
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from skelfew.config import stages
from skelfew.config.stages import OptimizerConfig, PassesConfig, TeacherConfig
from skelfew.data.input import Facing, InputKind, MissingBody, Root, Size, Stream
from skelfew.encoders import EARLIER, ENCODERS, BodyPool
from skelfew.fields import (
    ConfigError,
    Count,
    Limit,
    Share,
    filled,
    flatten,
    from_plain,
    override_value,
    parameters,
    validate,
)
from skelfew.io.files import Document, Values, shown
from skelfew.training.stages import STAGES

__all__ = [
    "PRESETS", "ConfigError", "DataConfig", "EncoderConfig", "InputConfig", "OptimizerConfig",
    "PassesConfig", "TeacherConfig", "TrainConfig", "learns_from_teacher", "override", "preset",
    "stage_settings",
]  # fmt: skip

# The presets, as what differs from the values that the fields start with.
PRESETS: dict[str, Document] = {
    "recommended": {},
    "paper": {
        "data.missing_body": "auto",
        "transfer.target_form": "raw",
        "transfer.decay": 0.99,
        "transfer.output_bias": False,
        "skeleton_byol.output_bias": False,
        "transfer.optimizer.name": "adam",
        "transfer.optimizer.lr": 0.1,
        "transfer.optimizer.weight_decay": 0.01,
        "transfer.optimizer.decay_all": True,
        "transfer.optimizer.schedule": "constant",
        "transfer.optimizer.warmup": 0.0,
        "transfer.optimizer.clip": 0.0,
        "episodic.scale": 1.0,
        "episodic.learn_scale": False,
        "episodic.optimizer.lr": 1e-3,
        "train_on_validation": True,
    },
    "laptop": {
        "stages": ("classify",),
        "encoder.name": "temporal",
        "encoder.branches": 2,
        "data.frames": 16,
        "data.missing_body": "zeros",
        "data.kind": "ntu",
        "data.root": "level",
        "data.facing": "camera",
        "data.size": "body",
        "fusion": None,
    },
}
# Once every config.json held these settings of two encoders, whichever it was for.
_ONCE_OF_ALL = {"image": "resnet18", "image_size": "resnet18", "embedding": "resnet18",
                "fusion": "gca-lstm"}  # fmt: skip


@dataclass(frozen=True)
class EncoderConfig:
    """The skeleton encoder."""

    name: str = "agcn"  # a key of ``skelfew.encoders.ENCODERS``
    # Factor on the number of channels; 0.25 suits a laptop
    width: Annotated[float, Limit(above=0), Limit(most=8)] = 1.0
    # ``mean`` over all body slots (paper), ``masked_mean`` over those present
    body_pool: BodyPool = "mean"
    # Settings that this encoder has and others do not, by name: the keyword-only parameters of what
    # builds it. ``checked`` looks at them, and a run does before it starts.
    own: Values = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        validate(self)

    def checked(self, shared: bool = False) -> "EncoderConfig":
        """Return it with own settings converted and defaults; ``shared`` leaves out those of
        others.
        """
        build, own = ENCODERS.load(self.name), dict(self.own)
        if shared and (foreign := set(own) - set(parameters(build))):
            known = {key for name in ENCODERS for key in parameters(ENCODERS.load(name))}
            own = {key: value for key, value in own.items() if key not in foreign & known}
        return replace(self, own=filled(build, own, f"encoder {self.name!r}"))


@dataclass(frozen=True)
class DataConfig:
    """Settings of the network input; the rest follows from the dataset."""

    # T after resampling, None for the dataset's own (64; 52 for NW-UCLA)
    frames: Annotated[int, Limit(above=0), Limit(most=10_000)] | None = None
    stream: Stream = "joint"  # ``joint`` (paper), ``bone``, or the motion of one of them
    # What fills the slot of an absent second body; ``auto`` follows the reference preparation:
    # zeros for NTU-60, else a copy of the first body
    missing_body: Literal["auto", MissingBody] = "duplicate"
    # M, None for the largest number in the dataset (2 at most)
    bodies: Annotated[int, Limit(most=16)] | None = None
    # Train on this many of the base classes only; None for all. Smaller choices are parts of larger
    # ones.
    base_classes: Count | None = None
    # Train on this many samples of each base class only; None for all
    samples_per_class: Count | None = None
    subset_seed: Annotated[int, Limit(least=0)] = 0  # of both choices
    # ``ntu`` or ``ucla``, None for the dataset's own; this and what follows as in
    # ``skelfew.data.input.pipeline.Pipeline``
    kind: InputKind | None = None
    root: Root = "first"  # where the origin is: of the ``first`` frame, of ``each``, or ``level``
    facing: Facing = "recorded"  # way that bodies face: as ``recorded``, or to the ``camera``
    size: Size = "recorded"  # of bodies: as ``recorded``, or divided out (``body``)

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class InputConfig:
    """Paths of the inputs; None is found through the cache or the dataset's name."""

    dataset: str | None = None
    cache: str | None = None
    manifest: str | None = None
    store: str | None = None
    init: str | None = None
    # ``manifest`` wants the cache's manifest and skeletons by hash; ``ids`` is content with the
    # sample IDs and classes, for features that were computed elsewhere
    match: Literal["manifest", "ids"] = "manifest"
    # How the IDs of the cache become those of the manifest (PATTERN=REPLACEMENT); implies ``match``
    # = ``ids``
    rename_ids: str | None = None
    # Caches of other teachers, joined with the first by sample ID
    more_caches: tuple[str, ...] = ()
    # ``concat`` or ``mean`` of their targets, each scaled to length one
    join: Literal["concat", "mean"] = "concat"

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
        fusion: Compare clips by dynamic time warping of aligned joints and of the features by
            frame, which have this share; 0: cosines of the encoder's features alone; None: the
            share that the base classes call for, see ``skelfew.training.validation``.
        checkpoint_minutes: Longest time between two checkpoints; each epoch ends with one.
    """

    preset: str = "recommended"
    stages: tuple[str, ...] = ("transfer", "episodic")
    inputs: InputConfig = field(default_factory=InputConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    data: DataConfig = field(default_factory=DataConfig)
    protocol: str | None = None
    split: str | None = None
    train_on_validation: bool = False
    select: Literal["last", "validation"] = "last"
    seed: Annotated[int, Limit(least=0)] = 0
    device: str = "auto"
    threads: Annotated[int, Limit(above=0), Limit(most=4096)] | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    fusion: Share | None = 0.0
    checkpoint_minutes: float = 10.0
    of_stage: Values = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        validate(self)
        if not self.stages or len(set(self.stages)) < len(self.stages):
            raise ConfigError(f"stages are {self.stages}; name one or more, each once")
        # Those that take part, and others that were changed.
        given = self.of_stage
        chosen = {s: given.get(s) or stage_settings(s, self.preset) for s in self.stages}
        for stage in given:
            if stage not in chosen and given[stage] != stage_settings(stage, self.preset):
                chosen[stage] = given[stage]
        object.__setattr__(self, "of_stage", chosen)

    def __getattr__(self, name: str) -> Any:
        """Return the settings of a stage: ``config.transfer``."""
        if name.startswith("_") or name not in STAGES:
            raise AttributeError(f"a TrainConfig has no {name!r}")
        return self.of_stage.get(name) or stage_settings(name, self.preset)

    @property
    def teacher_stages(self) -> tuple[str, ...]:
        """The stages of this run that learn from a teacher."""
        return tuple(s for s in self.stages if learns_from_teacher(s))

    def to_dict(self) -> Document:
        """Return nested plain values, the content of a run's config.json."""
        document = dataclasses.asdict(self)
        document["encoder"] |= document["encoder"].pop("own")
        document |= document.pop("of_stage")
        return json.loads(json.dumps(document))

    @classmethod
    def from_dict(cls, values: Values) -> "TrainConfig":
        """Build the configuration from what ``to_dict`` returned; unknown keys are errors."""
        plain = dict(values)
        of_stage = {
            stage: from_plain(config_of(stage), plain.pop(stage), f"{stage}.")
            for stage in [*plain]
            if stage in STAGES
        }
        encoder = plain.get("encoder")
        if isinstance(encoder, Mapping):
            shared = {f.name for f in dataclasses.fields(EncoderConfig)} - {"own"}
            own = {key: value for key, value in encoder.items() if key not in shared}
            if set(_ONCE_OF_ALL) <= set(own):
                name = encoder.get("name")
                own = {key: value for key, value in own.items() if _ONCE_OF_ALL.get(key) == name}
                own |= EARLIER.get(str(name), {})
            plain["encoder"] = {key: value for key, value in encoder.items() if key in shared}
        config: TrainConfig = from_plain(cls, plain)
        if isinstance(encoder, Mapping) and own:
            config = replace(config, encoder=replace(config.encoder, own=own))
        return replace(config, of_stage=of_stage)

    def flat(self) -> Document:
        """Return all values by dotted name."""
        return flatten(self.to_dict())

    def changed(self) -> dict[str, list[Any]]:
        """Return what differs from the preset: {dotted name: [preset's value, own value]}."""
        own, base = self.flat(), preset(self.preset)
        start = base.flat()
        if self.encoder.own:
            defaults = replace(self.encoder, own={}).checked().own
            start |= {f"encoder.{key}": value for key, value in defaults.items()}
        for stage in self.of_stage:
            settings = dataclasses.asdict(stage_settings(stage, self.preset))
            start |= flatten(json.loads(json.dumps(settings)), f"{stage}.")
        return {k: [start.get(k), own[k]] for k in own if own[k] != start.get(k)}


def config_of(stage: str) -> Any:
    """Return the class of a stage's settings, without loading a stage of our own."""
    STAGES.check(stage)
    module, _, name = STAGES[stage].partition(":")
    own = getattr(stages, f"{name}Config", None) if module.startswith("skelfew.") else None
    return own or STAGES.load(stage).Config


@functools.cache
def stage_settings(stage: str, preset: str = "recommended") -> Any:
    """Return the settings with which a stage starts in a preset, a ``Config`` of its class."""
    if stage not in STAGES:
        raise ConfigError(f"no stage {stage!r}; there are {', '.join(STAGES)}")
    settings = config_of(stage)()
    for key, value in PRESETS.get(preset, {}).items():
        name, _, rest = key.partition(".")
        if name == stage:
            settings = override_value(settings, rest.split("."), value, key)
    return settings


def learns_from_teacher(stage: str) -> bool:
    """Whether a stage's targets are teacher features: its settings name a representation."""
    return hasattr(stage_settings(stage), "representation")


@functools.cache
def preset(name: str) -> TrainConfig:
    """Return the preset called ``name``."""
    if name not in PRESETS:
        raise ConfigError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    config = TrainConfig(preset=name)
    for key, value in PRESETS[name].items():
        if key.split(".")[0] not in STAGES:
            config = override(config, key, value)
    return config


def override(config: TrainConfig, key: str, value: object) -> TrainConfig:
    """Return ``config`` with one value changed.

    Args:
        key: Dotted name, e.g. ``transfer.optimizer.lr``.
        value: The new value, or its text: ``0.01``, ``true``, ``none``, ``transfer,episodic``.

    Raises:
        ConfigError: No such key, or not a value of its type. Settings of one encoder alone are
            looked at when the run starts (``EncoderConfig.checked``). ``preset`` cannot be set.
    """
    if key == "preset":
        raise ConfigError(
            f"preset is not a value to set: {shown(value)} would name the run and change nothing; "
            "choose it with --preset, which sets all its values"
        )
    name, _, rest = key.partition(".")
    if name in STAGES:
        settings = getattr(config, name)
        if not rest:
            known = ", ".join(f"{key}.{f.name}" for f in dataclasses.fields(settings))
            raise ConfigError(f"{key!r} is a group of settings; name one of {known}")
        changed = override_value(settings, rest.split("."), value, key)
        return replace(config, of_stage={**config.of_stage, name: changed})
    if name == "encoder" and rest and "." not in rest and not hasattr(config.encoder, rest):
        own = {**config.encoder.own, rest: value}
        return replace(config, encoder=replace(config.encoder, own=own))
    if key == "encoder.name" and value != config.encoder.name:  # what a preset says of its own
        of = PRESETS[config.preset]
        items = config.encoder.own.items()
        kept = {k: v for k, v in items if of.get(f"encoder.{k}") != v}
        config = replace(config, encoder=replace(config.encoder, own=kept))
    return override_value(config, key.split("."), value, key)
