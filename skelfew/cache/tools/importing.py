"""A cache of features that somebody computed elsewhere."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from skelfew.cache.building import building
from skelfew.cache.format.checks import CacheError
from skelfew.cache.format.history import declared, identity, step
from skelfew.cache.format.storage import DONE
from skelfew.cache.matching import match, rename
from skelfew.cache.tools.foreign import Column, columns, texts
from skelfew.cache.writer import CacheWriter
from skelfew.data.manifest import Manifest
from skelfew.io.files import Document, Values, read_lines

_ID_NAMES = ("sample_id", "ids", "id", "names")
_ROWS = 4096


@dataclass(frozen=True)
class Source:
    """The file of an import, and its arrays by name, or None; IDs may be a text file's."""

    path: Path
    ids: str | None = None
    text: str | None = None
    video: str | None = None
    class_text: str | None = None


@dataclass(frozen=True)
class Origin:
    """Provenance of imported features: model, weights, what clips went through."""

    teacher: str
    weights: str
    weights_sha256: str = ""
    trained: bool = True
    preprocessing: Mapping[str, str] = field(default_factory=dict)
    licence_note: str = ""


def import_features(
    source: Source,
    out: Path,
    manifest: Manifest,
    origin: Origin,
    *,
    rule: str | None = None,
    dtype: str = "float16",
    overwrite: bool = False,
) -> Document:
    """Make a cache for ``manifest`` of features in a file; samples without features stay pending.

    ``rule`` renames the file's IDs, see ``skelfew.cache.matching.rename``. Raises CacheError:
    arrays are missing, of the wrong shape or not finite, or IDs unknown; a likely renaming is
    named.
    """
    with columns(source.path) as found:
        text = _column(source, found, source.text, "text")
        video = _column(source, found, source.video, "video")
        if text is None:
            raise CacheError(
                f"{source.path}: no array for f_t; a cache needs one. If the file has one "
                f"feature a sample, say --text NAME ({_listed(found)})"
            )
        shape = _shape(source, "text", text)
        if video is not None and _shape(source, "video", video) != shape:
            raise CacheError(f"{source.path}: f_v has shape {video.shape}, f_t {text.shape}")
        ids = _ids(source, found, shape[0])
        class_text = _class_text(source, found, manifest, shape[2])
        goals = _goals(source, ids if rule is None else rename(ids, rule), manifest)
        teacher = {
            "name": origin.teacher,
            "weights": origin.weights,
            "weights_sha256": origin.weights_sha256 or None,
            "dim": shape[2],
            "trained": origin.trained,
        }
        last = step("import", {"rename_ids": rule}, [{"name": source.path.name, "digest": None}])
        attrs = {
            "dataset": manifest.name,
            "manifest_sha256": manifest.sha256,
            "skeletons_digest": None,
            "classes": [{"class_id": c, "label": n} for c, n in manifest.classes.items()],
            "teacher": teacher,
            "untrained": not origin.trained,
            "preprocessing": dict(origin.preprocessing),
            "licence_note": origin.licence_note,
            **declared([last]),
        }
        with building(out, overwrite) as place:
            writer = CacheWriter.create_or_resume(
                place,
                manifest.ids,
                dim=shape[2],
                views=shape[1],
                dtype=dtype,
                provenance=attrs,
                class_text=class_text,
                video=video is not None,
            )
            with writer:
                for start, f_v, f_t in _rows(video, text):
                    rows = goals[start : start + len(f_t)]
                    _check_finite(source, ids[start : start + len(f_t)], f_v, f_t, dtype)
                    order = np.argsort(rows)
                    values = (None if f_v is None else f_v[order], f_t[order])
                    writer.write(rows[order], *values, np.full(len(rows), DONE, np.uint8))
                digest = writer.finish()
                pending = len(writer.pending())
    return {
        "cache": str(out),
        "samples": len(manifest),
        "done": len(ids),
        "failed": 0,
        "pending": pending,
        "digest": digest,
        "identity": identity({**attrs, "digest": digest}),
    }


def _listed(found: Values) -> str:
    names = sorted(found)
    return f"it has {', '.join(names[:20])}" if names else "it has no array"


