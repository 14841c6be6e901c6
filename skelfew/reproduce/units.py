"""From a table to units of work: one training of one row with one seed or split."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from skelfew.base_samples import base_samples
from skelfew.config import STAGES, TrainConfig, override, preset
from skelfew.data.protocols import split_names
from skelfew.errors import SkelfewError
from skelfew.features import file_digest
from skelfew.fewshot import CLASSIFIERS
from skelfew.inputs import Inputs, find_inputs
from skelfew.reproduce.tables import Row, Table
from skelfew.resolve import resolve

# Raised when training or scoring changes so that old records no longer stand for the code.
RECORD_VERSION = 1
# Settings that change where or how fast something is computed, but not what.
_NO_MATTER = ("inputs.", "protocol", "device", "threads", "checkpoint_minutes", "preset")


@dataclass(frozen=True)
class Unit:
    """One training and its scores; several rows may read from it.

    Attributes:
        key: Digest of everything that determines the numbers.
        rows: Keys of the rows, first the one that names the folder.
        dataset: Name of the data set.
        split: Name of the split, "" if the protocol has one only.
        seed: Of training and draws.
        config: What is trained, resolved; None for raw skeletons.
        inputs: Where data, protocol and cache are, as a configuration.
        classes: ``novel`` or ``validation``: which classes are scored.
        shots: K, all scored.
        draws: Random draws of exemplars.
        samples: Clips that each stage passes through the encoder.
    """

    key: str
    rows: tuple[str, ...]
    dataset: str
    split: str
    seed: int
    config: TrainConfig | None
    inputs: TrainConfig
    classes: str
    shots: tuple[int, ...]
    draws: int
    samples: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of its folder."""
        unit = f"split{self.split}" if self.split else f"seed{self.seed}"
        return f"{self.rows[0]}-{self.dataset}-{unit}-{self.key[:8]}"

    @property
    def unit(self) -> str:
        """What it is one of: ``seed 3`` or ``split 3``."""
        return f"split {self.split}" if self.split else f"seed {self.seed}"

    @property
    def speed_key(self) -> tuple[Any, ...]:
        """What the time a clip takes depends on, besides the machine."""
        c = self.config
        if c is None:
            return ()
        return (c.encoder.name, c.encoder.width, c.data.frames, *c.stages)

    @property
    def total(self) -> int:
        """All clips that training passes through the encoder."""
        return sum(self.samples.values())


@dataclass(frozen=True)
class Request:
    """What is to be run.

    Attributes:
        table: The table.
        name: How the user named it, a file perhaps.
        dataset: On which data set.
        budget: Name of one of the table's budgets.
        rows: Keys; empty for all.
        count: Number of seeds or splits; None for the table's seeds, or all splits.
        classes: ``novel`` or ``validation``.
        caches: Paths by cache key, where they are not the table's.
        settings: Overrides of all rows, e.g. from the command line.
        device: See ``TrainConfig``.
        threads: Of each worker.
    """

    table: Table
    name: str
    dataset: str
    budget: str
    rows: tuple[str, ...] = ()
    count: int | None = None
    classes: str = "novel"
    caches: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    device: str = "auto"
    threads: int = 1

    def wanted(self) -> list[Row]:
        """Return the rows asked for, those that cannot run among them."""
        rows = self.table.rows_for(self.dataset)
        if not self.rows:
            return rows
        keys = {self.table.row(key).key for key in self.rows}
        return [row for row in rows if row.key in keys]


@dataclass(frozen=True)
class Work:
    """What a request comes to.

    Attributes:
        units: To be run, in this order.
        by_row: Keys of the units of each row, in the order of seeds or splits.
        absent: Why a row does not run, by row key.
        over: ``seeds`` or ``splits``.
        protocol: Name of the protocol.
        count: How many seeds or splits.
    """

    units: list[Unit]
    by_row: dict[str, list[str]]
    absent: dict[str, str]
    over: str
    protocol: str
    count: int


