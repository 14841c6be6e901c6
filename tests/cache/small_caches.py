"""Small caches, made through the real writer."""

from pathlib import Path
from typing import Any

import numpy as np

from skelfew.cache import DONE, FAILED, CacheWriter

GOLDEN = Path(__file__).parents[1] / "data" / "caches" / "v1"
GOLDEN_DIGEST = "52e79726d228df12c2c1aa3b2b3085f76f4aaa22577a4bb4272852b8413bd828"
DIM = 6


PROVENANCE: dict[str, Any] = {
    "dataset": "world",
    "manifest_sha256": "a" * 64,
    "skeletons_digest": "b" * 64,
    "teacher": {"name": "teacher", "weights_sha256": "c" * 64, "mean": [0.1, 0.2, 0.3]},
    "preprocessing": {"crop": "joints", "margin": 0.15},
    "classes": [
        {"class_id": 1, "label": "wave", "prompt": "wave"},
        {"class_id": 2, "label": "kick", "prompt": "kick"},
    ],
}


def features(count: int, seed: int = 0, views: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, views, DIM)).astype(np.float32)


def ids(count: int) -> list[str]:
    return [f"sample_{i:05d}" for i in range(count)]


def writer(path: Path, count: int = 10, **options: Any) -> CacheWriter:
    arguments: dict[str, Any] = {"dim": DIM, "provenance": PROVENANCE, **options}
    return CacheWriter.create_or_resume(path, ids(count), **arguments)


def filled(path: Path, count: int = 10, failed: tuple[int, ...] = (), **options: Any) -> str:
    """Write a complete cache and return its digest."""
    status = np.full(count, DONE)
    status[list(failed)] = FAILED
    with writer(path, count, **options) as cache:
        cache.write(slice(0, count), features(count, 1), features(count, 2), status)
        return cache.finish()