def _column(source: Source, found: Values, name: str | None, default: str) -> Column | None:
    if name is None:
        return found[default]() if default in found else None
    if name not in found:
        raise CacheError(f"{source.path}: no array {name!r}; {_listed(found)}")
    return found[name]()


def _shape(source: Source, name: str, column: Column) -> tuple[int, int, int]:
    shape = column.shape
    if column.text or len(shape) not in (2, 3) or 0 in shape:
        raise CacheError(
            f"{source.path}: {name} has shape {shape}; expected (samples, width) or (samples, "
            "views, width) of floats"
        )
    return (shape[0], 1, shape[1]) if len(shape) == 2 else (shape[0], shape[1], shape[2])


def _ids(source: Source, found: Values, count: int) -> list[str]:
    name = source.ids or next((n for n in _ID_NAMES if n in found), None)
    if name is None:
        raise CacheError(
            f"{source.path}: no array of sample IDs; name it with --ids, or a text file with one "
            f"ID a line ({_listed(found)})"
        )
    if name in found:
        ids = texts(found[name](), str(source.path))
    else:
        try:
            ids = read_lines(Path(name))
        except (OSError, ValueError) as error:
            raise CacheError(
                f"--ids {name}: neither an array of {source.path} nor a text file ({error})"
            ) from None
    if len(ids) != count or len(set(ids)) != len(ids):
        raise CacheError(
            f"{source.path}: {len(ids)} IDs, {len(set(ids))} of them different, for {count} rows"
        )
    return ids


def _class_text(source: Source, found: Values, manifest: Manifest, width: int) -> np.ndarray | None:
    column = _column(source, found, source.class_text, "class_text")
    if column is None:
        return None
    wanted = (len(manifest.classes), width)
    if column.text or column.shape != wanted:
        raise CacheError(
            f"{source.path}: class_text has shape {column.shape}; expected {wanted}, a row a class "
            "by ascending class number"
        )
    return np.concatenate(list(column.blocks())).astype(np.float32)


def _goals(source: Source, ids: Sequence[str], manifest: Manifest) -> np.ndarray:
    row = {sample_id: i for i, sample_id in enumerate(manifest.ids)}
    if any(i not in row for i in ids):
        found = match(ids, manifest.ids)
        raise CacheError(f"{source.path} does not fit {manifest.path}: {found.explain()}")
    return np.array([row[i] for i in ids], dtype=np.int64)


def _rows(
    video: Column | None, text: Column
) -> Iterator[tuple[int, np.ndarray | None, np.ndarray]]:
    """Yield first row, f_v and f_t (n, V, D), the same rows of both."""
    start = 0
    if video is None:
        for block in text.blocks():
            yield start, None, _three(block)
            start += len(block)
        return
    for f_v, f_t in zip(_even(video), _even(text), strict=True):
        yield start, f_v, f_t
        start += len(f_t)


def _even(column: Column) -> Iterator[np.ndarray]:
    """Yield blocks of one size, whatever the sizes of the column's own."""
    waiting: list[np.ndarray] = []
    count = 0
    for block in column.blocks():
        waiting.append(_three(block))
        count += len(block)
        while count >= _ROWS:
            whole = np.concatenate(waiting)
            yield whole[:_ROWS]
            waiting, count = [whole[_ROWS:]], count - _ROWS
    if count:
        yield np.concatenate(waiting)


def _three(block: np.ndarray) -> np.ndarray:
    return block[:, None] if block.ndim == 2 else block


def _check_finite(
    source: Source, ids: Sequence[str], f_v: np.ndarray | None, f_t: np.ndarray, dtype: str
) -> None:
    for name, values in (("f_v", f_v), ("f_t", f_t)):
        if values is None:
            continue
        with np.errstate(over="ignore"):
            kept = np.isfinite(values.astype(dtype)).all(axis=(1, 2))
        if not kept.all():
            bad = int(np.flatnonzero(~kept)[0])
            way = "leave these samples out of the file, they stay pending then"
            what = "not finite"
            if np.isfinite(values[bad]).all():
                what, way = f"too large for {dtype}", "--store-dtype float32 holds it"
            raise CacheError(
                f"{source.path}: {name} of {ids[bad]} is {what} ({int((~kept).sum())} rows); {way}"
            )
