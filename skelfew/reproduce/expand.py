"""From a table to units of work: one training of one row with one seed or split."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from skelfew.cache.format.history import identity as identity_of
from skelfew.cache.format.history import steps_of
from skelfew.cache.transport.places import is_url
from skelfew.config import InputConfig, override
from skelfew.data.protocols.protocol import split_names
from skelfew.encoders.features import ALIGNED_FRAMES, CHANGE, PART_WEIGHTS
from skelfew.errors import SkelfewError
from skelfew.fewshot import HEADS, POOLED, build_classifier, pooled_beside
from skelfew.fewshot.trained import settings_of
from skelfew.io.files import Document, Values, brief, file_sha256
from skelfew.reproduce.budget import layered, within
from skelfew.reproduce.rows import NO_MATTER, Row, idle
from skelfew.reproduce.units import Request, RunPlace, Unit, Work
from skelfew.runs.inputs import Inputs
from skelfew.training.resolve import resolve

# Raised when training or scoring changes because old records no longer fit the code.
RECORD_VERSION = 1
# Settings that came after the first records; at these values they are not part of a key.
_LATER: Document = {
    "episodic.head": "cosine", "episodic.head_settings": [], "fusion": 0.0, "data.kind": None,
    "data.root": "first", "data.facing": "recorded", "data.size": "recorded",
    "encoder.axes": "unit", "encoder.form": "description",
    "transfer.output_bias": True, "mixed.output_bias": True, "skeleton_byol.output_bias": True,
}  # fmt: skip


def expand(request: Request) -> Work:
    """Return the units of a request, seed by seed. A missing cache only leaves out rows that need
    it.

    Raises SkelfewError: the data set is not prepared, or the protocol has no validation classes
    where these are to be scored.
    """
    start = _start(request)
    found = start.open()
    if request.classes == "validation" and not found.protocol.validation:
        raise SkelfewError(
            f"{found.protocol.path}: has no validation classes to choose settings by; name a "
            "protocol that has some as validation_protocol of the table"
        )
    splits = split_names(found.protocol.path, found.manifest)
    count = request.count or (len(splits) if splits else request.table.seeds)
    if splits and count > len(splits):
        raise SkelfewError(f"{found.protocol.path}: has {len(splits)} splits, not {count}")
    absent = dict(_absent(request))
    rows = [row for row in request.wanted() if row.key not in absent]
    rows.sort(key=lambda row: row.features == "encoder")  # the floor first, it takes a second
    units: dict[str, Unit] = {}
    by_row: dict[str, list[str]] = {}
    opened: dict[RunPlace, Inputs] = {}  # by what is opened, of seed 0
    for number in range(count):
        case = replace(start, seed=number + bool(splits), split=splits[number] if splits else None)
        for row in rows:
            try:
                unit = _unit(request, row, _with_files(request, row, case), opened)
            except SkelfewError as error:
                absent[row.key] = str(error)
                continue
            units[unit.key] = unit.beside(units.get(unit.key))
            by_row.setdefault(row.key, []).append(unit.key)
    return Work(
        units=list(units.values()),
        by_row=by_row,
        absent=absent,
        over="splits" if splits else "seeds",
        protocol=found.protocol.name,
        count=count,
    )


def _start(request: Request) -> RunPlace:
    """Return the paths of all inputs but the cache."""
    rule = request.table.datasets.get(request.dataset)
    if rule is None:
        known = ", ".join(request.table.datasets)
        raise SkelfewError(
            f"table {request.table.id} is not for {request.dataset}; it is for {known}"
        )
    protocol = rule.protocol
    if request.classes == "validation" and rule.validation_protocol:
        protocol = rule.validation_protocol
    return RunPlace(InputConfig(dataset=request.dataset), protocol)


def _absent(request: Request) -> Iterator[tuple[str, str]]:
    """Rows that cannot run, and why."""
    table = request.table
    for row in request.wanted():
        if row.missing:
            yield row.key, row.missing
            continue
        rules = [table.caches[key] for key in row.caches]
        needed = [*zip(request.cache_places(row), rules, strict=True)]
        if (init := request.init_place(row)) is not None:
            needed.append((init, table.inits[row.init]))
        for place, rule in needed:
            if not is_url(place) and not Path(place).exists():
                make = rule.make.format(dataset=request.dataset)
                yield row.key, f"no {place}; make it with: {make}"
                break


def _with_files(request: Request, row: Row, case: RunPlace) -> RunPlace:
    """Return a case with the caches of a row and the weights that it starts from."""
    caches = [p if is_url(p) else str(Path(p).resolve()) for p in request.cache_places(row)]
    init = request.init_place(row)
    return replace(
        case,
        inputs=replace(
            case.inputs,
            cache=caches[0] if caches else None,
            more_caches=tuple(caches[1:]),
            init=None if init is None else str(Path(init).resolve()),
        ),
    )


def _unit(request: Request, row: Row, where: RunPlace, opened: dict[RunPlace, Inputs]) -> Unit:
    """Return the unit of a row and a case; inputs that were opened before are used again."""
    samples: dict[str, int] = {}
    config = layered(request, row, where) if row.features == "encoder" else None
    if config is not None:
        where = replace(where, train_on_validation=config.train_on_validation)
    place = replace(where, seed=0)
    if place not in opened:
        opened[place] = place.open()
    inputs = opened[place]
    if config is not None:
        if request.classes == "validation" and config.train_on_validation:
            raise SkelfewError(
                "trains on the validation classes, which --select-on validation scores"
            )
        resolved = resolve(config, inputs)
        config = resolved.config
        if config.data.base_classes == len(inputs.protocol.base):
            config = override(config, "data.base_classes", None)  # all: the same unit as without
        failed = set(inputs.cache.failed) if inputs.cache is not None else set()
        config, samples = within(
            request, row, config, sum(i not in failed for i in resolved.samples)
        )
    shots = request.table.shots_of(row)
    if 0 in shots and inputs.cache is not None and not inputs.cache.class_texts():
        raise SkelfewError(
            f"{inputs.cache.path}: has no class texts (array class_text), which 0 shots need"
        )
    head = "" if row.classifier in POOLED else row.classifier
    unit = Unit(
        key="",
        rows=(row.key,),
        classifiers=(row.classifier,),
        dataset=request.dataset,
        split=inputs.protocol.split,
        seed=where.seed,
        config=config,
        case=where,
        classes=request.classes,
        shots=shots,
        draws=request.table.draws,
        samples=samples,
        head=head,
        features=row.features,
    )
    text = json.dumps(identity(unit, inputs), sort_keys=True)
    return replace(unit, key=hashlib.sha256(text.encode()).hexdigest())


def identity(unit: Unit, inputs: Inputs) -> Document:
    """Return all that determines the numbers of a row, as plain values: its key is their digest."""
    classifiers = {
        name: build_classifier(name)
        for name in dict.fromkeys((*pooled_beside(unit.classifiers[0]), unit.classifiers[0]))
    }
    init = unit.config.inputs.init if unit.config else None
    return {
        "record_version": RECORD_VERSION,
        "features": unit.features,
        "settings": _settings(unit),
        "init": _digest(init) if init else None,
        "seed": unit.seed,
        "manifest": inputs.manifest.sha256,
        "skeletons": inputs.store.attrs.get("digest"),
        "protocol": inputs.protocol.sha256,
        "split": inputs.protocol.split,
        "cache": _cache(inputs.cache.attrs) if inputs.cache else None,
        **({"relevance": known} if (known := _known(unit, inputs)) else {}),
        "classes": unit.classes,
        "shots": list(unit.shots),
        "draws": unit.draws,
        "classifiers": {k: settings_of(c) for k, c in classifiers.items()},
        **({"clips": [ALIGNED_FRAMES, CHANGE, *PART_WEIGHTS]} if "dtw" in classifiers else {}),
    }


def _cache(attrs: Values) -> str | None:
    """Return the identity of a cache: of an imported one, the teacher that it names."""
    imported = any(step.get("name") == "import" for step in steps_of(attrs))
    return identity_of(attrs) if imported else attrs.get("digest")


def _known(unit: Unit, inputs: Inputs) -> Any:
    """Return what the head of the episodes must know of classes, None for nothing."""
    config = unit.config
    if config is None or "episodic" not in config.stages:
        return None
    return HEADS.load(config.episodic.head).knowledge(inputs.cache)


def _digest(init: str) -> str:
    try:
        return file_sha256(Path(init))
    except OSError as error:
        raise SkelfewError(f"{init}: cannot be read as initial weights ({brief(error)})") from None


def _settings(unit: Unit) -> Document | None:
    """The settings that determine the numbers; what does not take part is left out."""
    if unit.config is None:
        return None
    no_part = (*NO_MATTER, *idle(unit.config.stages))
    return {
        key: value
        for key, value in unit.config.flat().items()
        if not key.startswith(no_part) and _LATER.get(key, ...) != value
    }
