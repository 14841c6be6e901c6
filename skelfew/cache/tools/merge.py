"""Shards and overlapping caches into one, and one into a smaller one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skelfew.cache.building import building
from skelfew.cache.format.checks import CacheError, differences
from skelfew.cache.format.history import IDENTITY, carried, step
from skelfew.cache.format.licence import convention
from skelfew.cache.format.storage import DONE, FAILED, PENDING
from skelfew.cache.format.stored import StoredCache, counts
from skelfew.cache.tools.compare import cosine
from skelfew.cache.writer import CacheWriter
from skelfew.data.manifest import Manifest
from skelfew.io.files import Document, brief, read_csv
from skelfew.io.writing import write_csv

_BY_MANIFEST = ("dataset", "manifest_sha256", "skeletons_digest")  # given anew with a manifest
_SHOWN = 3


@dataclass(frozen=True)
class _Source:
    """A cache that is merged, and the row in the result of each row, (N,) int64; -1: none."""

    cache: StoredCache
    places: np.ndarray


def merge(
    paths: Sequence[Path],
    out: Path,
    *,
    manifest: Manifest | None = None,
    prefer_first: bool = False,
    overwrite: bool = False,
) -> Document:
    """Write all finished rows of several caches into one.

    The samples come in the order of ``manifest`` (whose hash the result has), else in that of the
    first cache with those of the others after them. A done row wins over a failed one, a failed one
    over a pending one. Raises CacheError if they were made differently (names key and values) or,
    unless ``prefer_first``, hold different values for the same samples (names them).
    """
    caches = [StoredCache.open(path) for path in paths]
    for cache in caches[1:]:
        _check_alike(caches[0], cache, by_manifest=manifest is not None)
    ids = manifest.ids if manifest else list(dict.fromkeys(i for c in caches for i in c.ids))
    row = {sample_id: i for i, sample_id in enumerate(ids)}
    sources = [_Source(c, np.array([row.get(i, -1) for i in c.ids], np.int64)) for c in caches]
    owner, status, conflicts = _owners(sources, len(ids))
    if conflicts and not prefer_first:
        raise CacheError(_conflict(sources, conflicts))
    inputs = [{"name": c.path.name, "digest": c.attrs.get("digest")} for c in caches]
    settled = {"prefer": "first"} if conflicts else {}
    last = step("merge", {**settled, **_of(manifest)}, inputs)
    attrs = {**carried(caches[0].attrs, last), **_by(manifest)}
    attrs["licence_note"] = "\n".join(
        dict.fromkeys(str(n) for c in caches if (n := c.attrs.get("licence_note")))
    )
    attrs |= convention(attrs["licence_note"])
    digest = _write(sources, owner, status, ids, attrs, out, overwrite)
    return {
        "cache": str(out),
        "samples": len(ids),
        **counts(status),
        "conflicts": len(conflicts),
        "digest": digest,
    }


def subset(
    path: Path,
    out: Path,
    keep: Sequence[str] | None = None,
    *,
    manifest: Manifest | None = None,
    overwrite: bool = False,
) -> Document:
    """Write some of the rows of a cache into another one, in its order.

    Those of ``keep`` (all if None), or of ``manifest``, in its order; the result is a cache for
    this manifest. Raises CacheError if a sample to be kept is not in the cache.
    """
    cache = StoredCache.open(path)
    known = set(cache.ids)
    wanted = known if keep is None else set(keep)
    if absent := [i for i in (keep or ()) if i not in known]:
        raise CacheError(
            f"{path}: {len(absent)} of {len(wanted)} samples are not in it, first {absent[0]}"
        )
    order = cache.ids if manifest is None else [i for i in manifest.ids if i in known]
    ids = [i for i in order if i in wanted]
    if not ids:
        raise CacheError(f"{path}: none of its {len(known)} samples is asked for")
    row = {sample_id: i for i, sample_id in enumerate(ids)}
    source = _Source(cache, np.array([row.get(i, -1) for i in cache.ids], np.int64))
    owner, status, _ = _owners([source], len(ids))
    last = step(
        "subset",
        {"samples": len(ids), **_of(manifest)},
        [{"name": cache.path.name, "digest": cache.attrs.get("digest")}],
    )
    attrs = {**carried(cache.attrs, last), **_by(manifest)}
    digest = _write([source], owner, status, ids, attrs, out, overwrite)
    return {
        "cache": str(out),
        "samples": len(ids),
        "left_out": len(known) - len(ids),
        **counts(status),
        "digest": digest,
    }


def _of(manifest: Manifest | None) -> Document:
    return {} if manifest is None else {"manifest_sha256": manifest.sha256}


def _by(manifest: Manifest | None) -> Document:
    """Return the attributes that a cache for this manifest has."""
    if manifest is None:
        return {}
    return {"dataset": manifest.name, "manifest_sha256": manifest.sha256}


def _check_alike(a: StoredCache, b: StoredCache, by_manifest: bool) -> None:
    keys = [k for k in IDENTITY if not (by_manifest and k in _BY_MANIFEST)]
    ours, theirs = ({k: c.attrs.get(k) for k in keys} for c in (a, b))
    for cache, entry in ((a, ours), (b, theirs)):
        _, views, width = cache.shape
        entry |= {"views": views, "width": width, "dtype": cache.dtype}
        entry["features"] = list(cache.features)
        entry["class_text"] = None if cache.class_text is None else cache.class_text.tolist()
    for key, first, second in differences(ours, theirs):
        hint = ""
        if key.split(".")[0] in _BY_MANIFEST:
            hint = "; --manifest CSV makes one for that manifest of both"
        raise CacheError(
            f"{a.path} and {b.path} do not belong together: {key} is {first} in the first, "
            f"{second} in the second{hint}"
        )


def _owners(
    sources: Sequence[_Source], rows: int
) -> tuple[np.ndarray, np.ndarray, list[tuple[int, int, int]]]:
    """Return which source gives each row (-1: none), the status, and the conflicts.

    A conflict is (row of the result, earlier source, later source).
    """
    owner = np.full(rows, -1, np.int64)
    status = np.zeros(rows, np.uint8)
    conflicts: list[tuple[int, int, int]] = []
    for number, source in enumerate(sources):
        used = source.places >= 0
        places, theirs = source.places[used], source.cache.status[used]
        both = (theirs == DONE) & (status[places] == DONE)
        for earlier in np.unique(owner[places[both]]):
            shared = places[both][owner[places[both]] == earlier]
            conflicts += [
                (int(place), int(earlier), number)
                for place in _unequal(sources[earlier], source, shared)
            ]
        better = (theirs == DONE) & (status[places] != DONE)
        better |= (theirs == FAILED) & (status[places] == PENDING)
        owner[places[better]], status[places[better]] = number, theirs[better]
    return owner, status, conflicts


def _rows(source: _Source, places: np.ndarray) -> np.ndarray:
    """Return the rows of a source that go to the given places."""
    order = np.argsort(source.places, kind="stable")
    return order[np.searchsorted(source.places, places, sorter=order)]


def _unequal(a: _Source, b: _Source, places: np.ndarray) -> list[int]:
    found: list[int] = []
    for start in range(0, len(places), 4096):
        part = places[start : start + 4096]
        rows_a, rows_b = _rows(a, part), _rows(b, part)
        differ = np.zeros(len(part), dtype=bool)
        for name in a.cache.features:
            x, y = a.cache.read(name, rows_a), b.cache.read(name, rows_b)
            differ |= (x != y).any(axis=(1, 2))
        found += part[differ].tolist()
    return found


def _conflict(sources: Sequence[_Source], conflicts: list[tuple[int, int, int]]) -> str:
    shown = []
    for place, i, j in conflicts[:_SHOWN]:
        a, b = sources[i], sources[j]
        row_a, row_b = _rows(a, np.array([place])), _rows(b, np.array([place]))
        near = [
            float(cosine(*(s.cache.read(n, r).astype(np.float32) for s, r in
                           ((a, row_a), (b, row_b)))).min())
            for n in a.cache.features
        ]  # fmt: skip
        name = a.cache.ids[int(row_a[0])]
        shown.append(f"{name} in {a.cache.path} and {b.cache.path}, cosine {min(near):.5f}")
    return (
        f"{len(conflicts)} samples have different features in two of the caches: "
        f"{'; '.join(shown)}{'; ...' if len(conflicts) > _SHOWN else ''}. --prefer-first takes "
        "those of the cache named first; skelfew-cache compare shows how far they are apart"
    )


def _write(
    sources: Sequence[_Source],
    owner: np.ndarray,
    status: np.ndarray,
    ids: Sequence[str],
    attrs: Document,
    out: Path,
    overwrite: bool,
) -> str:
    model = sources[0].cache
    with building(out, overwrite) as place:
        writer = CacheWriter.create_or_resume(
            place,
            ids,
            dim=model.shape[2],
            views=model.shape[1],
            dtype=model.dtype,
            provenance=attrs,
            class_text=model.class_text,
            video="video" in model.features,
        )
        with writer:
            for number, source in enumerate(sources):
                _copy(source, owner == number, status, writer)
            digest = writer.finish()
    _merge_failures(sources, {ids[int(i)] for i in np.flatnonzero(status == FAILED)}, out)
    return digest


def _copy(source: _Source, mine: np.ndarray, status: np.ndarray, writer: CacheWriter) -> None:
    """Write those rows of a source of which ``mine``, (rows of the result,) bool, is true."""
    cache = source.cache
    for block in cache.blocks():
        places = source.places[block]
        chosen = (places >= 0) & mine[places]
        rows, goals = np.flatnonzero(chosen) + block.start, places[chosen]
        order = np.argsort(goals)
        rows, goals = rows[order], goals[order]
        values = {name: cache.read(name, rows) for name in cache.features}
        writer.write(goals, values.get("video"), values["text"], status[goals])


def _merge_failures(sources: Sequence[_Source], failed: set[str], out: Path) -> None:
    """Write the reasons of the rows that are still failed, as the sources' files give them."""
    rows: dict[str, tuple[str, ...]] = {}
    header = ["sample_id", "stage", "message"]
    for source in sources:
        file = failures_beside(source.cache.path)
        if not failed or not file.is_file():
            continue
        try:
            listed = read_csv(file, header)
        except (OSError, ValueError) as error:
            raise CacheError(f"{file}: not a readable list of failures ({brief(error)})") from None
        for values in listed:
            if values[0] in failed:
                rows.setdefault(values[0], values)
    target = failures_beside(out)
    if not rows:
        target.unlink(missing_ok=True)
        return
    write_csv(target, header, rows.values())


def failures_beside(path: Path) -> Path:
    """Return where the failed samples of a cache are listed: ``NAME.failures.csv``."""
    name = path.name.removesuffix(".zip").removesuffix(".zarr")
    return path.with_name(name + ".failures.csv")