def expand(request: Request) -> Work:
    """Return the units of a request.

    Raises:
        SkelfewError: The data set is not prepared, or the protocol has no validation classes
            where these are to be scored. A missing cache only leaves out the rows that need it.
    """
    table, rule = request.table, request.table.datasets.get(request.dataset)
    if rule is None:
        known = ", ".join(table.datasets)
        raise SkelfewError(f"table {table.id} is not for {request.dataset}; it is for {known}")
    protocol = rule.protocol
    if request.classes == "validation" and rule.validation_protocol:
        protocol = rule.validation_protocol
    bare = override(TrainConfig(stages=("episodic",), protocol=protocol), "inputs.dataset",
                    request.dataset)  # fmt: skip
    found = find_inputs(bare)
    if request.classes == "validation" and not found.protocol.validation:
        raise SkelfewError(
            f"{found.protocol.path}: has no validation classes to choose settings by; name a "
            "protocol that has some as validation_protocol of the table"
        )
    splits = split_names(found.protocol.path, found.manifest)
    count = request.count or (len(splits) if splits else table.seeds)
    if splits and count > len(splits):
        raise SkelfewError(f"{found.protocol.path}: has {len(splits)} splits, not {count}")
    cases = [(i, s) for i, s in enumerate(splits[:count], start=1)] if splits else [
        (i, "") for i in range(count)
    ]  # fmt: skip
    absent = {r.key: r.missing for r in request.wanted() if r.missing}
    caches = {k: _cache_path(request, k) for k in table.caches}
    for row in request.wanted():
        if row.cache != "none" and not Path(caches[row.cache]).exists():
            make = table.caches[row.cache].make.format(dataset=request.dataset)
            absent[row.key] = f"no {caches[row.cache]}; make it with: {make}"
    units: dict[str, Unit] = {}
    by_row: dict[str, list[str]] = {}
    opened: dict[tuple[str, str, bool], Inputs] = {}
    for seed, split in cases:
        case = replace(bare, seed=seed, split=split or None)
        for row in sorted(request.wanted(), key=lambda r: r.features == "raw", reverse=True):
            if row.key in absent:
                continue
            where = case
            if row.cache != "none":
                where = override(case, "inputs.cache", str(Path(caches[row.cache]).resolve()))
            try:
                config = None if row.features == "raw" else layered(request, row, where)
                if config is not None:
                    where = replace(where, train_on_validation=config.train_on_validation)
                place = (row.cache, split, where.train_on_validation)
                inputs = opened[place] = opened.get(place) or find_inputs(where)
                unit = _unit(request, row, where, config, inputs)
            except SkelfewError as error:
                absent[row.key] = str(error)
                continue
            if unit.key in units:
                old = units[unit.key]
                units[unit.key] = replace(old, rows=(*old.rows, row.key))
            else:
                units[unit.key] = unit
            by_row.setdefault(row.key, []).append(unit.key)
    return Work(
        list(units.values()),
        by_row,
        absent,
        "splits" if splits else "seeds",
        found.protocol.name,
        count,
    )


def _cache_path(request: Request, key: str) -> str:
    given = request.caches.get(key)
    return given or request.table.caches[key].path.format(dataset=request.dataset)


