"""What a chunk's bytes unpack to, told from the bytes before they are given to a codec.

Codecs allocate what a header asks for, or go on as long as there is input: a megabyte of zstd can
become thirty gigabytes. Here the size is read from the header, and where there is none counted.
"""

import math
import zlib
from dataclasses import dataclass
from typing import Any

from skelfew.cache.format.checks import ID_BYTES, CacheError

COMPRESSORS = ("zstd", "gzip", "blosc")
_SLACK = 1 << 16
_ZSTD_MAGIC, _ZSTD_BLOCK = 0xFD2FB528, 1 << 17


@dataclass(frozen=True)
class ChunkLimit:
    """What a chunk of a checked array can be.

    Attributes:
        decoded: Bytes of a whole chunk.
        compressor: One of ``COMPRESSORS``, or "".
        trailer: Bytes after the compressed ones, a checksum.
    """

    decoded: int
    compressor: str
    trailer: int

    @classmethod
    def of(cls, name: str, array: Any) -> "ChunkLimit":
        """Return the limit of an array called ``name``, whose metadata have been checked."""
        size = ID_BYTES + 4 if name == "sample_id" else array.dtype.itemsize
        codecs = [codec["name"] for codec in array.metadata.to_dict()["codecs"]]
        found = [c for c in codecs if c in COMPRESSORS]
        compressor = found[0] if found else ""
        after = codecs[codecs.index(compressor) + 1 :] if compressor else []
        decoded = math.prod(array.chunks) * size + _SLACK
        return cls(decoded, compressor, 4 * after.count("crc32c"))

    @property
    def stored(self) -> int:
        """Most bytes of the file."""
        return self.decoded + self.decoded // 8

    def check(self, where: str, data: bytes) -> None:
        """Raise CacheError if the bytes of a chunk would unpack to more than a chunk."""
        if len(data) > self.stored:
            raise CacheError(
                f"{where}: {len(data)} bytes, a chunk has {self.stored} at most; damaged, or made "
                "to harm"
            )
        content = data[: len(data) - self.trailer] if self.trailer else data
        unpacked = unpacked_size(self.compressor, content, self.decoded)
        if unpacked is None:
            raise CacheError(f"{where}: no {self.compressor} data; damaged, ask for it again")
        if unpacked > self.decoded:
            raise CacheError(
                f"{where}: {len(data)} bytes that would unpack to {unpacked} or more, a chunk has "
                f"{self.decoded} at most; damaged, or made to harm"
            )


def unpacked_size(compressor: str, data: bytes, most: int) -> int | None:
    """Return what compressed bytes unpack to, at most; counting ends soon above ``most``.

    None if they are not of this kind.
    """
    if compressor == "zstd":
        return _zstd(data)
    if compressor == "blosc":
        return _blosc(data)
    if compressor == "gzip":
        return _gzip(data, most)
    return len(data)


def _blosc(data: bytes) -> int | None:
    if len(data) < 16 or int.from_bytes(data[12:16], "little") != len(data):
        return None  # the codec would read on behind the end
    return int.from_bytes(data[4:8], "little")


def _gzip(data: bytes, most: int) -> int | None:
    total = 0
    while data:
        member = zlib.decompressobj(31)
        try:
            while data and not member.eof and total <= most:
                total += len(member.decompress(data, 1 << 16))
                data = member.unconsumed_tail
        except zlib.error:
            return None
        if total > most:
            return total
        data = member.unused_data.lstrip(b"\0")
    return total


def _zstd(data: bytes) -> int | None:
    """Read the content size of the frame (RFC 8878, 3.1.1.1), or count its blocks."""
    if len(data) < 6 or int.from_bytes(data[:4], "little") != _ZSTD_MAGIC:
        return None
    descriptor = data[4]
    single, flag = descriptor >> 5 & 1, descriptor >> 6
    at = 5 + (1 - single) + (0, 1, 2, 4)[descriptor & 3]
    width = (single, 2, 4, 8)[flag]
    if width:
        field = data[at : at + width]
        return int.from_bytes(field, "little") + (256 if flag == 1 else 0)
    blocks = 0
    while at + 3 <= len(data):
        header = int.from_bytes(data[at : at + 3], "little")
        kind, size = header >> 1 & 3, header >> 3
        at += 3 + (1 if kind == 1 else size)
        blocks += 1
        if header & 1:
            break
    return blocks * _ZSTD_BLOCK
