"""A cache as a Zarr store: creating, opening, reading, its digest. The only importer of zarr."""

import hashlib
import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from zarr import Array, Group
from zarr.codecs import Crc32cCodec

from skelfew.cache.checks import (
    FORMAT,
    FORMAT_VERSION,
    CacheError,
    brief,
    check_arrays,
    check_format,
    files_of,
)
from skelfew.cache.plain import PlainArray, aligned
from skelfew.cache.zips import entries
from skelfew.data.manifest import bad_id

PENDING, DONE, FAILED = 0, 1, 2
ARRAYS = ("sample_id", "status", "video", "text", "class_text")
BLOCK_ROWS = 8192
_CHUNK_ROWS = 1024
# What zarr, numpy and json raise on metadata or chunks that are not what they should be.
DAMAGE = (
    ValueError,
    KeyError,
    TypeError,
    OSError,
    RuntimeError,
    AttributeError,
    OverflowError,
    MemoryError,
)


def create(
    path: Path,
    sample_ids: Sequence[str],
    shape: tuple[int, int, int],
    dtype: str,
    provenance: Mapping[str, Any],
    class_text: np.ndarray | None,
    video: bool,
) -> None:
    """Build an empty store beside its place and move it there whole.

    Every chunk ends with its CRC-32C: damage is seen when it is read, and which rows it concerns.
    """
    partial = path.with_name(path.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)
    attrs = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **provenance,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "complete": False,
    }
    group = zarr.open_group(partial, mode="w", zarr_format=3, attributes=attrs)
    rows, sums = (_CHUNK_ROWS,), [Crc32cCodec()]
    ids = group.create_array("sample_id", shape=shape[:1], chunks=rows, dtype=str, compressors=sums)
    ids[:] = np.array(list(sample_ids), dtype=object)
    group.create_array("status", shape=shape[:1], chunks=rows, dtype="uint8", compressors=sums)
    for name in ("video", "text") if video else ("text",):
        group.create_array(
            name,
            shape=shape,
            chunks=(_CHUNK_ROWS, *shape[1:]),
            dtype=dtype,
            fill_value=float("nan"),
            compressors=sums,
        )
    if class_text is not None:
        values = np.asarray(class_text, dtype=np.float32)
        group.create_array("class_text", data=values, chunks=values.shape, compressors=sums)
    partial.rename(path)


def open_group(path: Path, mode: Literal["r", "r+"] = "r") -> Group:
    """Open the group at ``path``, a folder or a zip; raise CacheError if there is none."""
    if not path.exists():
        raise CacheError(f"{path}: no such cache; create it with skelfew-extract")
    try:
        if path.is_file():
            folder, _ = entries(path)
            store = zarr.storage.ZipStore(path, mode="r", read_only=True)
            return zarr.open_group(store, mode="r", zarr_format=3, path=folder.rstrip("/"))
        files_of(path)
        return zarr.open_group(path, mode=mode, zarr_format=3)
    except CacheError:
        raise
    except Exception as error:  # zipfile.BadZipFile, zarr's own and JSON errors share no base
        raise CacheError(
            f"{path}: not a Zarr format 3 store ({brief(error)}); a teacher cache is the folder "
            "or zip file that skelfew-extract writes"
        ) from None


def arrays_of(path: Path, group: Group) -> dict[str, Array]:
    """Return the arrays of a cache after checking them; others in the group are ignored."""
    arrays = members(path, group)
    check_arrays(path, arrays)
    return arrays


def members(path: Path, group: Group) -> dict[str, Array]:
    """Return the arrays of the format that are there, unchecked."""
    arrays: dict[str, Array] = {}
    for name in ARRAYS:
        try:
            member = group.get(name)
        except Exception as error:  # zarr's metadata errors share no base class
            raise CacheError(f"{path}: array {name!r} is damaged ({brief(error)})") from None
        if isinstance(member, Array):
            arrays[name] = member
    return arrays


