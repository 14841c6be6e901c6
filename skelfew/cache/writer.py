"""Writing a cache: one process at a time, committed block by block."""

import errno
import json
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from skelfew.cache.format.checks import FEATURE_DTYPES, CacheError, brief, check_format, check_same
from skelfew.cache.format.history import IDENTITY
from skelfew.cache.format.storage import (
    DAMAGE,
    DONE,
    FAILED,
    PENDING,
    Group,
    arrays_of,
    create,
    digest_of,
    ids_of,
    open_group,
    read,
)
from skelfew.cache.tools.repair import lost_digest, repair
from skelfew.errors import SkelfewError
from skelfew.io.files import Document, Values
from skelfew.io.writing import no_link

# Equal for a store to be continued; everything else in the attributes is for the record.


class CacheWriter:
    """The single writer of a cache: creates it or goes on with it, and commits blocks of rows.

    Made by :meth:`create_or_resume`; use it as a context manager, which holds the lock.

    Attributes:
        status: What is done so far, (N,) uint8: 0 pending, 1 done, 2 failed.
        damaged: How many rows ``repair`` found damaged; they are pending now.
        digest_before: What the digest was before the damage, while a repair is unfinished.
    """

    def __init__(self, path: Path, group: Group, lock: FileLock, resumed: bool, damaged: int = 0):
        self.path, self.resumed, self.damaged = path, resumed, damaged
        self.digest_before = lost_digest(group.attrs)
        self._group, self._lock = group, lock
        self._arrays = arrays_of(path, group)
        self.status: np.ndarray = read(self._arrays["status"])

    @classmethod
    def create_or_resume(
        cls,
        path: str | Path,
        sample_ids: Sequence[str],
        *,
        dim: int,
        provenance: Values,
        views: int = 1,
        dtype: str = "float16",
        class_text: np.ndarray | None = None,
        video: bool = True,
        repairing: bool = False,
    ) -> "CacheWriter":
        """Open ``path`` for writing, creating it with all rows pending if it does not exist.

        Args:
            sample_ids: All samples in manifest order, unique.
            provenance: What the rows are made from; the keys of ``IDENTITY`` decide whether an
                existing store may be continued, the others are for the record.
            views: V temporal views of a clip.
            dtype: ``float16`` or ``float32``.
            class_text: Unconditioned text features of the classes, (C, D).
            video: Whether the teacher has an f_v.
            repairing: Look for damage in an existing store and make the damaged rows pending.

        Raises:
            CacheError: If another process writes to it, if it is damaged or cannot be written, or
                if it was made from something else; the message names the key and both values.
        """
        path = Path(path)
        provenance = json.loads(json.dumps(dict(provenance)))
        if len(set(sample_ids)) != len(sample_ids) or not sample_ids:
            raise CacheError(f"{path}: sample IDs must be unique and at least one")
        if dtype not in FEATURE_DTYPES:
            raise CacheError(f"{path}: store dtype {dtype!r}; choose {' or '.join(FEATURE_DTYPES)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(path, error) from None
        lock, damaged, resumed = lock_beside(path), 0, path.exists()
        try:
            if repairing and not resumed:
                raise CacheError(f"{path}: no such cache, so there is nothing to repair")
            if resumed:
                for stray in path.rglob("*.partial"):
                    stray.unlink()
            else:
                shape = (len(sample_ids), views, dim)
                create(path, sample_ids, shape, dtype, provenance, class_text, video)
            group = open_group(path, mode="r+")
            attrs = check_format(path, dict(group.attrs))
            arrays = arrays_of(path, group)
            if resumed:
                check_same(path, {k: attrs.get(k) for k in IDENTITY}, provenance)
                shape = (len(sample_ids), views, dim)
                expected: Document = {"shape": shape, "dtype": dtype, "video": video}
                found = {
                    "shape": arrays["text"].shape,
                    "dtype": str(arrays["text"].dtype),
                    "video": "video" in arrays,
                }
                check_same(path, found, expected)
                if repairing:
                    damaged = repair(path, group, arrays, sample_ids, class_text)
                if ids_of(arrays) != list(sample_ids):
                    raise CacheError(f"{path}: holds other samples or another order; use --out")
            return cls(path, group, lock, resumed, damaged)
        except BaseException as error:
            lock.release()
            if isinstance(error, OSError):
                raise unwritable(path, error) from None
            if resumed and isinstance(error, DAMAGE) and not isinstance(error, SkelfewError):
                raise damage(path, error) from error
            raise

    def __enter__(self) -> "CacheWriter":
        return self

    def __exit__(self, *error: object) -> None:
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

        ``rows`` are n ascending numbers or a slice, features (n, V, D), video None if the teacher
        has none, status (n,) 1 done or 2 failed (stored as NaN). Raises CacheError for a done row
        that is not finite in the stored type.
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
                    f"{self.path}: {name} feature of {ids_of(self._arrays)[bad]} is not finite as "
                    f"{array.dtype}; store them with --store-dtype float32, or look at the "
                    "teacher's weights"
                )
            block[~done] = np.nan
            blocks[name] = block
        dense = rows[-1] - rows[0] + 1 == len(rows) and bool((np.diff(rows) == 1).all())
        where = slice(int(rows[0]), int(rows[-1]) + 1) if dense else rows  # whole chunks are faster
        with self._explained():
            if "digest" in self._group.attrs:
                del self._group.attrs["digest"]  # it described the content before this block
            for name, block in blocks.items():
                self._arrays[name].oindex[where] = block
            self._arrays["status"].oindex[where] = status
        self.status[rows] = status

    def finish(self) -> str:
        """Record the content digest and whether all rows are settled; return the digest."""
        with self._explained():
            digest = digest_of(self._arrays)
            complete = not (self.status == PENDING).any()
            self._group.attrs.update({"digest": digest, "complete": complete})
        return digest

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn a full disk and damaged chunks into errors that say what to do."""
        try:
            yield
        except SkelfewError:
            raise
        except OSError as error:
            raise unwritable(self.path, error) from None
        except DAMAGE as error:
            raise damage(self.path, error) from error


def unwritable(path: Path, error: OSError) -> CacheError:
    """Return what to say if the disk is full, the place is read-only, ..."""
    return CacheError(
        f"{path}: cannot be written ({brief(error.strerror or error)}); the rows committed so far "
        "are safe, fix that and run the same command again"
    )


def damage(path: Path, error: Exception) -> CacheError:
    """Return what to say of a store whose chunks cannot be read."""
    return CacheError(
        f"{path}: damaged ({brief(error)}); skelfew-extract --repair extracts the damaged rows "
        "again"
    )


class _Lock(FileLock):
    """A lock whose file is removed when it is given back."""

    def in_place(self) -> bool:
        """Whether the file that is locked is the one that others will find."""
        handle = self._context.lock_file_fd
        try:
            return handle is None or os.path.samestat(os.fstat(handle), Path(self.lock_file).stat())
        except FileNotFoundError:
            return False

    def _release(self) -> None:
        if os.name != "nt" and self.in_place():  # Windows removes it by itself
            Path(self.lock_file).unlink(missing_ok=True)
        super()._release()


def lock_beside(path: Path, wait: float = 0) -> FileLock:
    """Take the lock beside the store within ``wait`` seconds, or say who holds it."""
    beside = path.with_name(path.name + ".lock")
    try:
        if beside.is_symlink():
            raise OSError(errno.ELOOP, "its lock is a link; remove it", str(beside))
        lock = _Lock(beside)
        lock.acquire(timeout=wait)
        while not lock.in_place():  # removed by the process that held it
            lock.release()
            lock.acquire(timeout=wait)
    except Timeout:
        try:
            holder = beside.read_text().strip()
        except OSError:
            holder = ""
        raise CacheError(
            f"{path}: {holder or 'another process'} is writing to it; wait for it to end"
        ) from None
    except OSError as error:
        raise CacheError(f"{path}: cannot be written there ({brief(error)})") from None
    # A full disk does not keep a lock from holding.
    with suppress(OSError), open(beside, "w", opener=no_link) as file:
        file.write(f"process {os.getpid()} on {platform.node()}\n")
    return lock
