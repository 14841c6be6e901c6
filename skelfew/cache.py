"""Teacher caches: the features of a frozen teacher, one row per sample. The only importer of zarr.

The on-disk format is specified in cache/README.md; this module is its reference reader and writer.
"""

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import zarr
from filelock import FileLock, Timeout

from skelfew.cache_checks import (
    FEATURE_DTYPES,
    FORMAT,
    FORMAT_VERSION,
    CacheError,
    brief,
    check_arrays,
    check_budget,
    check_format,
    check_same,
)

PENDING, DONE, FAILED = 0, 1, 2
REPRESENTATIONS = ("f_v+f_t", "f_v", "f_t")
# Equal for a store to be continued; everything else in the attributes is for the record.
IDENTITY = ("dataset", "manifest_sha256", "skeletons_digest", "teacher", "preprocessing", "classes")

_CHUNK_ROWS = 1024
_BLOCK_ROWS = 8192
# What zarr, numpy and json raise on metadata or chunks that are not what they should be.
_DAMAGE = (
    ValueError,
    KeyError,
    TypeError,
    OSError,
    RuntimeError,
    AttributeError,
    OverflowError,
    MemoryError,
)


@dataclass(frozen=True)
class TeacherCache:
    """Teacher features of the finished samples of one dataset, held in memory.

    Attributes:
        row: Position of each finished sample in the arrays.
        video: f_v as the teacher gave it, float32, shape (N, V, D), V temporal views; None if the
            teacher saw no video.
        text: f_t as the teacher gave it, float32, shape (N, V, D).
        attrs: Provenance: dataset, teacher, preprocessing, software, digest.
        class_text: Unconditioned text feature of each class, float32 (C, D), in the order of
            ``attrs["classes"]``; None if the teacher stores none.
        failed: IDs of the samples whose extraction failed.
        pending: Number of samples still to be extracted.
        path: Where it was read from.
    """

    row: dict[str, int]
    video: np.ndarray | None
    text: np.ndarray
    attrs: dict[str, Any]
    class_text: np.ndarray | None = None
    failed: tuple[str, ...] = ()
    pending: int = 0
    path: Path = field(default_factory=Path)

    @classmethod
    def open(cls, path: str | Path) -> "TeacherCache":
        """Load the finished samples of a cache, a folder or a zip file (4 KiB each at D = 512).

        Raises:
            CacheError: If it is absent, not a cache, newer than this skelfew or damaged.
        """
        path = Path(path)
        group = _open_group(path)
        attrs = check_format(path, dict(group.attrs))
        arrays = _arrays(path, group)
        try:
            ids, status = _ids(arrays), _read(arrays["status"])
            done = np.flatnonzero(status == DONE)
            check_budget(path, arrays, len(done))
            features = {
                name: _read_rows(path, arrays[name], done, ids)
                for name in ("video", "text")
                if name in arrays
            }
            class_text = _read(arrays["class_text"]) if "class_text" in arrays else None
        except CacheError:
            raise
        except _DAMAGE as error:
            raise CacheError(f"{path}: damaged cache ({brief(error)}); extract it again") from None
        return cls(
            row={ids[i]: row for row, i in enumerate(done)},
            video=features.get("video"),
            text=features["text"],
            attrs=attrs,
            class_text=class_text,
            failed=tuple(ids[i] for i in np.flatnonzero(status == FAILED)),
            pending=int((status == PENDING).sum()),
            path=path,
        )

    def __len__(self) -> int:
        return len(self.row)

    def __contains__(self, sample_id: object) -> bool:
        return sample_id in self.row

    @property
    def dim(self) -> int:
        """D, the width of the teacher's features."""
        return int(self.text.shape[-1])

    @property
    def representations(self) -> tuple[str, ...]:
        """What ``targets`` can return for this cache."""
        return REPRESENTATIONS if self.video is not None else ("f_t",)

    def rows(self, sample_ids: Sequence[str]) -> np.ndarray:
        """Return the row of each sample ID; raise CacheError naming those that are missing."""
        missing = [s for s in sample_ids if s not in self.row]
        if missing:
            failed = len(set(missing) & set(self.failed))
            why = f"{failed} failed, see the .failures.csv beside it; " if failed else ""
            raise CacheError(
                f"{self.path}: {len(missing)} of {len(sample_ids)} samples are not in the cache, "
                f"first {missing[0]} ({why}it holds {len(self)} finished samples); run "
                f"skelfew-extract {self.attrs.get('dataset', 'DATASET')} again to add them"
            )
        return np.array([self.row[s] for s in sample_ids], dtype=np.int64)

    def targets(
        self,
        sample_ids: Sequence[str],
        representation: str = "f_v+f_t",
        form: Literal["raw", "unit"] = "raw",
    ) -> np.ndarray:
        """Return the teacher's representation of each sample, float32, shape (n, V, D).

        Args:
            sample_ids: n sample IDs, in any order.
            representation: ``f_v+f_t`` (the paper's f_VL), ``f_v`` or ``f_t`` (Table VIII).
            form: ``raw`` takes the features as the teacher gave them; ``unit`` scales f_v and f_t
                to length 1 before they are added. The paper does not say which.
        """
        if representation not in self.representations:
            raise CacheError(
                f"{self.path}: no representation {representation!r}; this cache has "
                f"{', '.join(self.representations)}"
            )
        if form not in ("raw", "unit"):
            raise CacheError(f"target form {form!r} is unknown; choose raw or unit")
        rows = self.rows(sample_ids)
        parts = []
        if "f_v" in representation and self.video is not None:
            parts.append(self.video[rows])
        if "f_t" in representation:
            parts.append(self.text[rows])
        if form == "unit":
            parts = [
                p / np.maximum(np.linalg.norm(p, axis=-1, keepdims=True), 1e-12) for p in parts
            ]
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]


