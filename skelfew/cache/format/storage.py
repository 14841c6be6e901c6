"""A cache as a Zarr store: creating, opening, reading, its digest. The only importer of zarr."""

import hashlib
import shutil
import stat
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from zarr import Array, Group
from zarr.abc.store import ByteRequest
from zarr.codecs import Crc32cCodec
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, WrapperStore, ZipStore

from skelfew.cache.format.checks import (
    FORMAT,
    FORMAT_VERSION,
    METADATA_BYTES,
    CacheError,
    brief,
    check_arrays,
    files_of,
)
from skelfew.cache.format.chunks import ChunkLimit
from skelfew.cache.format.licence import convention
from skelfew.cache.format.plain import PlainArray, aligned
from skelfew.cache.format.zips import entries
from skelfew.data.manifest import bad_id
from skelfew.io.budget import open_zip
from skelfew.io.files import BROKEN, Document, Values, read_limited

PENDING, DONE, FAILED = 0, 1, 2
ARRAYS = ("sample_id", "status", "video", "text", "class_text")
BLOCK_ROWS = 8192
_CHUNK_ROWS = 1024
_OPENING = threading.Lock()
# What zarr, numpy and json raise on metadata or chunks that are not what they should be.
DAMAGE = (
    ValueError, KeyError, TypeError, OSError, RuntimeError, AttributeError, OverflowError,
    MemoryError,
)  # fmt: skip


class _Guarded(WrapperStore[Any]):
    """A store that looks at a file before it is read, and at its bytes before they are unpacked.

    Its group is in the folder ``inside``; ``sizes`` are those of a zip's entries. ``limits``, by
    array, are filled in when the arrays have been checked.
    """

    def __init__(
        self, path: Path, store: Any, inside: str = "", sizes: Mapping[str, int] | None = None
    ):
        super().__init__(store)
        self._path, self._inside, self._sizes = path, inside, sizes
        self.limits: dict[str, ChunkLimit] = {}
        self._archive: zipfile.ZipFile | None = None

    def chunk(self, key: str, limit: ChunkLimit) -> bytes | None:
        """Return the unpacked bytes of a chunk, by its key below the group; None if there is none.

        Raises CacheError if it is no regular file or more than ``limit``, ValueError if unreadable.
        """
        key = self._inside + key
        size = self._size(key)
        if size is None:
            return None
        self._check(key, size, limit.stored)
        try:
            if self._sizes is None:
                with (self._store.root / key).open("rb") as file:
                    data = read_limited(file, limit.stored)
            else:
                with _OPENING:
                    self._archive = self._archive or open_zip(self._path)
                with self._archive.open(key) as file:
                    data = read_limited(file, size)
        except BROKEN as error:
            raise ValueError(f"chunk {key} cannot be read, {brief(error)}") from None
        return limit.unpack(f"{self._path}: {key}", data)

    def _check(self, key: str, size: int, most: int) -> None:
        if size > most:
            raise CacheError(
                f"{self._path}: {key} has {size} bytes, {most} at most are possible; damaged, or "
                "made to harm"
            )

    def _with_store(self, store: Any) -> "_Guarded":
        guarded = type(self)(self._path, store, self._inside, self._sizes)
        guarded.limits = self.limits
        return guarded

    def __str__(self) -> str:
        return str(self._store)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        parts = key.removeprefix(self._inside).split("/")
        limit = None if parts[-1] == "zarr.json" else self.limits.get(parts[0])
        most = METADATA_BYTES if limit is None else limit.stored
        size = self._size(key)
        if size is None:
            return None
        self._check(key, size, most)
        found: Buffer | None = await self._store.get(key, prototype, byte_range)
        if found is not None and limit is not None:
            limit.unpack(f"{self._path}: {key}", found.to_bytes())
        return found

    def _size(self, key: str) -> int | None:
        """Return the size of a file, None if there is none; raise if it is not a regular one."""
        if self._sizes is not None:
            return self._sizes.get(key)
        try:
            found = (self._store.root / key).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if stat.S_ISDIR(found.st_mode):
            return None
        if not stat.S_ISREG(found.st_mode):
            raise CacheError(f"{self._path}: {key} is a link or a device; a cache holds none")
        return found.st_size


def create(
    path: Path,
    sample_ids: Sequence[str],
    shape: tuple[int, int, int],
    dtype: str,
    provenance: Values,
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
        **convention(provenance.get("licence_note")),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "complete": False,
    }
    group = zarr.open_group(partial, mode="w", zarr_format=3, attributes=attrs)
    rows = (_CHUNK_ROWS,)
    # Names with dots put the chunks of an array into one folder instead of two folders each.
    common: Document = {
        "compressors": [Crc32cCodec()],
        "chunk_key_encoding": {"name": "default", "separator": "."},
    }
    ids = group.create_array("sample_id", shape=shape[:1], chunks=rows, dtype=str, **common)
    ids[:] = np.array(list(sample_ids), dtype=object)
    group.create_array("status", shape=shape[:1], chunks=rows, dtype="uint8", **common)
    nan: Document = {"dtype": dtype, "fill_value": float("nan"), **common}
    for name in ("video", "text") if video else ("text",):
        group.create_array(name, shape=shape, chunks=(_CHUNK_ROWS, *shape[1:]), **nan)
    if class_text is not None:
        values = np.asarray(class_text, dtype=np.float32)
        group.create_array("class_text", data=values, chunks=values.shape, **common)
    partial.rename(path)


