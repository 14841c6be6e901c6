"""The chunks of an array, read and unpacked here; uncompressed files straight into place.

Zarr takes every chunk through an event loop, threads and two copies, which for a whole cache is ten
times the time of reading the bytes, and hands them to codecs that believe what they claim. What
Zarr refuses is refused here too.
"""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs.vlen import VLenUTF8

from skelfew.cache.format.chunks import SUM_BYTES, ChunkLimit, check_sum, extend, value

Fetch = Callable[[str, ChunkLimit], bytes | None]

_PAGE = 4096


def aligned(shape: tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
    """Return an empty array that begins with a page of memory.

    NumPy's large arrays begin 16 bytes after one, and files are read to there six times as slowly
    by processors whose ``rep movsb`` is slow at that offset (some of AMD's).
    """
    count = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(count + _PAGE, dtype=np.uint8)
    start = -memory.ctypes.data % _PAGE
    return memory[start : start + count].view(dtype).reshape(shape)


class PlainArray:
    """The chunks of one checked array."""

    def __init__(self, array: Any, name: str, fetch: Fetch, folder: Path | None):
        """Make it of a checked array.

        ``fetch`` takes ``NAME/KEY`` of a chunk and its limit, and returns its unpacked bytes; None
        means the fill value. Chunks that are files in ``folder`` may be read without it; None for a
        zip.
        """
        first = array.metadata.to_dict()["codecs"][0]
        order = (first.get("configuration") or {}).get("endian", "little")
        self.rows: int = array.chunks[0]
        self._array, self._name, self._fetch, self._folder = array, name, fetch, folder
        self._limit = ChunkLimit.of(name, array)
        self._text, self._fill = self._limit.size is None, array.fill_value
        self._stored = array.dtype if self._text else array.dtype.newbyteorder(order)
        self._summed = self._limit.codecs == ("crc32c",)
        plain = self._summed or not self._limit.codecs
        self._direct = folder is not None and plain and order == "little" == sys.byteorder
        self._tail = (0,) * (len(array.shape) - 1)
        self._row = 0 if self._text else math.prod(array.shape[1:]) * array.dtype.itemsize

    def read(self, start: int, stop: int, out: np.ndarray | None = None) -> np.ndarray:
        """Return rows ``start`` to ``stop`` as stored, (n, ...); strings are objects.

        Raises ValueError for a chunk of another size or checksum, OSError if it cannot be read.
        """
        if out is None:
            shape = (max(stop - start, 0), *self._array.shape[1:])
            out = np.empty(shape, object) if self._text else aligned(shape, self._array.dtype)
        scratch: np.ndarray | None = None
        for chunk in range(start // self.rows, -(-stop // self.rows)):
            first = chunk * self.rows
            low, high = max(start, first), min(stop, first + self.rows)
            place = out[low - start : high - start]
            if self._text:
                place[...] = self._strings(chunk)[low - first : high - first]
            elif low == first:
                self._read_into(chunk, place)
            else:
                if scratch is None:
                    scratch = aligned((self.rows, *out.shape[1:]), out.dtype)
                self._read_into(chunk, scratch[: high - first])
                place[...] = scratch[low - first : high - first]
        return out

    def _key(self, chunk: int) -> str:
        return str(self._array.metadata.encode_chunk_key((chunk, *self._tail)))

    def _bytes(self, chunk: int) -> bytes | None:
        """Return the unpacked bytes of a chunk; None if there is none: the fill value."""
        return self._fetch(f"{self._name}/{self._key(chunk)}", self._limit)

    def _read_into(self, chunk: int, out: np.ndarray) -> None:
        """Read the first rows of a chunk, as many as ``out`` has."""
        if self._direct and self._folder is not None:
            try:
                file = (self._folder / self._key(chunk)).open("rb", buffering=0)
            except FileNotFoundError:
                out[...] = self._fill
                return
        else:
            content = self._bytes(chunk)
            if content is None:
                out[...] = self._fill
            else:
                values = np.frombuffer(content, self._stored)
                out[...] = values.reshape(self.rows, *out.shape[1:])[: len(out)]
            return
        wanted = out.reshape(-1).view(np.uint8)
        size = self._row * self.rows + (SUM_BYTES if self._summed else 0)
        with file:
            got, rest = _fill(file, wanted.data), file.read(size - len(wanted) + 1)
        if got + len(rest) != size:
            raise ValueError(f"a chunk of {self._array.basename} is not {size} bytes long")
        if self._summed:
            check_sum(
                f"{self._name}/{self._key(chunk)}",
                rest[-SUM_BYTES:],
                extend(value(wanted), rest[:-SUM_BYTES]),
            )

    def packed(self, count: int) -> np.ndarray | None:
        """Return the first ``count`` strings as bytes, uint8 (count, L); None unless all have L."""
        parts: list[np.ndarray] = []
        for first in range(0, count, self.rows):
            content = self._bytes(first // self.rows)
            rows = min(self.rows, count - first)
            if content is None or len(content) < 8:
                return None
            head = content[4:8]
            size = 4 + int.from_bytes(head, "little")
            body = content[4 : 4 + rows * size]
            # The last chunk is filled up with empty strings.
            if len(body) != rows * size or content[4 + len(body) :].strip(b"\0"):
                return None
            table = np.frombuffer(body, np.uint8).reshape(rows, size)
            if (table[:, :4] != np.frombuffer(head, np.uint8)).any():
                return None
            if parts and parts[0].shape[1] != size - 4:
                return None
            parts.append(table[:, 4:])
        return np.concatenate(parts) if parts else None

    def _strings(self, chunk: int) -> np.ndarray:
        """Return all rows of a chunk of strings, as objects."""
        content = self._bytes(chunk)
        if content is None:
            return np.full(self.rows, self._fill, dtype=object)
        return np.asarray(VLenUTF8().decode(content))


def _fill(file: Any, view: memoryview) -> int:
    """Read until ``view`` is full or the file ends; return the number of bytes."""
    filled = 0
    while filled < len(view) and (got := file.readinto(view[filled:])):
        filled += got
    return filled
