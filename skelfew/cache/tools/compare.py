"""Differences of two caches: sample by sample, and in provenance."""

from pathlib import Path
from typing import Any

import numpy as np

from skelfew.cache.format.checks import differences
from skelfew.cache.format.history import MANAGED
from skelfew.cache.format.storage import DONE
from skelfew.cache.format.stored import StoredCache
from skelfew.io.files import Document
from skelfew.io.writing import write_csv

_WORST = 10


def compare(a: str | Path, b: str | Path, table: Path | None = None) -> Document:
    """Compare two caches in blocks, the rows of B looked up by the sample IDs of A.

    The CSV ``table`` gets the cosines of every common sample. Returns ``common``, ``only_a`` and
    ``only_b``, numbers of finished samples, with examples; ``features``: for f_v and f_t the
    cosines over the common samples (mean over views), how many rows are equal in every bit, and the
    least similar samples, None where widths differ; ``provenance``: keys that differ, with both
    values.
    """
    first, second = StoredCache.open(a), StoredCache.open(b)
    rows_b = {s: i for i, s in enumerate(second.ids) if second.status[i] == DONE}
    done_a = np.flatnonzero(first.status == DONE)
    common = np.array([i for i in done_a if first.ids[i] in rows_b], dtype=np.int64)
    matched = np.array([rows_b[first.ids[i]] for i in common], dtype=np.int64)
    ids_a = {first.ids[i] for i in done_a}
    only_a, only_b = sorted(ids_a - set(rows_b)), sorted(set(rows_b) - ids_a)
    features: Document = {}
    every: dict[str, np.ndarray] = {}
    for name in ("video", "text"):
        symbol = {"video": "f_v", "text": "f_t"}[name]
        if name in first.features and name in second.features:
            features[symbol] = None
            if first.shape[1:] == second.shape[1:]:
                found = _cosines(first, second, name, common, matched)
                features[symbol], every[symbol] = found
    if table is not None:
        header = ["sample_id", *(f"cosine_{symbol}" for symbol in every)]
        rows = (
            [first.ids[i], *(f"{v[n]:.6f}" for v in every.values())] for n, i in enumerate(common)
        )
        write_csv(table, header, rows)
    return {
        "a": str(first.path),
        "b": str(second.path),
        "common": len(common),
        "only_a": {"count": len(only_a), "first": only_a[:_WORST]},
        "only_b": {"count": len(only_b), "first": only_b[:_WORST]},
        "features": features,
        "same_digest": first.attrs.get("digest") is not None
        and first.attrs.get("digest") == second.attrs.get("digest"),
        "provenance": [
            dict(zip(("key", "a", "b"), found, strict=True))
            for found in differences(about(first), about(second))
        ],
    }


def about(cache: StoredCache) -> Document:
    """Return what a cache says about itself, shapes and types included."""
    samples, views, width = cache.shape
    kept = {k: v for k, v in cache.attrs.items() if k not in MANAGED}
    arrays = {"samples": samples, "views": views, "width": width, "dtype": cache.dtype}
    return {**kept, **arrays, "features": list(cache.features)}


def _cosines(
    first: StoredCache,
    second: StoredCache,
    name: str,
    rows_a: np.ndarray,
    rows_b: np.ndarray,
) -> tuple[Document, np.ndarray]:
    cosines, equal, largest = np.full(len(rows_a), np.nan), 0, 0.0
    for rows in first.blocks():
        here = slice(*np.searchsorted(rows_a, (rows.start, rows.stop)))
        if here.start == here.stop:
            continue
        x, y = first.read(name, rows_a[here]), second.read(name, rows_b[here])
        equal += int((x == y).all(axis=(1, 2)).sum())
        x, y = x.astype(np.float32), y.astype(np.float32)
        cosines[here] = cosine(x, y).mean(axis=1)
        largest = max(largest, float(np.abs(x - y).max()))
    worst = np.argsort(cosines, kind="stable")[:_WORST]
    summary = {
        "equal": equal,
        "min": _number(cosines, np.min),
        "p01": _number(cosines, lambda v: np.quantile(v, 0.01)),
        "median": _number(cosines, np.median),
        "mean": _number(cosines, np.mean),
        "largest_difference": largest,
        "least_similar": [
            {"sample_id": first.ids[rows_a[i]], "cosine": round(float(cosines[i]), 6)}
            for i in worst
        ],
    }
    return summary, cosines


def cosine(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the cosines over the last axis; 0 where a vector is zero."""
    norms = np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1)
    return (x * y).sum(axis=-1) / np.maximum(norms, 1e-30)


def _number(values: np.ndarray, reduce: Any) -> float | None:
    return float(reduce(values)) if len(values) else None
