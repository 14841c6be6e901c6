"""Sizes that chunks unpack to: found before they are given to a codec, and checked after.

Codecs allocate what a header asks for, or go on as long as there is input: a megabyte of zstd can
become thirty gigabytes. Here sizes are read from the headers of all frames, and gzip is counted
while it is unpacked. A chunk of numbers has exactly the bytes of its shape, a chunk of IDs as many
texts as rows.
"""

import math
import zlib
from dataclasses import dataclass
from typing import Any

from numcodecs import blosc, zstd

from skelfew.cache.format.checks import ID_BYTES, CacheError, brief
from skelfew.io.budget import ReadBudget, gunzip

try:
    from google_crc32c import extend, value
except ImportError:  # an older Zarr brings another library
    from crc32c import crc32c as value  # type: ignore[import-not-found, no-redef]

    def extend(crc: int, chunk: bytes) -> int:
        """Return the checksum of what ``crc`` is of, and more bytes."""
        return int(value(chunk, crc))


_SLACK, SUM_BYTES = 1 << 16, 4
_ZSTD_MAGIC, _ZSTD_SKIPPED, _ZSTD_BLOCK = 0xFD2FB528, 0x184D2A5, 1 << 17


@dataclass(frozen=True)
class ChunkLimit:
    """Limits of a chunk of a checked array: rows; bytes, None for texts; codecs in order."""

    rows: int
    size: int | None
    codecs: tuple[str, ...]

    @classmethod
    def of(cls, name: str, array: Any) -> "ChunkLimit":
        """Return the limit of an array called ``name``, whose metadata have been checked."""
        codecs = tuple(codec["name"] for codec in array.metadata.to_dict()["codecs"])
        size = None if name == "sample_id" else math.prod(array.chunks) * array.dtype.itemsize
        return cls(array.chunks[0], size, codecs[1:])

    @property
    def decoded(self) -> int:
        """Most bytes of a chunk that has been unpacked."""
        size = self.rows * (ID_BYTES + 4) + 4 if self.size is None else self.size
        return size + SUM_BYTES * len(self.codecs)

    @property
    def stored(self) -> int:
        """Most bytes of the file."""
        return self.decoded + self.decoded // 8 + _SLACK

    def unpack(self, where: str, data: bytes) -> bytes:
        """Return the bytes of a chunk; CacheError if they are too many, ValueError if damaged."""
        if len(data) > self.stored:
            raise CacheError(
                f"{where}: {len(data)} bytes, a chunk has {self.stored} at most; damaged, or made "
                "to harm"
            )
        for codec in reversed(self.codecs):
            if codec == "crc32c":
                check_sum(where, data[-SUM_BYTES:], value(data[:-SUM_BYTES]))
                data = data[:-SUM_BYTES]
            else:
                data = _unpacked(where, codec, data, self.decoded)
        if self.size is not None and len(data) != self.size:
            raise ValueError(f"{_chunk(where)} is not {self.size} bytes long")
        if self.size is None and int.from_bytes(data[:4], "little") != self.rows:
            raise ValueError(f"{_chunk(where)} does not hold {self.rows} strings")
        return data


def check_sum(where: str, stored: bytes, found: int) -> None:
    """Raise ValueError if the last bytes of a chunk are not the CRC-32C of those before."""
    if int.from_bytes(stored, "little") != found:
        raise ValueError(f"{_chunk(where)} does not have its checksum")


def _chunk(where: str) -> str:
    """Return a chunk's name for an error that a caller puts the path to."""
    return f"chunk {where.rpartition(': ')[2]}"


def _unpacked(where: str, compressor: str, data: bytes, most: int) -> bytes:
    """Return what compressed bytes unpack to, after a look at how much that is."""
    try:
        if compressor == "gzip":
            return gunzip(data, most, ReadBudget(where, len(data), CacheError))
        size = _zstd(where, data) if compressor == "zstd" else _blosc(data)
        if size is None:
            raise CacheError(f"{where}: no {compressor} data; damaged, ask for it again")
        if size > most:
            raise CacheError(
                f"{where}: {len(data)} bytes that would unpack to {size} or more, a chunk has "
                f"{most} at most; damaged, or made to harm"
            )
        return bytes(zstd.decompress(data) if compressor == "zstd" else blosc.decompress(data))
    except (RuntimeError, EOFError, zlib.error) as error:
        raise ValueError(f"{_chunk(where)} is damaged, {brief(error)}") from None


def _blosc(data: bytes) -> int | None:
    if len(data) < 16 or int.from_bytes(data[12:16], "little") != len(data):
        return None  # the codec would read on behind the end
    return int.from_bytes(data[4:8], "little")


def _zstd(where: str, data: bytes) -> int | None:
    """Add up the content sizes of all frames (RFC 8878, 3.1.1.1); None if it is no frames."""
    budget = ReadBudget(where, len(data), CacheError)
    at = total = blocks = 0
    known = True
    while at < len(data):
        budget.count("frames of a chunk")
        magic = int.from_bytes(data[at : at + 4], "little")
        if magic >> 4 == _ZSTD_SKIPPED:
            at += 8 + int.from_bytes(data[at + 4 : at + 8], "little")
            continue
        if magic != _ZSTD_MAGIC or at + 6 > len(data):
            return None
        descriptor = data[at + 4]
        single, flag = descriptor >> 5 & 1, descriptor >> 6
        at += 5 + (1 - single) + (0, 1, 2, 4)[descriptor & 3]
        width = (single, 2, 4, 8)[flag]
        total += int.from_bytes(data[at : at + width], "little") + (256 if flag == 1 else 0)
        known &= width > 0
        at += width
        last = 0
        while not last and at + 3 <= len(data):
            budget.count("frames of a chunk")
            header = int.from_bytes(data[at : at + 3], "little")
            last, kind, size = header & 1, header >> 1 & 3, header >> 3
            at += 3 + (1 if kind == 1 else size)
            blocks += 1 if kind == 2 else -(-min(size, _ZSTD_BLOCK) // _ZSTD_BLOCK)
        if not last:
            return None
        at += 4 * (descriptor >> 2 & 1)
    if at != len(data):
        return None
    return total if known else blocks * _ZSTD_BLOCK
