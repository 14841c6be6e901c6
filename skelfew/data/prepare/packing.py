"""Compressing the rows of a skeleton store with all cores.

HDF5 compresses chunk after chunk under a lock, longer than all else of a merge. Threads here do
what its filters do (shuffle, then deflate) and hand it finished chunks; readers see no difference.
"""

import zlib
from concurrent.futures import Executor, Future
from typing import Any

import numpy as np

LEVEL = 1  # of deflate
FILTERS = {"compression": "gzip", "compression_opts": LEVEL, "shuffle": True}


class PackedRows:
    """Appends rows to an empty h5py dataset made with ``FILTERS``, packed in ``pool``."""

    def __init__(self, dataset: Any, pool: Executor | None = None):
        self._dataset, self._pool = dataset, pool
        self._chunk: int = dataset.chunks[0]
        self._rows = 0
        self._left = np.empty((0, *dataset.shape[1:]), dataset.dtype)
        self._running: list[tuple[int, Future[bytes]]] = []

    def extend(self, rows: np.ndarray) -> None:
        """Append rows; those that do not fill a chunk wait for the next ones or the end."""
        rows = np.concatenate([self._left, rows])
        whole = len(rows) // self._chunk * self._chunk
        self._left = rows[whole:]
        self._write(rows[:whole])

    def finish(self) -> None:
        """Write what is left."""
        self._write(self._left)
        self._collect()

    def _write(self, rows: np.ndarray) -> None:
        self._collect()  # what was given away last time, so that little waits in memory
        self._dataset.resize(self._rows + len(rows), axis=0)
        for first in range(0, len(rows), self._chunk):
            part = rows[first : first + self._chunk]
            if self._pool is None:
                self._store(self._rows + first, _packed(part, self._chunk))
            else:
                job = self._pool.submit(_packed, part, self._chunk)
                self._running.append((self._rows + first, job))
        self._rows += len(rows)

    def _collect(self) -> None:
        for first, job in self._running:
            self._store(first, job.result())
        self._running = []

    def _store(self, first: int, packed: bytes) -> None:
        origin = (first,) + (0,) * (self._dataset.ndim - 1)
        self._dataset.id.write_direct_chunk(origin, packed)


def _packed(rows: np.ndarray, chunk: int) -> bytes:
    """Return a chunk as HDF5 stores it; missing rows are zeros, which are never read."""
    full = np.zeros((chunk, *rows.shape[1:]), rows.dtype)
    full[: len(rows)] = rows
    shuffled = full.view(np.uint8).reshape(-1, rows.dtype.itemsize).T
    return zlib.compress(shuffled.tobytes(), LEVEL)