def chunk_keys(array: Array) -> Iterator[str]:
    """Yield the names of the chunk files that a checked array can have, below its own folder."""
    rest = (0,) * (len(array.shape) - 1)  # chunks hold whole rows
    for number in range(-(-array.shape[0] // array.chunks[0])):
        yield array.metadata.encode_chunk_key((number, *rest))


def plain_of(array: Array) -> PlainArray | None:
    """Return the array if its chunks are files that can be read as they are, else None."""
    store = array.store_path.store
    if not isinstance(store, zarr.storage.LocalStore):
        return None
    return PlainArray.of(Path(store.root) / array.path, array)


def read(array: Array, rows: slice = slice(None)) -> np.ndarray:
    """Return the given rows of an array as they are stored, without a step between them."""
    plain = plain_of(array)
    if plain is None:
        return np.asarray(array[rows])
    start, stop, _ = rows.indices(array.shape[0])
    return plain.read(start, stop)


def pick(array: Array, rows: np.ndarray) -> np.ndarray:
    """Return single rows, given in ascending order, as they are stored; reads whole chunks."""
    plain = plain_of(array)
    if plain is None:
        return np.asarray(array.oindex[rows])
    out = np.empty((len(rows), *array.shape[1:]), array.dtype)
    for chunk in np.unique(rows // plain.rows).tolist():
        here = rows // plain.rows == chunk
        first = chunk * plain.rows
        stop = min(first + plain.rows, array.shape[0])
        out[here] = plain.read(first, stop)[rows[here] - first]
    return out


def ids_of(arrays: Mapping[str, Array]) -> list[str]:
    """Return all sample IDs in stored order; raise CacheError if they are not unique."""
    ids: list[str] = read(arrays["sample_id"]).tolist()
    if len(set(ids)) != len(ids) or "" in ids:
        raise CacheError(f"{arrays['sample_id'].store_path}: sample IDs are not unique and whole")
    if (fault := bad_id(ids)) is not None:
        raise CacheError(f"{arrays['sample_id'].store_path}: sample ID {fault}")
    return ids


def read_done(path: Path, array: Array, done: np.ndarray, ids: list[str]) -> np.ndarray:
    """Return the finished rows as float32 (n, V, D), read in blocks; refuse NaN and infinity."""
    out = aligned((len(done), *array.shape[1:]), np.float32)
    plain, filled = plain_of(array), 0
    step = BLOCK_ROWS if plain is None else plain.rows
    scratch = aligned((step, *array.shape[1:]), array.dtype)
    zeros = np.zeros(min(step, len(done)) * math.prod(array.shape[1:]), dtype=np.float32)
    for start in range(0, array.shape[0], step):
        stop = min(start + step, array.shape[0])
        rows = done[np.searchsorted(done, start) : np.searchsorted(done, stop)]
        if not len(rows):
            continue
        part, whole = out[filled : filled + len(rows)], len(rows) == stop - start
        if plain is None:
            block = read(array, slice(start, stop))
        else:
            straight = whole and array.dtype == out.dtype
            block = plain.read(start, stop, part if straight else scratch[: stop - start])
        if block is not part:
            part[...] = block if whole else block[rows - start]
        if np.dot(part.reshape(-1), zeros[: part.size]) != 0:  # 0 times either is NaN
            finite = np.isfinite(part).all(axis=(1, 2))
            bad = ids[rows[np.flatnonzero(~finite)[0]]]
            raise CacheError(
                f"{path}: {array.basename} feature of {bad} is not finite although it is marked "
                "done; the store is damaged, extract it again"
            )
        filled += len(rows)
    return out


def content_digest(path: str | Path) -> str:
    """Recompute the digest of a cache from its content; equal to ``attrs["digest"]`` if undamaged.

    It is the same for a folder and a zip, whatever the chunks and codecs (cache/README.md).
    """
    path = Path(path)
    group = open_group(path)
    check_format(path, dict(group.attrs))
    arrays = arrays_of(path, group)
    try:
        return digest_of(arrays)
    except DAMAGE as error:
        raise CacheError(f"{path}: damaged cache ({brief(error)}); extract it again") from None


def digest_of(arrays: Mapping[str, Array]) -> str:
    """Return the content digest of checked arrays, reading them in blocks."""
    digest = hashlib.sha256(f"{FORMAT} {FORMAT_VERSION}\n".encode())
    for sample_id in ids_of(arrays):
        digest.update(json.dumps(sample_id, ensure_ascii=False).encode() + b"\n")
    status = read(arrays["status"])
    digest.update(status.tobytes())
    for name in ("video", "text"):
        if name not in arrays:
            continue
        array = arrays[name]
        digest.update(f"{name} {array.dtype.name} {array.shape}\n".encode())
        little = array.dtype.newbyteorder("<")
        for start in range(0, len(status), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            done = status[rows] == DONE
            if done.any():
                digest.update(read(array, rows)[done].astype(little, copy=False).tobytes())
    if "class_text" in arrays:
        values = read(arrays["class_text"]).astype("<f4", copy=False)
        digest.update(f"class_text {values.shape}\n".encode() + values.tobytes())
    return digest.hexdigest()
