"""Plan of a request on a data set that is not prepared: sizes are those of the paper."""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from skelfew.config import InputConfig, override
from skelfew.encoders import build_encoder
from skelfew.errors import SkelfewError
from skelfew.fewshot import POOLED
from skelfew.reproduce.budget import layered, within
from skelfew.reproduce.rows import Row, Table
from skelfew.reproduce.units import Request, RunPlace, Unit, Work
from skelfew.training.resolve import MOST_WAYS, pick_device


@dataclass(frozen=True)
class Size:
    """A data set of the paper (Section V-A; docs/datasets.md): its clips and classes."""

    clips: int  # all of them
    classes: int  # all of them
    novel: int  # classes that are asked for; the others are learned from
    prepare: str  # what makes its manifest
    layout: str = "kinect-v2"  # joints
    bodies: int = 2  # M
    frames: int = 64  # T
    splits: int = 0  # of the protocol, 0 for a single one


def _files(name: str, reader: str) -> str:
    return f"skelfew-prepare {reader} --raw PATH --out manifests/{name}.csv --data data/{name}.h5"


SIZES = {
    "ntu120": Size(113_945, 120, 20, _files("ntu120", "ntu")),
    "ntu60": Size(56_578, 60, 10, _files("ntu60", "ntu --option missing=ntu60")),
    "pku-mmd": Size(21_545, 51, 11, _files("pku-mmd", "pku")),
    "nw-ucla": Size(1_484, 10, 5, "skelfew-prepare nw-ucla --raw PATH", "kinect-v1", 1, 52, 20),
    "msr-action-pairs": Size(
        353, 12, 6, _files("msr-action-pairs", "msr"), "kinect-v1", 1, splits=20
    ),
}


def outline(request: Request) -> Work:
    """Return the units of a request with clips as of the whole data set, and no weights looked for.

    Keys begin with ``~``: they tell units apart and are not those of records.
    """
    size, table = SIZES[request.dataset], request.table
    count = request.count or size.splits or table.seeds
    if size.splits and count > size.splits:
        raise SkelfewError(f"{request.dataset} has {size.splits} splits, not {count}")
    units: dict[str, Unit] = {}
    by_row: dict[str, list[str]] = {}
    rows = [row for row in request.wanted() if not row.missing]
    for number in range(count):
        for row in rows:
            unit = _unit(request, row, number + bool(size.splits), size)
            units[unit.key] = unit.beside(units.get(unit.key))
            by_row.setdefault(row.key, []).append(unit.key)
    absent = {row.key: row.missing for row in request.wanted() if row.missing}
    over = "splits" if size.splits else "seeds"
    return Work([*units.values()], by_row, absent, over, f"of {request.dataset}", count)


def needs(table: Table, dataset: str, rows: Iterable[Row]) -> Iterator[str]:
    """Yield the commands that make what rows read: data, caches, weights to start from."""
    yield SIZES[dataset].prepare
    rows = list(rows)
    rules = [table.caches[key] for row in rows for key in row.caches]
    rules += [table.inits[row.init] for row in rows if row.init]
    yield from dict.fromkeys(rule.make.format(dataset=dataset) for rule in rules)


def _unit(request: Request, row: Row, seed: int, size: Size) -> Unit:
    caches, init = request.cache_places(row), request.init_place(row)
    where = RunPlace(
        InputConfig(
            dataset=request.dataset,
            cache=caches[0] if caches else None,
            more_caches=tuple(caches[1:]),
            init=init,
        ),
        protocol=request.table.datasets[request.dataset].protocol,
        split=str(seed) if size.splits else None,
        seed=seed,
    )
    config = layered(request, row, where) if row.features == "encoder" else None
    samples: dict[str, int] = {}
    if config is not None:
        classes = config.data.base_classes or size.classes - size.novel
        if config.episodic.ways is None:
            config = override(config, "episodic.ways", min(size.novel, MOST_WAYS))
        each = config.data.samples_per_class or size.clips / size.classes
        config, samples = within(request, row, config, round(classes * each))
    head = "" if row.classifier in POOLED else row.classifier
    settings = {k: v for k, v in config.flat().items() if k != "device"} if config else row.features
    text = json.dumps([request.dataset, seed, head, request.table.shots_of(row), settings])
    return Unit(
        key="~" + hashlib.sha256(text.encode()).hexdigest(),
        rows=(row.key,),
        classifiers=(row.classifier,),
        dataset=request.dataset,
        split=where.split or "",
        seed=seed,
        config=config,
        case=where,
        classes=request.classes,
        shots=request.table.shots_of(row),
        draws=request.table.draws,
        samples=samples,
        head=head,
        features=row.features,
    )


def seconds_a_clip(unit: Unit) -> float:
    """Return what a clip of made-up skeletons costs the encoder of a unit, forward and back.

    Measured here, on the unit's device; the heads of episodes, targets and views are left out.
    """
    assert unit.config is not None
    config, size = unit.config, SIZES[unit.dataset]
    device = torch.device(pick_device(config.device))
    batch = 2 if device.type == "cpu" else 128
    encoder = build_encoder(
        config.encoder.name,
        size.layout,
        bodies=size.bodies,
        width=config.encoder.width,
        body_pool=config.encoder.body_pool,
        **config.encoder.own,
    )
    encoder.to(device).train()
    shape = (batch, 3, config.data.frames or size.frames, len(encoder.layout), size.bodies)
    x = torch.randn(shape, device=device)
    seconds = []
    for _ in range(2):  # the first has to warm up
        began = time.perf_counter()
        encoder(x).sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return seconds[-1] / batch