def open_group(path: Path, mode: Literal["r", "r+"] = "r") -> Group:
    """Open the group at ``path``, a folder or a zip; raise CacheError if there is none."""
    if not path.exists():
        raise CacheError(f"{path}: no such cache; create it with skelfew-extract")
    try:
        if path.is_file():
            inside, files = entries(path)
            sizes = {info.filename: info.file_size for info in files}
            store = _Guarded(path, ZipStore(path, mode="r", read_only=True), inside, sizes)
        else:
            files_of(path)
            inside, store = "", _Guarded(path, LocalStore(path, read_only=mode == "r"))
        folder = inside.rstrip("/")
        return zarr.open_group(store, mode=mode, zarr_format=3, path=folder, use_consolidated=False)
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
    if isinstance(group.store, _Guarded):  # from now on it reads no chunk larger than these have
        group.store.limits.update({n: ChunkLimit.of(n, a) for n, a in arrays.items()})
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


def chunks_of(array: Array) -> PlainArray:
    """Return the chunks of a checked array."""
    guarded: Any = array.store_path.store
    if not isinstance(guarded, _Guarded):  # made by this process
        guarded = _Guarded(Path(guarded.root), guarded)
    name, store = array.basename, guarded._store
    folder = Path(store.root) / array.path if isinstance(store, LocalStore) else None
    return PlainArray(array, name, guarded.chunk, folder)


def read(array: Array, rows: slice = slice(None)) -> np.ndarray:
    """Return rows of an array as stored; CacheError if a chunk is too large, or DAMAGE."""
    start, stop, _ = rows.indices(array.shape[0])
    return chunks_of(array).read(start, stop)


def pick(array: Array, rows: np.ndarray) -> np.ndarray:
    """Return single rows, given in ascending order, as they are stored; reads whole chunks."""
    plain = chunks_of(array)
    out = np.empty((len(rows), *array.shape[1:]), array.dtype)
    for chunk in np.unique(rows // plain.rows).tolist():
        here = rows // plain.rows == chunk
        first = chunk * plain.rows
        stop = min(first + plain.rows, array.shape[0])
        out[here] = plain.read(first, stop)[rows[here] - first]
    return out


def block_rows(array: Array) -> int:
    """Return how many rows are read at once: whole chunks, so that none is unpacked twice."""
    rows: int = array.chunks[0]
    return rows * max(1, BLOCK_ROWS // rows)


def ids_of(arrays: Mapping[str, Array]) -> list[str]:
    """Return all sample IDs in stored order; raise CacheError if they are not unique."""
    ids: list[str] = read(arrays["sample_id"]).tolist()
    if len(set(ids)) != len(ids) or "" in ids:
        raise CacheError(f"{arrays['sample_id'].store_path}: sample IDs are not unique and whole")
    if (fault := bad_id(ids)) is not None:
        raise CacheError(f"{arrays['sample_id'].store_path}: sample ID {fault}")
    return ids


class DoneRows:
    """The finished rows of a feature array as float32 (n, V, D), read part by part in any order."""

    def __init__(self, path: Path, arrays: Mapping[str, Array], name: str, done: np.ndarray):
        self.values = aligned((len(done), *arrays[name].shape[1:]), np.float32)
        self._path, self._arrays, self._name, self._done = path, arrays, name, done
        self._plain = chunks_of(arrays[name])

    def parts(self, count: int) -> list[range]:
        """Return blocks of rows in at most ``count`` parts that threads can read at once."""
        rows = self._arrays[self._name].shape[0]
        step = self._plain.rows
        blocks = -(-rows // step)
        share = max(1, -(-blocks // count))
        return [
            range(first * step, min((first + share) * step, rows), step)
            for first in range(0, blocks, share)
        ]

    def read(self, part: range) -> None:
        """Fill in the rows of a part; CacheError for NaN or infinite ones, DAMAGE if unreadable."""
        array, step = self._arrays[self._name], part.step
        scratch = aligned((min(step, array.shape[0]), *array.shape[1:]), array.dtype)
        for start in part:
            stop = min(start + step, array.shape[0])
            low, high = np.searchsorted(self._done, (start, stop))
            if low == high:
                continue
            rows, values = self._done[low:high], self.values[low:high]
            whole = len(rows) == stop - start
            straight = whole and array.dtype == values.dtype
            block = self._plain.read(start, stop, values if straight else scratch[: stop - start])
            if block is not values:
                values[...] = block if whole else block[rows - start]
            flat = values.reshape(-1)
            with np.errstate(over="ignore", invalid="ignore"):
                if np.isfinite(np.dot(flat, flat)):
                    continue
            finite = np.isfinite(values).all(axis=(1, 2))  # squares of large numbers overflow too
            if not finite.all():
                bad = ids_of(self._arrays)[int(rows[np.flatnonzero(~finite)[0]])]
                raise CacheError(
                    f"{self._path}: {self._name} feature of {bad} is not finite although it is "
                    "marked done; the store is damaged, extract it again"
                )


def digest_of(arrays: Mapping[str, Array]) -> str:
    """Return the content digest of checked arrays, reading them in blocks."""
    digest = hashlib.sha256(f"{FORMAT} {FORMAT_VERSION}\n".encode())
    ids = map(encode_basestring, ids_of(arrays))  # JSON
    digest.update("".join(f"{text}\n" for text in ids).encode())
    status = read(arrays["status"])
    digest.update(status.tobytes())
    for name in ("video", "text"):
        if name not in arrays:
            continue
        array = arrays[name]
        digest.update(f"{name} {array.dtype.name} {array.shape}\n".encode())
        little = array.dtype.newbyteorder("<")
        step = block_rows(array)
        for start in range(0, len(status), step):
            rows = slice(start, start + step)
            done = status[rows] == DONE
            if done.any():
                digest.update(read(array, rows)[done].astype(little, copy=False).tobytes())
    if "class_text" in arrays:
        values = read(arrays["class_text"]).astype("<f4", copy=False)
        digest.update(f"class_text {values.shape}\n".encode() + values.tobytes())
    return digest.hexdigest()
