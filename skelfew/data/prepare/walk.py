"""Raw recordings to manifest and skeleton store: what is the same for all readers.

Sources are read block by block in worker processes. A block becomes a *part* below
``NAME.parts/``: a small store, and a JSON file with its rows that is written last and so says
that the block is done. One process then merges the parts in the order of the sample IDs. A killed
run goes on with the parts that are there and ends with the same result; memory holds a few
recordings per process and the manifest, however many files there are.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import numpy as np

from skelfew.data.joints.layouts import load_layout
from skelfew.data.manifest import Manifest, Sample
from skelfew.data.prepare.parts import BlockResult, ReadPlan, read_blocks
from skelfew.data.prepare.plausible import Survey, labels_alike, unlike_videos
from skelfew.data.readers import Dropped, RawFolder, Reader, load_reader
from skelfew.data.store import SkeletonStore
from skelfew.data.store_writer import SkeletonStoreWriter
from skelfew.errors import SkelfewError
from skelfew.io.writing import check_place, write_csv, write_json

_OPEN_PARTS = 16


@dataclass(frozen=True)
class Outputs:
    """Paths of a prepared data set: ``manifests/NAME.csv`` and ``data/NAME.h5``."""

    manifest: Path
    store: Path

    @property
    def dropped(self) -> Path:
        """Table of what was left out, and why."""
        return self.manifest.with_suffix(".dropped.csv")

    @property
    def notes(self) -> Path:
        """Table of what was kept although it is odd."""
        return self.manifest.with_suffix(".notes.csv")

    @property
    def local(self) -> Path:
        """The file with the folders of recordings and videos on this machine."""
        return self.manifest.with_suffix(".local.json")

    @property
    def parts(self) -> Path:
        """Folder of the parts of an unfinished run."""
        return self.store.with_suffix(".parts")


@dataclass(frozen=True)
class Note:
    """Something odd about a sample that is kept."""

    sample_id: str
    source: str
    note: str


@dataclass(frozen=True)
class Prepared:
    """The result of a run, as it was written."""

    outputs: Outputs
    manifest: Manifest
    dropped: list[Dropped]
    notes: list[Note]
    digest: str
    implausible: list[str]  # what is odd about all samples together, see ``plausible``

    @property
    def damaged(self) -> int:
        """Number of recordings that were dropped although no option asked for it."""
        return sum(not d.expected for d in self.dropped)


def prepare(
    name: str,
    raw: RawFolder,
    outputs: Outputs,
    options: Mapping[str, str | int | float | bool],
    workers: int = 1,
    log: Callable[[str], None] = lambda message: None,
) -> Prepared:
    """Read a data set and write its manifest, store and tables; see the module's text.

    Results of an earlier run are replaced when the new ones are complete, and do not depend on the
    number of workers. Raises SkelfewError if there is nothing to read, or nothing that can be used.
    """
    check_place(outputs.manifest, outputs.store)
    reader = load_reader(name)
    if reader.detect is not None:
        reader = reader.detect(reader, raw, options)
    sources = reader.sources(raw, options)
    if not sources:
        raise SkelfewError(f"{raw.path}: no recordings of {name} in it; see docs/datasets.md")
    plan = ReadPlan(
        reader=name,
        layout=load_layout(reader.layout),
        channels=reader.channels,
        pixels=reader.pixels,
        options=dict(options),
        raw=raw,
        sources=tuple(sources),
        depends="" if reader.depends is None else reader.depends(raw, options),
    )
    for path in (outputs.manifest, outputs.store):
        if path.exists():
            log(f"{path}: exists; it will be replaced when the new one is complete")
    with plan.claimed(outputs.parts, log):
        parts = read_blocks(plan, outputs.parts, workers)
        samples, dropped, notes, chosen = _choose(parts)
        _write_table(outputs.dropped, ("sample_id", "source", "reason"), dropped)
        if not samples:
            first = f", first {dropped[0].source}: {dropped[0].reason[:1000]}" if dropped else ""
            raise SkelfewError(
                f"none of {len(sources)} recordings can be used (see {outputs.dropped}){first}"
            )
        manifest = Manifest(outputs.manifest.stem, tuple(samples))
        attrs: dict[str, str | int | float] = {
            "dataset": manifest.name,
            "reader": name,
            "units": reader.units,
            "preprocessing": json.dumps(_declared(reader, manifest), sort_keys=True),
            "coordinates": reader.coordinates,
            "options": json.dumps(dict(options), sort_keys=True),
            "manifest_sha256": manifest.sha256,
            "skelfew_version": version("skelfew"),
        }
        survey = Survey(plan.layout, reader.coordinates)
        digest = _merge(parts, manifest, chosen, plan, outputs.store, attrs, workers, survey)
        odd = survey.findings() + labels_alike(manifest)
        odd += unlike_videos(manifest, raw.video_folder, reader.name)
        for finding in odd:
            log(f"note: {finding}")
        manifest.write(outputs.manifest)
        _write_table(outputs.notes, ("sample_id", "source", "note"), notes)
        local = {"raw": str(raw.path.resolve()), "videos": str(raw.video_folder.resolve())}
        write_json(outputs.local, local)
    return Prepared(outputs, manifest, dropped, notes, digest, odd)


def _declared(reader: Reader, manifest: Manifest) -> dict[str, str | int]:
    """Return the preprocessing that the reader declares."""
    most = max(manifest.classes)
    return {} if reader.preprocessing is None else dict(reader.preprocessing(most))


def _choose(
    parts: list[BlockResult],
) -> tuple[list[Sample], list[Dropped], list[Note], list[int]]:
    """Return samples by ascending ID, what was dropped, notes, and the part of each sample."""
    dropped = [d for part in parts for d in part.dropped]
    rows = sorted(
        (row.sample.sample_id, row.source, index)
        for index, part in enumerate(parts)
        for row in part.rows
    )
    by_key = {(r.sample.sample_id, r.source): r for part in parts for r in part.rows}
    first: dict[str, str] = {}
    samples, notes, chosen = [], [], []
    for sample_id, source, index in rows:
        if sample_id in first:
            reason = f"duplicate: {first[sample_id]} has the same sample_id"
            dropped.append(Dropped(sample_id, source, reason))
            continue
        first[sample_id] = source
        row = by_key[sample_id, source]
        samples.append(row.sample)
        chosen.append(index)
        notes += [Note(sample_id, source, note) for note in row.notes]
    dropped.sort(key=lambda d: (d.sample_id, d.source))
    return samples, dropped, notes, chosen


def _merge(
    parts: list[BlockResult],
    manifest: Manifest,
    chosen: list[int],
    plan: ReadPlan,
    path: Path,
    attrs: Mapping[str, str | int | float],
    threads: int,
    survey: Survey,
) -> str:
    """Write the store in manifest order, show all samples to ``survey`` and return the digest."""
    joints = len(plan.layout)
    opened: dict[int, SkeletonStore] = {}
    # Where samples follow each other as their sources do, a part is needed once and read whole.
    changes = sum(a != b for a, b in pairwise(chosen))
    in_order = changes < 2 * len(parts)
    limit = 1 if in_order else _OPEN_PARTS
    try:
        with SkeletonStoreWriter(
            path, plan.layout, joints, plan.channels, plan.pixels, attrs, threads=threads
        ) as writer:
            for sample, index in zip(manifest, chosen, strict=True):
                if index not in opened:
                    if len(opened) >= limit:
                        opened.pop(next(iter(opened))).close()
                    opened[index] = SkeletonStore(parts[index].store, check=False)
                    if in_order:
                        opened[index].load()
                skeleton = opened[index][sample.sample_id]
                survey.add(sample.sample_id, skeleton.positions, sample.class_id)
                writer.append(sample.sample_id, skeleton)
            return writer.digest
    finally:
        for store in opened.values():
            store.close()


def _write_table(path: Path, columns: tuple[str, ...], rows: list[Dropped] | list[Note]) -> None:
    """Write a CSV table, also an empty one: an older table must not be left standing."""
    write_csv(path, columns, ([getattr(row, c) for c in columns] for row in rows))


def usable_cpus() -> int:
    """Return how many processors this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def summary(prepared: Prepared) -> dict[str, object]:
    """Return what a person wants to know about a prepared data set, ready for JSON."""
    manifest = prepared.manifest
    return {
        "dataset": manifest.name,
        "manifest": str(prepared.outputs.manifest),
        "store": str(prepared.outputs.store),
        "digest": prepared.digest,
        **counts(manifest),
        "dropped": len(prepared.dropped),
        "damaged": prepared.damaged,
        "dropped_reasons": _reasons([d.reason for d in prepared.dropped]),
        "notes": [asdict(note) for note in prepared.notes],
        "implausible": prepared.implausible,
    }