class CacheWriter:
    """The single writer of a cache: creates it or goes on with it, and commits blocks of rows.

    Made by :meth:`create_or_resume`; use it as a context manager, which holds the lock.

    Attributes:
        path: The store.
        status: What is done so far, (N,) uint8: 0 pending, 1 done, 2 failed.
        resumed: Whether the store existed before.
    """

    def __init__(self, path: Path, group: zarr.Group, lock: FileLock, resumed: bool):
        self.path, self.resumed = path, resumed
        self._group, self._lock = group, lock
        self._arrays = _arrays(path, group)
        self.status: np.ndarray = _read(self._arrays["status"])

    @classmethod
    def create_or_resume(
        cls,
        path: str | Path,
        sample_ids: Sequence[str],
        *,
        dim: int,
        provenance: Mapping[str, Any],
        views: int = 1,
        dtype: str = "float16",
        class_text: np.ndarray | None = None,
        video: bool = True,
    ) -> "CacheWriter":
        """Open ``path`` for writing, creating it with all rows pending if it does not exist.

        Args:
            path: The store, a folder such as ``cache/pku.zarr``.
            sample_ids: All samples in manifest order, unique.
            dim: D of the teacher.
            provenance: What the rows are made from; the keys of ``IDENTITY`` decide whether an
                existing store may be continued, the others are for the record.
            views: V temporal views of a clip.
            dtype: ``float16`` or ``float32``.
            class_text: Unconditioned text features of the classes, (C, D).
            video: Whether the teacher has an f_v.

        Raises:
            CacheError: If another process writes to it, or if it was made from something else; the
                message names the key and both values.
        """
        path = Path(path)
        provenance = json.loads(json.dumps(dict(provenance)))
        if len(set(sample_ids)) != len(sample_ids) or not sample_ids:
            raise CacheError(f"{path}: sample IDs must be unique and at least one")
        if dtype not in FEATURE_DTYPES:
            raise CacheError(f"{path}: store dtype {dtype!r}; choose {' or '.join(FEATURE_DTYPES)}")
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock(path)
        try:
            resumed = path.exists()
            if resumed:
                for stray in path.rglob("*.partial"):
                    stray.unlink()
            else:
                shape = (len(sample_ids), views, dim)
                _create(path, sample_ids, shape, dtype, provenance, class_text, video)
            group = _open_group(path, mode="r+")
            attrs = check_format(path, dict(group.attrs))
            arrays = _arrays(path, group)
            if resumed:
                check_same(path, {k: attrs.get(k) for k in IDENTITY}, provenance)
                shape = (len(sample_ids), views, dim)
                expected: dict[str, Any] = {"shape": shape, "dtype": dtype, "video": video}
                found = {
                    "shape": arrays["text"].shape,
                    "dtype": str(arrays["text"].dtype),
                    "video": "video" in arrays,
                }
                check_same(path, found, expected)
                if _ids(arrays) != list(sample_ids):
                    raise CacheError(f"{path}: holds other samples or another order; use --out")
            return cls(path, group, lock, resumed)
        except BaseException:
            lock.release()
            raise

    def __enter__(self) -> "CacheWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the lock; what is written stays."""
        self._lock.release()

    def pending(self, retry_failed: bool = False) -> np.ndarray:
        """Return the rows still to be done, ascending; with ``retry_failed`` also the failed."""
        todo = self.status == PENDING
        if retry_failed:
            todo |= self.status == FAILED
        return np.flatnonzero(todo)

    def write(
        self,
        rows: np.ndarray | slice,
        video: np.ndarray | None,
        text: np.ndarray,
        status: np.ndarray,
    ) -> None:
        """Commit a block: video, text, then status, so that a reader sees only whole rows.

        Args:
            rows: n row numbers, ascending, or a slice.
            video: f_v (n, V, D); None if the teacher has none.
            text: f_t (n, V, D).
            status: (n,) of 1 done or 2 failed; the features of failed rows are stored as NaN.

        Raises:
            CacheError: If a done row is not finite after conversion to the stored type.
        """
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self.status)))
        rows, status = np.asarray(rows, dtype=np.int64), np.asarray(status, dtype=np.uint8)
        if not len(rows):
            return
        if ("video" in self._arrays) != (video is not None):
            raise CacheError(f"{self.path}: f_v must be given exactly when the store has one")
        features = {"text": text} if video is None else {"video": video, "text": text}
        done = status == DONE
        blocks = {}
        for name, values in features.items():
            array = self._arrays[name]
            with np.errstate(over="ignore"):
                block = np.asarray(values).reshape(len(rows), *array.shape[1:]).astype(array.dtype)
            finite = np.isfinite(block).all(axis=(1, 2)) | ~done
            if not finite.all():
                bad = int(rows[np.flatnonzero(~finite)[0]])
                raise CacheError(
                    f"{self.path}: {name} feature of row {bad} is not finite as {array.dtype}; "
                    "store float32, or look at the teacher's weights"
                )
            block[~done] = np.nan
            blocks[name] = block
        if "digest" in self._group.attrs:
            del self._group.attrs["digest"]  # it described the content before this block
        for name, block in blocks.items():
            self._arrays[name].oindex[rows] = block
        self._arrays["status"].oindex[rows] = status
        self.status[rows] = status

    def finish(self) -> str:
        """Record the content digest and whether all rows are settled; return the digest."""
        digest = _content_digest(self._arrays)
        self._group.attrs.update({"digest": digest, "complete": not (self.status == PENDING).any()})
        return digest


