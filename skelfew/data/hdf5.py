"""HDF5 files that may come from anybody: plain arrays of the file itself, and nothing else.

HDF5 can lead to other files (links, external and virtual storage), load filters from plug-ins, and
unpack a chunk to whatever its bytes ask for. A dataset is used after ``plain_dataset`` has looked
at all of these, which reads none of its values.
"""

import math
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from skelfew.errors import SkelfewError
from skelfew.io.budget import ReadBudget
from skelfew.io.files import brief, check_file, shown

_MAX_CHUNK_BYTES = 1 << 28
_TEXT = 80  # bytes in memory of a text, besides its own
_DEFLATE, _SHUFFLE, _CHECKSUM, _LZF = 1, 2, 3, 32000
_PIPELINES: tuple[list[int], ...] = (
    [],
    [_SHUFFLE],
    [_DEFLATE],
    [_LZF],
    [_SHUFFLE, _DEFLATE],
    [_SHUFFLE, _LZF],
)
_SMALL, _MOST_RATIO, _UNSEEN = 64 << 20, 1032, 1 << 30  # bytes; of deflate; that may be uncounted
_COUNTED = 1 << 18  # stored bytes of a chunk above which it is counted what they unpack to


def open_file(path: Path) -> h5py.File:
    """Open an HDF5 file for reading; SkelfewError if it cannot be read."""
    try:
        check_file(path, most=None)
        return h5py.File(path, "r")
    except FileNotFoundError:
        raise
    except Exception as error:  # the library is handed whatever the file holds
        raise SkelfewError(f"{path}: not a readable HDF5 file ({brief(error)})") from None


def plain_dataset(path: Path, file: h5py.File, name: str) -> h5py.Dataset:
    """Return a dataset whose values are in this file, of a believable size, in known filters.

    Raises SkelfewError if it is absent, led to by a link, or stored in a way that is not followed.
    """
    try:
        return _plain(path, file, name)
    except SkelfewError:
        raise
    except Exception as error:
        raise SkelfewError(f"{path}: {shown(name)} is damaged ({brief(error)})") from None


def read_values(path: Path, dataset: h5py.Dataset, rows: slice = slice(None)) -> Any:
    """Return values of a plain dataset; SkelfewError if they cannot be read, or are too many."""
    try:
        if dataset.dtype.kind != "O":
            return dataset[rows]
        budget = ReadBudget(path, path.stat().st_size)
        start, stop, _ = rows.indices(dataset.shape[0])
        lengths = _lengths(path, dataset)
        if lengths is not None:
            part = lengths[start:stop].astype(np.int64)
            budget.hold(2 * int(part.sum()) + _TEXT * len(part), f"{dataset.name}")
            return dataset[rows]
        found = np.empty(stop - start, dtype=object)
        for row in range(start, stop):
            found[row - start] = text = dataset[row]
            budget.hold(2 * len(text) + _TEXT, f"{dataset.name}")
        return found
    except SkelfewError:
        raise
    except Exception as error:
        raise SkelfewError(f"{path}: {dataset.name} is damaged ({brief(error)})") from None


def _lengths(path: Path, dataset: h5py.Dataset) -> np.ndarray | None:
    """Return the stored length of each text of variable length; None if in several pieces."""
    offset, count = dataset.id.get_offset(), math.prod(dataset.shape)
    if offset is None or dataset.ndim != 1 or dataset.id.get_storage_size() != 16 * count:
        return None
    offset += dataset.file.userblock_size
    return np.fromfile(path, "<u4", 4 * count, offset=offset)[::4]


def read_attributes(path: Path, file: h5py.File) -> dict[str, str | int | float]:
    """Return the attributes that are texts or numbers; others are left out."""
    found: dict[str, str | int | float] = {}
    budget = ReadBudget(path, path.stat().st_size)
    try:
        budget.count("groups and arrays", len(file.attrs))
        for key in file.attrs:
            if file.attrs.get_id(key).shape != ():
                continue
            value = file.attrs[key]
            plain = value.item() if isinstance(value, np.generic) else value
            if isinstance(plain, str | int | float):
                budget.hold(4 * len(plain) if isinstance(plain, str) else 8, shown(key))
                found[key] = plain
    except SkelfewError:
        raise
    except Exception as error:
        raise SkelfewError(f"{path}: its attributes are damaged ({brief(error)})") from None
    return found


def is_text(dataset: h5py.Dataset) -> bool:
    """Whether a dataset holds text."""
    return h5py.check_string_dtype(dataset.dtype) is not None or dataset.dtype.kind == "S"


