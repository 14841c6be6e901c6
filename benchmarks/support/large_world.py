"""A data set of made-up clips of any size, written through the real writers, for benchmarks."""

from pathlib import Path
from typing import Any

import numpy as np

from skelfew.cache import DONE, CacheWriter
from skelfew.data.joints.layouts import load_layout
from skelfew.data.manifest import Manifest, Sample
from skelfew.data.protocols.files import write_protocol
from skelfew.data.store import Skeleton
from skelfew.data.store_writer import SkeletonStoreWriter

NAME, LAYOUT, CLASSES = "large", "kinect-v2", 20
BASE, VALIDATION, NOVEL = range(1, 13), range(13, 16), range(16, 21)
_CLIPS, _BLOCK = 64, 8192  # different clips, which are repeated; rows written at a time


def write_skeletons(root: Path, samples: int, frames: int, compress: bool = True) -> Manifest:
    """Write manifests/large.csv, its protocol and data/large.h5 below ``root``.

    Clips are (1, frames, 25, 3); every ``_CLIPS``-th is the same.
    """
    draw = np.random.default_rng(0)
    clips = draw.normal(size=(_CLIPS, 1, frames, 25, 3)).cumsum(axis=2).astype(np.float32)
    rows = tuple(
        Sample(f"s{i:08d}", 1 + i % CLASSES, f"action {1 + i % CLASSES}", frames)
        for i in range(samples)
    )
    manifest = Manifest(NAME, rows)
    manifest.write(root / "manifests" / f"{NAME}.csv")
    attrs = {"dataset": NAME, "manifest_sha256": manifest.sha256}
    store, layout = root / "data" / f"{NAME}.h5", load_layout(LAYOUT)
    with SkeletonStoreWriter(store, layout, 25, attrs=attrs, compress=compress) as writer:
        for i, sample in enumerate(rows):
            writer.append(sample.sample_id, Skeleton(clips[i % _CLIPS]))
    novel = {str(c): [next(s.sample_id for s in rows if s.class_id == c)] for c in NOVEL}
    document = {
        "dataset": NAME,
        "base": list(BASE),
        "validation": list(VALIDATION),
        "novel": list(NOVEL),
        "exemplars": {"1": novel},
    }
    write_protocol(document, root / "manifests" / "protocols" / f"{NAME}.json")
    return manifest


def write_features(path: Path, ids: list[str], dim: int, **about: Any) -> None:
    """Write a cache of random f_v and f_t (N, dim) in float16; ``about`` is its provenance."""
    draw = np.random.default_rng(0)
    provenance = {"dataset": NAME, "manifest_sha256": "a" * 64, "classes": [], **about}
    values = draw.normal(size=(_BLOCK, 1, dim)).astype(np.float16)
    with CacheWriter.create_or_resume(path, ids, dim=dim, provenance=provenance) as cache:
        for start in range(0, len(ids), _BLOCK):
            rows = slice(start, min(start + _BLOCK, len(ids)))
            count = rows.stop - start
            status = np.full(count, DONE, dtype=np.uint8)
            cache.write(rows, values[:count], values[:count], status)
        cache.finish()


def provenance(manifest: Manifest) -> dict[str, Any]:
    """Return what makes a cache fit ``manifest`` and be admitted to training."""
    return {
        "manifest_sha256": manifest.sha256,
        "teacher": {"name": "made up", "trained": True},
        "preprocessing": {},
        "classes": [{"class_id": c, "label": n, "prompt": n} for c, n in manifest.classes.items()],
    }