def content_digest(path: str | Path) -> str:
    """Recompute the digest of a cache from its content; equal to ``attrs["digest"]`` if undamaged.

    It is the same for a folder and a zip, whatever the chunks and codecs (cache/README.md).
    """
    path = Path(path)
    group = _open_group(path)
    check_format(path, dict(group.attrs))
    arrays = _arrays(path, group)
    try:
        return _content_digest(arrays)
    except _DAMAGE as error:
        raise CacheError(f"{path}: damaged cache ({brief(error)}); extract it again") from None


def _content_digest(arrays: Mapping[str, zarr.Array]) -> str:
    digest = hashlib.sha256(f"{FORMAT} {FORMAT_VERSION}\n".encode())
    for sample_id in _ids(arrays):
        digest.update(json.dumps(sample_id, ensure_ascii=False).encode() + b"\n")
    status = _read(arrays["status"])
    digest.update(status.tobytes())
    for name in ("video", "text"):
        if name not in arrays:
            continue
        array = arrays[name]
        digest.update(f"{name} {array.dtype.name} {array.shape}\n".encode())
        little = array.dtype.newbyteorder("<")
        for start in range(0, len(status), _BLOCK_ROWS):
            rows = slice(start, start + _BLOCK_ROWS)
            done = status[rows] == DONE
            if done.any():
                digest.update(_read(array, rows)[done].astype(little, copy=False).tobytes())
    if "class_text" in arrays:
        values = _read(arrays["class_text"]).astype("<f4", copy=False)
        digest.update(f"class_text {values.shape}\n".encode() + values.tobytes())
    return digest.hexdigest()


