"""What must hold before a teacher cache is believed: format, shapes, codecs, sizes, provenance.

A cache may come from anywhere, so nothing here trusts what its metadata claim, and no check reads
or allocates in proportion to a claimed shape.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from skelfew.errors import SkelfewError

FORMAT = "skelfew-teacher-cache"
FORMAT_VERSION = 1
FEATURE_DTYPES = ("float16", "float32")

_MAX_CHUNK_BYTES = 1 << 28
_MAX_EXPANSION = 256  # decoded bytes per stored byte; features shrink by a tenth at most
_CODECS = {"bytes", "vlen-utf8", "zstd", "gzip", "blosc", "crc32c"}


class CacheError(SkelfewError):
    """A teacher cache that cannot be used as asked; the message says what to do about it."""


def check_format(path: Path, attrs: dict[str, Any]) -> dict[str, Any]:
    if attrs.get("format") != FORMAT:
        raise CacheError(f"{path}: a Zarr store, but not a {FORMAT}")
    version = attrs.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise CacheError(f"{path}: format_version is {version!r}, expected a number from 1")
    if version > FORMAT_VERSION:
        raise CacheError(
            f"{path}: format version {version}, this skelfew reads up to {FORMAT_VERSION}; "
            "upgrade skelfew to read it"
        )
    return attrs


def check_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Check names, types, shapes, codecs and chunks of the Zarr arrays; reads no chunk."""
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
                f"{path}: {name} is of type {metadata['data_type']!r}, expected "
                f"{' or '.join(types)}"
            )
        if expected is not None and array.shape != expected:
            raise CacheError(f"{path}: {name} has shape {array.shape}, expected {expected}")
        codecs = {codec["name"] for codec in metadata["codecs"]}
        if not codecs <= _CODECS:
            raise CacheError(
                f"{path}: {name} uses codec {min(codecs - _CODECS)!r}, which a cache may not use"
            )
        size = 4 if name == "sample_id" else array.dtype.itemsize
        if int(np.prod([int(c) for c in array.chunks], dtype=object)) * size > _MAX_CHUNK_BYTES:
            raise CacheError(f"{path}: chunks of {name} are larger than {_MAX_CHUNK_BYTES} bytes")
    # All IDs are written when a store is created, so the files bound what the shapes may claim.
    ids = arrays["sample_id"]
    if ids.nchunks_initialized < ids.nchunks:
        raise CacheError(
            f"{path}: claims {shape[0]} samples, but sample IDs are stored for at most "
            f"{ids.nchunks_initialized * ids.chunks[0]}; damaged or not from skelfew-extract"
        )


def check_budget(path: Path, arrays: Mapping[str, Any], done: int) -> None:
    """Refuse to allocate far more than is stored."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    stored = sum(p.stat().st_size for p in files)
    needed = 0
    for name in ("video", "text", "class_text"):
        if name in arrays:
            array = arrays[name]
            rows = array.shape[0] if name == "class_text" else done
            row_size = int(np.prod([int(n) for n in array.shape[1:]], dtype=object))
            needed += rows * row_size * array.dtype.itemsize
    if needed > _MAX_EXPANSION * stored:
        raise CacheError(
            f"{path}: claims {needed} bytes of features, but the whole store has {stored}; "
            "damaged or not from skelfew-extract"
        )


def check_same(path: Path, stored: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise CacheError naming the first key, with both values, in which the two differ."""
    difference = first_difference(
        json.loads(json.dumps(dict(stored))),
        json.loads(json.dumps({key: asked.get(key) for key in stored})),
        "",
    )
    if difference is not None:
        key, ours, theirs = difference
        raise CacheError(
            f"{path}: made with {key} = {ours}, but this run has {theirs}; give --out another "
            "name, or move the old cache away"
        )


def first_difference(stored: Any, asked: Any, key: str) -> tuple[str, str, str] | None:
    if isinstance(stored, dict) and isinstance(asked, dict):
        pairs = [(f"{key}.{k}" if key else k, k) for k in sorted({*stored, *asked})]
        differences = (first_difference(stored.get(k), asked.get(k), name) for name, k in pairs)
        return next((d for d in differences if d is not None), None)
    if isinstance(stored, list) and isinstance(asked, list) and len(stored) == len(asked):
        parts = enumerate(zip(stored, asked, strict=True))
        differences = (first_difference(a, b, f"{key}[{i}]") for i, (a, b) in parts)
        return next((d for d in differences if d is not None), None)
    if stored == asked:
        return None
    return key, brief(json.dumps(stored)), brief(json.dumps(asked))


def brief(value: object) -> str:
    text = str(value).split("\n", 1)[0] or type(value).__name__
    return text if len(text) <= 120 else text[:117] + "..."
