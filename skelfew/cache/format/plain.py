"""Chunks of uncompressed arrays in a folder, read from their files straight into place.

Zarr takes every chunk through an event loop, threads and two copies, which for a whole cache is ten
times the time of reading the bytes. What Zarr refuses is refused here too.
"""

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs.vlen import VLenUTF8

from skelfew.cache.format.checks import ID_BYTES
from skelfew.io.files import read_limited

try:
    from google_crc32c import extend, value
except ImportError:  # an older Zarr brings another library
    extend = value = None

_SUM_BYTES, _PAGE = 4, 4096


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
    """The chunks of one checked array.

    Made by :meth:`of`, which returns None for what Zarr has to read.

    Attributes:
        rows: Rows of a chunk.
    """

    def __init__(self, folder: Path, array: Any, text: bool, summed: bool):
        self.rows: int = array.chunks[0]
        self._folder, self._array, self._summed = folder, array, summed
        self._text, self._fill = text, array.fill_value
        self._tail = (0,) * (len(array.shape) - 1)
        self._row = 0 if text else math.prod(array.shape[1:]) * array.dtype.itemsize

    @classmethod
    def of(cls, folder: Path, array: Any) -> "PlainArray | None":
        """Return the array whose chunks lie in ``folder``, or None if it has to be decoded."""
        codecs = array.metadata.to_dict()["codecs"]
        names = [codec["name"] for codec in codecs]
        text, summed = names[0] == "vlen-utf8", names[1:] == ["crc32c"]
        order = (codecs[0].get("configuration") or {}).get("endian", "little")
        plain = text or (names[0] == "bytes" and order == "little" == sys.byteorder)
        if not plain or not (summed or len(names) == 1) or (summed and value is None):
            return None
        return cls(folder, array, text, summed)

    def read(self, start: int, stop: int, out: np.ndarray | None = None) -> np.ndarray:
        """Return rows ``start`` to ``stop`` as stored, (n, ...); strings are objects.

        Args:
            start: First row.
            stop: One past the last.
            out: Where to put them; a new array if None.

        Raises:
            ValueError: If a chunk has another size than it should, or another checksum.
            OSError: If it cannot be read.
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

    def _open(self, chunk: int) -> Any:
        """Open the file of a chunk; None if there is none, which stands for the fill value."""
        key = self._array.metadata.encode_chunk_key((chunk, *self._tail))
        try:
            return (self._folder / key).open("rb", buffering=0)
        except FileNotFoundError:
            return None

    def _read_into(self, chunk: int, out: np.ndarray) -> None:
        """Read the first rows of a chunk, as many as ``out`` has."""
        file = self._open(chunk)
        if file is None:
            out[...] = self._fill
            return
        wanted = out.reshape(-1).view(np.uint8)
        size = self._row * self.rows + (_SUM_BYTES if self._summed else 0)
        with file:
            got, rest = _fill(file, wanted.data), file.read(size - len(wanted) + 1)
        if got + len(rest) != size:
            raise ValueError(f"a chunk of {self._array.basename} is not {size} bytes long")
        if self._summed and extend(value(wanted), rest[:-_SUM_BYTES]) != _sum(rest):
            raise ValueError(f"a chunk of {self._array.basename} does not have its checksum")

    def packed(self, count: int) -> np.ndarray | None:
        """Return the first strings as bytes, uint8 (``count``, L); None unless all have L.

        Raises:
            ValueError: As ``read``.
            OSError: As ``read``.
        """
        parts: list[np.ndarray] = []
        for first in range(0, count, self.rows):
            content = self._text_of(first // self.rows)
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
        content = self._text_of(chunk)
        if content is None:
            return np.full(self.rows, self._fill, dtype=object)
        return np.asarray(VLenUTF8().decode(content))

    def _text_of(self, chunk: int) -> bytes | None:
        """Return what is stored of a chunk: how many strings, then length and bytes of each."""
        file = self._open(chunk)
        if file is None:
            return None
        most = self.rows * (ID_BYTES + 4) + _PAGE
        with file:
            content = read_limited(file, most)
        if self._summed:
            if value(content[:-_SUM_BYTES]) != _sum(content):
                raise ValueError(f"a chunk of {self._array.basename} does not have its checksum")
            content = content[:-_SUM_BYTES]
        if int.from_bytes(content[:4], "little") != self.rows:
            raise ValueError(f"a chunk of {self._array.basename} does not hold {self.rows} strings")
        return content


def _sum(content: bytes) -> int:
    return int.from_bytes(content[-_SUM_BYTES:], "little")


def _fill(file: Any, view: memoryview) -> int:
    """Read until ``view`` is full or the file ends; return the number of bytes."""
    filled = 0
    while filled < len(view) and (got := file.readinto(view[filled:])):
        filled += got
    return filled