def _create(
    path: Path,
    sample_ids: Sequence[str],
    shape: tuple[int, int, int],
    dtype: str,
    provenance: Mapping[str, Any],
    class_text: np.ndarray | None,
    video: bool,
) -> None:
    """Build an empty store beside its place and move it there whole."""
    import shutil

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
    rows = (_CHUNK_ROWS,)
    ids = group.create_array("sample_id", shape=shape[:1], chunks=rows, dtype=str, compressors=None)
    ids[:] = np.array(list(sample_ids), dtype=object)
    group.create_array("status", shape=shape[:1], chunks=rows, dtype="uint8", compressors=None)
    for name in ("video", "text") if video else ("text",):
        group.create_array(
            name,
            shape=shape,
            chunks=(_CHUNK_ROWS, *shape[1:]),
            dtype=dtype,
            fill_value=float("nan"),
            compressors=None,
        )
    if class_text is not None:
        values = np.asarray(class_text, dtype=np.float32)
        group.create_array("class_text", data=values, chunks=values.shape, compressors=None)
    partial.rename(path)


def _lock(path: Path) -> FileLock:
    """Take the lock beside the store, or say who holds it."""
    beside = path.with_name(path.name + ".lock")
    lock = FileLock(beside)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        try:
            holder = beside.read_text().strip()
        except OSError:
            holder = ""
        raise CacheError(
            f"{path}: {holder or 'another process'} is writing to it; wait for it to end"
        ) from None
    beside.write_text(f"process {os.getpid()} on {platform.node()}\n")
    return lock


def _open_group(path: Path, mode: Literal["r", "r+"] = "r") -> zarr.Group:
    if not path.exists():
        raise CacheError(f"{path}: no such cache; create it with skelfew-extract")
    try:
        if path.is_file():
            store = zarr.storage.ZipStore(path, mode="r", read_only=True)
            return zarr.open_group(store, mode="r", zarr_format=3)
        return zarr.open_group(path, mode=mode, zarr_format=3)
    except Exception as error:  # zipfile.BadZipFile, zarr's own and JSON errors share no base
        raise CacheError(
            f"{path}: not a Zarr format 3 store ({brief(error)}); a teacher cache is the folder "
            "or zip file that skelfew-extract writes"
        ) from None


def _arrays(path: Path, group: zarr.Group) -> dict[str, zarr.Array]:
    """Return the arrays of a cache after checking them; others in the group are ignored."""
    arrays: dict[str, zarr.Array] = {}
    for name in ("sample_id", "status", "video", "text", "class_text"):
        try:
            member = group.get(name)
        except Exception as error:  # zarr's metadata errors share no base class
            raise CacheError(f"{path}: array {name!r} is damaged ({brief(error)})") from None
        if isinstance(member, zarr.Array):
            arrays[name] = member
    check_arrays(path, arrays)
    return arrays


def _read(array: zarr.Array, rows: slice = slice(None)) -> np.ndarray:
    return np.asarray(array[rows])


def _ids(arrays: Mapping[str, zarr.Array]) -> list[str]:
    ids = [str(sample_id) for sample_id in _read(arrays["sample_id"])]
    if len(set(ids)) != len(ids) or "" in ids:
        raise CacheError(f"{arrays['sample_id'].store_path}: sample IDs are not unique and whole")
    return ids


def _read_rows(path: Path, array: zarr.Array, done: np.ndarray, ids: list[str]) -> np.ndarray:
    """Return the finished rows as float32 (n, V, D), read in blocks; refuse NaN and infinity."""
    out = np.empty((len(done), *array.shape[1:]), dtype=np.float32)
    filled = 0
    for start in range(0, array.shape[0], _BLOCK_ROWS):
        stop = start + _BLOCK_ROWS
        rows = done[np.searchsorted(done, start) : np.searchsorted(done, stop)]
        if not len(rows):
            continue
        block = _read(array, slice(start, stop))[rows - start]
        finite = np.isfinite(block).all(axis=(1, 2))
        if not finite.all():
            bad = ids[rows[np.flatnonzero(~finite)[0]]]
            raise CacheError(
                f"{path}: {array.basename} feature of {bad} is not finite although it is marked "
                "done; the store is damaged, extract it again"
            )
        out[filled : filled + len(rows)] = block
        filled += len(rows)
    return out