def _unit(
    request: Request, row: Row, where: TrainConfig, config: TrainConfig | None, inputs: Inputs
) -> Unit:
    samples: dict[str, int] = {}
    if config is not None:
        if request.classes == "validation" and config.train_on_validation:
            raise SkelfewError(
                "trains on the validation classes, which --select-on validation scores"
            )
        config, samples = within_budget(request, row, config, inputs)
    identity = {
        "record_version": RECORD_VERSION,
        "features": row.features,
        "settings": _settings(config),
        "init": file_digest(Path(config.inputs.init)) if config and config.inputs.init else None,
        "seed": where.seed,
        "manifest": inputs.manifest.sha256,
        "skeletons": inputs.store.attrs.get("digest"),
        "protocol": inputs.protocol.sha256,
        "split": inputs.protocol.split,
        "cache": inputs.cache.attrs.get("digest") if inputs.cache else None,
        "classes": request.classes,
        "shots": list(request.table.shots),
        "draws": request.table.draws,
        "classifiers": {k: asdict(c) for k, c in CLASSIFIERS.items()},  # type: ignore[call-overload]
    }
    text = json.dumps(identity, sort_keys=True)
    return Unit(
        key=hashlib.sha256(text.encode()).hexdigest(),
        rows=(row.key,),
        dataset=request.dataset,
        split=inputs.protocol.split,
        seed=where.seed,
        config=config,
        inputs=where,
        classes=request.classes,
        shots=request.table.shots,
        draws=request.table.draws,
        samples=samples,
    )


def layered(request: Request, row: Row, where: TrainConfig) -> TrainConfig:
    """Return the settings of a row; later layers win."""
    table = request.table
    config = override(preset(row.preset or table.preset), "stages", row.stages)
    for values in (
        table.common,
        table.datasets[request.dataset].settings,
        table.budgets[request.budget].settings,
        row.settings,
        request.settings,
    ):
        for key, value in values.items():
            config = override(config, key, value)
    return replace(
        config,
        inputs=replace(where.inputs, init=config.inputs.init),
        protocol=where.protocol,
        split=where.split,
        seed=where.seed,
        device=request.device,
        threads=request.threads,
    )


def within_budget(
    request: Request, row: Row, config: TrainConfig, inputs: Inputs
) -> tuple[TrainConfig, dict[str, int]]:
    """Return the settings resolved, with the budget spent, and the clips of each stage."""
    config = resolve(config, inputs)
    if config.data.base_classes == len(inputs.protocol.base):
        config = override(config, "data.base_classes", None)  # all: the same unit as without
    failed = set(inputs.cache.failed) if inputs.cache is not None else set()
    count = sum(i not in failed for i in base_samples(config, inputs))
    total = request.table.budgets[request.budget].total(request.dataset)
    if total is not None:
        share = {s: row.share.get(s, request.table.share.get(s, 1.0)) for s in row.stages}
        config = spend(config, total, count, share)
    return config, spent(config, count)


def spend(
    config: TrainConfig, total: int, base_samples: int, share: dict[str, float]
) -> TrainConfig:
    """Return ``config`` with epochs and episodes that pass ``total`` clips through the encoder.

    A stage that sees every base sample gets whole epochs, at least one; episodes take what is
    left, so that rows with other stages differ by less than an episode.

    Args:
        config: Resolved.
        total: Clips, all stages together.
        base_samples: Clips of an epoch.
        share: Weight of each stage.
    """
    left = total
    for stage in (s for s in config.stages if s != "episodic"):
        part = total * share[stage] / sum(share.values())
        epochs = max(1, round(part / base_samples))
        config = override(config, f"{stage}.epochs", epochs)
        left -= epochs * base_samples
    if "episodic" in config.stages:
        config = override(config, "episodic.episodes", max(1, round(left / _episode(config))))
    return config


def spent(config: TrainConfig, base_samples: int) -> dict[str, int]:
    """Return the clips that each stage passes through the encoder."""
    return {
        stage: config.episodic.episodes * _episode(config)
        if stage == "episodic"
        else getattr(config, stage).epochs * base_samples
        for stage in config.stages
    }


def _episode(config: TrainConfig) -> int:
    assert config.episodic.ways is not None
    return config.episodic.ways * (config.episodic.shots + config.episodic.queries)


def _settings(config: TrainConfig | None) -> dict[str, Any] | None:
    """The settings that determine the numbers; those of stages that do not run are left out."""
    if config is None:
        return None
    idle = [f"{s}." for s in STAGES if s not in config.stages]
    return {
        key: value
        for key, value in config.flat().items()
        if not key.startswith((*_NO_MATTER, *idle))
    }
