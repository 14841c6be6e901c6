"""A data set of tiny clips with all that training reads, made through the real writers."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from skelfew.cache import CacheWriter
from skelfew.data.joints.layouts import load_layout
from skelfew.data.manifest import Manifest, Sample
from skelfew.data.protocols.files import write_protocol
from skelfew.data.store import Skeleton
from skelfew.data.store_writer import SkeletonStoreWriter

BASE, VALIDATION, NOVEL = (1, 2, 3, 4), (5, 6), (7, 8)
EACH, DIM = 10, 24
LAYOUT = "joints-15"
# What makes a run take a second.
FAST = [
    "--encoder=agcn",
    "--width=0.125",
    "--frames=8",
    "--threads=1",
    "--set=transfer.hidden_dim=32",
    "--set=transfer.projection_dim=16",
]


def clip(class_id: int, draw: np.random.Generator) -> np.ndarray:
    """Return (1, T, V, 3): all joints swing to and fro in a direction that makes the class."""
    frames, joints = int(draw.integers(10, 16)), len(load_layout(LAYOUT))
    still = np.random.default_rng(0).normal(size=(joints, 3))
    direction = np.random.default_rng(class_id).normal(size=3)
    direction *= (1 + class_id % 3) / np.linalg.norm(direction)
    swing = np.sin(2 * math.pi * (np.arange(frames) / 8 + draw.uniform()))[:, None, None]
    moving = still + swing * direction + 0.02 * draw.normal(size=(frames, joints, 3))
    return moving[None].astype(np.float32)


def make_world(
    root: Path,
    novel_scale: float = 1.0,
    failed: tuple[str, ...] = (),
    pending: tuple[str, ...] = (),
    trained: bool = False,
    label: str = "action",
) -> Path:
    """Write manifests/tiny.csv, its protocol, data/tiny.h5 and cache/tiny.zarr below ``root``.

    Args:
        root: An empty folder.
        novel_scale: Factor on skeletons and teacher features of the novel classes.
        failed: Samples on which the teacher failed.
        pending: Samples that it has not come to.
        trained: What the cache says about the teacher.
        label: What the names of all classes begin with.

    Returns:
        The cache.
    """
    draw = np.random.default_rng(1)
    samples, clips, features = [], [], []
    directions = np.random.default_rng(2).normal(size=(9, DIM))
    for class_id in (*BASE, *VALIDATION, *NOVEL):
        factor = novel_scale if class_id in NOVEL else 1.0
        for i in range(EACH):
            positions = factor * clip(class_id, draw)
            clips.append(positions)
            features.append(factor * (directions[class_id] + 0.3 * draw.normal(size=DIM)))
            samples.append(
                Sample(f"c{class_id}n{i}", class_id, f"{label} {class_id}", positions.shape[1])
            )
    manifest = Manifest("tiny", tuple(samples))
    manifest.write(root / "manifests" / "tiny.csv")
    attrs = {"dataset": "tiny", "manifest_sha256": manifest.sha256}
    store = root / "data" / "tiny.h5"
    with SkeletonStoreWriter(store, LAYOUT, clips[0].shape[2], attrs=attrs) as writer:
        for sample, positions in zip(samples, clips, strict=True):
            writer.append(sample.sample_id, Skeleton(positions))
    document = {
        "dataset": "tiny",
        "base": list(BASE),
        "validation": list(VALIDATION),
        "novel": list(NOVEL),
        "exemplars": {"1": {str(c): [f"c{c}n0"] for c in NOVEL}},
    }
    write_protocol(document, root / "manifests" / "protocols" / "tiny.json")
    write_cache(
        root / "cache" / "tiny.zarr",
        manifest,
        np.array(features),
        failed,
        pending,
        trained,
        directions[list(manifest.classes)],
    )
    return root / "cache" / "tiny.zarr"


def write_cache(
    path: Path,
    manifest: Manifest,
    features: np.ndarray,
    failed: tuple[str, ...],
    pending: tuple[str, ...],
    trained: bool,
    classes: np.ndarray | None = None,
    **more: Any,
) -> None:
    """Write a cache of f_v ``features`` and f_t, the same backwards, as are the ``classes``.

    ``more`` are further attributes.
    """
    provenance = {
        "dataset": manifest.name,
        "manifest_sha256": manifest.sha256,
        "teacher": {"name": "toy", "trained": trained},
        "preprocessing": {},
        "classes": [{"class_id": c, "label": n, "prompt": n} for c, n in manifest.classes.items()],
        **more,
    }
    settled = np.array([i for i, s in enumerate(manifest.ids) if s not in pending])
    status = np.array([2 if manifest.ids[i] in failed else 1 for i in settled], dtype=np.uint8)
    values = features[settled][:, None]
    text = None if classes is None else classes[:, ::-1]
    dim = features.shape[-1]
    with CacheWriter.create_or_resume(
        path, manifest.ids, dim=dim, provenance=provenance, class_text=text
    ) as cache:
        cache.write(settled, values, values[..., ::-1], status)
        cache.finish()