def counts(manifest: Manifest) -> dict[str, object]:
    """Return how many samples there are, with videos, per class, subject and view, how long."""
    lengths = np.array([s.frames for s in manifest])

    def per(column: str) -> dict[str, int]:
        found = Counter(getattr(s, column) for s in manifest)
        return {k: found[k] for k in sorted(found, key=lambda k: (len(k), k)) if k}

    classes = Counter(s.class_id for s in manifest)
    return {
        "samples": len(manifest),
        "with_video": sum(bool(s.video) for s in manifest),
        "two_bodies": sum(s.bodies > 1 for s in manifest),
        "frames": {
            "min": int(lengths.min()),
            "median": float(np.median(lengths)),
            "max": int(lengths.max()),
            "sum": int(lengths.sum()),
        },
        "per_class": {str(c): classes[c] for c in manifest.classes},
        "per_subject": per("subject"),
        "per_view": per("view"),
    }


def _reasons(reasons: Sequence[str]) -> dict[str, int]:
    """Return how many reasons there are of each kind, by the first of it, most frequent first."""
    kinds = [_kind(reason) for reason in reasons]
    example = dict(zip(reversed(kinds), reversed(reasons), strict=True))
    return {example[kind]: count for kind, count in Counter(kinds).most_common()}


def _kind(reason: str) -> str:
    """Return a reason without what differs from file to file, so that equal kinds are counted."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|\d[\d.]*", "_", reason)
