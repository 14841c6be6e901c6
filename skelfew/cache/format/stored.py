"""A cache on disk, opened and checked, its features still there: for what walks over all rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from skelfew.cache.format.checks import CacheError, brief, check_format, stored_bytes
from skelfew.cache.format.storage import (
    DAMAGE,
    DONE,
    FAILED,
    PENDING,
    Array,
    arrays_of,
    block_rows,
    digest_of,
    ids_of,
    open_group,
    pick,
    read,
)
from skelfew.io.files import Document


def counts(status: np.ndarray) -> dict[str, int]:
    """Return how many rows have each status."""
    names = {"done": DONE, "failed": FAILED, "pending": PENDING}
    return {name: int((status == value).sum()) for name, value in names.items()}


def content_digest(path: str | Path) -> str:
    """Recompute the digest of a cache from its content, of folder and zip alike."""
    return StoredCache.open(path).digest()


@dataclass(frozen=True)
class StoredCache:
    """An opened cache: provenance and arrays; only metadata is in memory until asked for more."""

    path: Path
    attrs: Document
    arrays: dict[str, Array]

    @classmethod
    def open(cls, path: str | Path) -> "StoredCache":
        """Open and check a cache; raise CacheError as ``TeacherCache.open`` does."""
        path = Path(path)
        group = open_group(path)
        attrs = check_format(path, dict(group.attrs))
        return cls(path, attrs, arrays_of(path, group))

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the feature arrays: ``video`` if there is one, and ``text``."""
        return tuple(name for name in ("video", "text") if name in self.arrays)

    @property
    def shape(self) -> tuple[int, int, int]:
        """N samples, V views, width D."""
        samples, views, width = self.arrays["text"].shape
        return samples, views, width

    @property
    def dtype(self) -> str:
        """Stored type of the features, ``float16`` or ``float32``."""
        return str(self.arrays["text"].dtype)

    @cached_property
    def ids(self) -> list[str]:
        """All sample IDs in stored order."""
        return self._guarded("sample_id", lambda: ids_of(self.arrays))

    @cached_property
    def status(self) -> np.ndarray:
        """(N,) uint8: 0 pending, 1 done, 2 failed."""
        return self._guarded("status", lambda: read(self.arrays["status"]))

    @cached_property
    def class_text(self) -> np.ndarray | None:
        """(C, D) float32, or None."""
        if "class_text" not in self.arrays:
            return None
        return self._guarded("class_text", lambda: read(self.arrays["class_text"]))

    @property
    def counts(self) -> dict[str, int]:
        """Rows by status."""
        return counts(self.status)

    @property
    def bytes(self) -> int:
        """Size on disk."""
        return stored_bytes(self.path)

    def read(self, name: str, rows: np.ndarray | slice) -> np.ndarray:
        """Return rows (slice, or any numbers) of features, (n, V, D); CacheError if unreadable."""
        array = self.arrays[name]
        if isinstance(rows, slice):
            return self._guarded(name, lambda: read(array, rows))
        if not len(rows):
            return np.empty((0, *array.shape[1:]), dtype=array.dtype)
        low, high = int(rows.min()), int(rows.max()) + 1
        if high - low <= 2 * len(rows):  # dense: whole chunks are faster than single rows
            return self._guarded(name, lambda: read(array, slice(low, high))[rows - low])
        order = np.argsort(rows, kind="stable")
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        picked = self._guarded(name, lambda: pick(array, rows[order]))
        return np.asarray(picked[back])

    def blocks(self) -> Iterator[slice]:
        """Yield slices that cover all rows."""
        step = block_rows(self.arrays["text"])
        for start in range(0, self.shape[0], step):
            yield slice(start, min(start + step, self.shape[0]))

    def digest(self) -> str:
        """Recompute the content digest."""
        return self._guarded("the content", lambda: digest_of(self.arrays))

    def _guarded(self, what: str, action: Any) -> Any:
        try:
            return action()
        except CacheError:
            raise
        except DAMAGE as error:
            raise CacheError(
                f"{self.path}: {what} is damaged ({brief(error)}); skelfew-cache verify says which "
                "rows, ask for the cache again or extract them again"
            ) from None
