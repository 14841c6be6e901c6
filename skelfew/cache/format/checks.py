"""Checks of a teacher cache when it is opened: format, shapes, codecs, sizes, provenance.

A cache may come from anywhere, so nothing here trusts what its metadata claim, and no check reads
or allocates in proportion to a claimed shape.
"""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

from skelfew.errors import SkelfewError
from skelfew.io.budget import FACTOR, ReadBudget
from skelfew.io.files import Document, Values, brief, entries, shown

FORMAT = "skelfew-teacher-cache"
FORMAT_VERSION = 1
FEATURE_DTYPES = ("float16", "float32")

_MAX_CHUNK_BYTES = 1 << 28
_MIN_CHUNK_ROWS = 16
_ROW_BYTES = 72  # in memory, of the ID and the status of a row
_LARGE_CHUNK_ROWS = 1 << 16  # a chunk may have more rows than the array up to so many
METADATA_BYTES = 1 << 25
ID_BYTES = 512  # of one sample ID, at most
_COMPRESSORS = {"zstd", "gzip", "blosc"}
_CODECS = {"bytes", "vlen-utf8", "zstd", "gzip", "blosc", "crc32c"}


class CacheError(SkelfewError):
    """A teacher cache that cannot be used as asked; the message says what to do about it."""


def check_format(path: Path | str, attrs: Document) -> Document:
    if attrs.get("format") != FORMAT:
        raise CacheError(f"{path}: a Zarr store, but not a {FORMAT}")
    version = attrs.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise CacheError(f"{path}: format_version is {shown(version)}, expected a number from 1")
    if version > FORMAT_VERSION:
        raise CacheError(
            f"{path}: format version {shown(version)}, this skelfew reads up to {FORMAT_VERSION}; "
            "upgrade skelfew to read it"
        )
    return attrs


def check_arrays(path: Path | str, arrays: Values, whole: bool = True) -> None:
    """Check names, types, shapes, codecs and chunks of the Zarr arrays; reads no chunk.

    ``whole`` is false while the chunks are still to be fetched; their bytes are not counted then.
    """
    for name in ("sample_id", "status", "text"):
        if name not in arrays:
            raise CacheError(f"{path}: damaged cache: array {name!r} is missing")
    shape = arrays["text"].shape
    if len(shape) != 3 or 0 in shape:
        raise CacheError(f"{path}: text has shape {shape}, expected (samples, views, width)")
    wanted: dict[str, tuple[tuple[str, ...], tuple[int, ...] | None]] = {
        "sample_id": (("string",), shape[:1]),
        "status": (("uint8",), shape[:1]),
        "video": (FEATURE_DTYPES, shape),
        "text": (FEATURE_DTYPES, shape),
        "class_text": (("float32",), None),
    }
    for name, array in arrays.items():
        types, expected = wanted[name]
        metadata = array.metadata.to_dict()
        if metadata["data_type"] not in types:
            raise CacheError(
                f"{path}: {name} is of type {shown(metadata['data_type'])}, expected "
                f"{' or '.join(types)}"
            )
        if expected is not None and array.shape != expected:
            raise CacheError(f"{path}: {name} has shape {array.shape}, expected {expected}")
        codecs = [codec["name"] for codec in metadata["codecs"]]
        if not set(codecs) <= _CODECS:
            odd = shown(min(set(codecs) - _CODECS))
            raise CacheError(f"{path}: {name} uses codec {odd}, which a cache may not use")
        if sum(codec in _COMPRESSORS for codec in codecs) > 1:
            raise CacheError(f"{path}: {name} is compressed more than once ({', '.join(codecs)})")
        chunk, size = tuple(array.chunks), 4 if name == "sample_id" else array.dtype.itemsize
        least, most = min(array.shape[0], _MIN_CHUNK_ROWS), max(array.shape[0], _LARGE_CHUNK_ROWS)
        if chunk[1:] != array.shape[1:] or not least <= chunk[0] <= most:
            raise CacheError(
                f"{path}: {name} has chunks {chunk}; they must hold whole rows, {least} to {most}"
            )
        if math.prod(chunk) * size > _MAX_CHUNK_BYTES:
            raise CacheError(f"{path}: chunks of {name} are larger than {_MAX_CHUNK_BYTES} bytes")
    if not whole:
        return
    budget = budget_of(Path(path), _ROW_BYTES * shape[0])
    for array in arrays.values():
        budget.count("chunks of an array", -(-array.shape[0] // array.chunks[0]))
    budget.check(_ROW_BYTES * shape[0], f"{shape[0]} samples")


def budget_of(path: Path, needed: int) -> ReadBudget:
    """Return what a store may cost; its bytes are added up until that is enough for ``needed``."""
    return ReadBudget(path, stored_bytes(path, enough=max(1 << 24, needed // FACTOR)), CacheError)


def stored_bytes(path: Path, enough: int | None = None) -> int:
    """Return the size of a store, folder or file; or anything from ``enough``."""
    if path.is_file():
        return path.stat().st_size
    total, folders = 0, [str(path)]
    while folders and (enough is None or total < enough):
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif entry.is_file(follow_symlinks=False) and entry.name[-8:] != ".partial":
                        total += entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            continue
    return total


def files_of(path: Path) -> dict[str, int]:
    """Return the files of a store's folder and their sizes, by name below it.

    A process may be writing to it: files that are on their way come and go and are not counted.
    Raises CacheError if a link, a device or a pipe is among them, or metadata of an absurd size.
    """
    try:
        found = dict(entries(path))
    except ValueError as error:
        raise CacheError(f"{path}: {error}; a cache holds none") from None
    except OSError as error:
        raise CacheError(f"{path}: cannot be read ({brief(error)})") from None
    for name, size in found.items():
        if name.endswith("zarr.json") and size > METADATA_BYTES:
            raise CacheError(f"{path}: {brief(name)} has {size} bytes, made to harm or damaged")
    return found


def check_budget(path: Path, arrays: Values, done: int) -> None:
    """Refuse to hold far more than is stored: features as float32, IDs, status, one chunk."""
    needed = _ROW_BYTES * arrays["text"].shape[0]
    for name in ("video", "text", "class_text"):
        if name in arrays:
            rows = arrays[name].shape[0] if name == "class_text" else done
            needed += rows * math.prod(arrays[name].shape[1:]) * 4
    budget_of(path, needed).hold(needed, f"{done} finished samples")


def check_same(path: Path, stored: Values, asked: Values) -> None:
    """Raise CacheError naming the first key, with both values, in which the two differ."""
    ours, theirs = dict(stored), {key: asked.get(key) for key in stored}
    if difference := next(differences(*(json.loads(json.dumps(d)) for d in (ours, theirs))), None):
        raise CacheError(
            "{}: made with {} = {}, but this run has {}; give --out another name, or move the old "
            "cache away".format(path, *difference)
        )


def differences(a: object, b: object, key: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield every key in which two JSON documents differ, with both values shortened."""
    if isinstance(a, dict) and isinstance(b, dict):
        for k in sorted({*a, *b}):
            yield from differences(a.get(k), b.get(k), f"{key}.{k}" if key else k)
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from differences(x, y, f"{key}[{i}]")
    elif a != b:
        yield key, brief(json.dumps(a)), brief(json.dumps(b))