def _plain(path: Path, file: h5py.File, name: str) -> h5py.Dataset:
    node: Any = file
    for part in name.split("/"):
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        if link is None:
            raise SkelfewError(f"{path}: {shown(name)} is missing")
        if not isinstance(link, h5py.HardLink):
            raise SkelfewError(
                f"{path}: {shown(name)} is a link out of its place, which is not followed; copy "
                "the data into the file"
            )
        node = node[part]
    if not isinstance(node, h5py.Dataset) or node.shape is None:
        raise SkelfewError(f"{path}: {shown(name)} is not an array")
    if node.external or node.is_virtual:
        raise SkelfewError(
            f"{path}: {shown(name)} keeps its data in other files; copy them into this one"
        )
    if not is_text(node) and node.dtype.kind not in "fiu":
        raise SkelfewError(
            f"{path}: {shown(name)} is of type {brief(node.dtype)}; expected floats, whole numbers "
            "or text"
        )
    _check_filters(path, name, node)
    stored, size = path.stat().st_size, math.prod(node.shape) * node.dtype.itemsize
    chunk = math.prod(node.chunks or (0,)) * node.dtype.itemsize
    if size > ReadBudget(path, stored).left or chunk > _MAX_CHUNK_BYTES:
        raise SkelfewError(
            f"{path}: {shown(name)} claims shape {node.shape}, {size} bytes, in a file of "
            f"{stored}; damaged, or made to harm"
        )
    if node.chunks is not None:
        _check_chunks(path, name, node, chunk)
    return node


def _check_filters(path: Path, name: str, dataset: h5py.Dataset) -> None:
    properties = dataset.id.get_create_plist()
    found = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    if [f for f in found if f != _CHECKSUM] not in _PIPELINES or found.count(_CHECKSUM) > 1:
        raise SkelfewError(
            f"{path}: {shown(name)} is packed by filters {found}; only gzip or lzf, after shuffle "
            "if any, and fletcher32 are opened; write it again with gzip"
        )


def _check_chunks(path: Path, name: str, dataset: h5py.Dataset, chunk: int) -> None:
    most = chunk + chunk // 8 + (1 << 16)
    filters = dataset.id.get_create_plist()
    packing = next(
        ((1 << i, code) for i in range(filters.get_nfilters())
         if (code := filters.get_filter(i)[0]) in (_DEFLATE, _LZF)), None,
    )  # fmt: skip
    found: list[tuple[int, tuple[int, ...]]] = []

    def look(info: Any) -> None:
        if info.size > most:
            raise SkelfewError(
                f"{path}: a chunk of {shown(name)} has {info.size} bytes, {most} are possible; "
                "damaged, or made to harm"
            )
        if packing and not info.filter_mask & packing[0]:  # a chunk can be left unpacked
            found.append((info.size, info.chunk_offset))

    ReadBudget(path, path.stat().st_size).count("chunks of an array", dataset.id.get_num_chunks())
    dataset.id.chunk_iter(look)
    left_over, small = sum(size for size, _ in found), path.stat().st_size <= _SMALL
    for size, offset in sorted(found, reverse=True):
        if size <= _COUNTED and not (small and _MOST_RATIO * left_over > _UNSEEN):
            break
        left_over -= size
        content = dataset.id.read_direct_chunk(offset)[1]
        unpack = _unpacked_lzf if packing and packing[1] == _LZF else _unpacked_deflate
        if unpack(content, most) > most:
            raise SkelfewError(
                f"{path}: a chunk of {shown(name)} unpacks to more than {most} bytes; made to harm"
            )


def _unpacked_deflate(content: bytes, most: int) -> int:
    """Return how many bytes a chunk unpacks to, or more than ``most``."""
    unpacked, total = zlib.decompressobj(), 0
    while content and not unpacked.eof and total <= most:
        total += len(unpacked.decompress(content, 1 << 20))
        content = unpacked.unconsumed_tail
    return total


def _unpacked_lzf(content: bytes, most: int) -> int:
    """The same of LZF: runs of up to 32 bytes, or copies of 3 to 264 earlier ones."""
    at, total, end = 0, 0, len(content) - 2
    while at < end and total <= most:
        sign = content[at]
        if sign < 32:
            at, total = at + sign + 2, total + sign + 1
        elif sign < 224:
            at, total = at + 2, total + (sign >> 5) + 2
        else:
            at, total = at + 3, total + content[at + 1] + 9
    return total
